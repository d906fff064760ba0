"""`tune`: equal budgets, resumed searches, and a test part that nobody looks at."""

import json
import sys
import tomllib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recae.cli.main import run as run_command
from recae.data.interactions import Interactions
from recae.data.protocols import split
from recae.data.protocols.redraw import redraw
from recae.errors import ConfigError, DivergedError, ResourceError
from recae.evaluation.evaluator import evaluate
from recae.experiment.config import RunConfig, load_config
from recae.experiment.config_file import config_text
from recae.experiment.spaces import space_of
from recae.experiment.study import ModelStudy
from recae.experiment.tune import prepare, tune
from recae.models.registry import MODELS, create
from recae.options import Choice, Range
from recae.training.config import TrainingConfig
from recae.training.trainer import Trainer
from tests.frames import interactions_from

SMALL_VAE = {"hidden": [8], "latent_dim": 4, "epochs": 3, "ema_decay": 0.9}


def frame(n_users: int = 90) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"m{item}")
        for user in range(n_users)
        for item in rng.choice(np.arange(20) + 20 * (user % 2), size=8, replace=False)
    ]
    return pd.DataFrame(rows, columns=["user", "item"])


@pytest.fixture(scope="module")
def data() -> Interactions:
    """90 people of two tastes, 40 items."""
    return interactions_from(frame())


@pytest.fixture(scope="module")
def published() -> Interactions:
    """The same with a split column that has no validation part."""
    rows = frame(40)
    rows["part"] = np.where(np.arange(len(rows)) % 8 < 6, 0, 2).astype(np.int8)
    return interactions_from(rows)


def url(path: Path) -> str:
    return f"sqlite:///{path / 'study.db'}"


def test_every_model_has_a_space_that_holds_its_defaults() -> None:
    for name in MODELS:
        space = space_of(name)
        default = create(name).config
        if isinstance(default, TrainingConfig):  # for catalogues of usual size
            default = default.for_items(1000)
        known = {f.name: getattr(default, f.name) for f in fields(default)}
        assert set(space.options) <= set(known), name
        first = {k: list(v) if isinstance(v, tuple) else v for k, v in space.first.items()}
        assert create(name, first).config == default, name
        assert set(space.first) == set(space.options) - set(space.only_with), name
        for option, bounds in space.options.items():
            value = space.first.get(option, known[option])
            if isinstance(bounds, Choice):
                assert value in bounds.values, (name, option)
                assert all(v is not None or known[option] is None for v in bounds.values)
            else:
                assert bounds.low <= value <= bounds.high, (name, option)
                assert bounds.whole == isinstance(known[option], int), (name, option)


_TRAINED = {
    "learning_rate": "0.0002 to 0.005 (real, log)",
    "dropout": "0.1 to 0.8 (real)",
    "latent_dim": "50 to 400 (int, log)",
    "hidden": "() | (200,) | (600,) | (1000,)",
    "ema_decay": "none | 0.99 | 0.995 | 0.999",
}
SPACES = {  # searches whose results are published were made in these
    "popular": {},
    "random": {},
    "item-knn": {
        "k_neighbours": "5 to 1000 (int, log)",
        "similarity": "cosine | tf-idf | bm25",
        "bm25_k1": "0.1 to 100 (real, log)",
        "bm25_b": "0 to 1 (real)",
    },
    "als": {
        "factors": "16 to 512 (int, log)",
        "regularization": "0.01 to 1000 (real, log)",
        "alpha": "1.5 to 100 (real, log)",
        "iterations": "5 to 40 (int)",
    },
    "bpr": {
        "factors": "32 to 256 (int, log)",
        "learning_rate": "0.005 to 0.2 (real, log)",
        "regularization": "0.001 to 0.05 (real, log)",
        "iterations": "40 to 200 (int, log)",
        "ridge": "0.003 to 0.1 (real, log)",
        "popularity": "0.25 to 1 (real)",
    },
    "gf-cf": {"n_vectors": "16 to 512 (int, log)", "alpha": "0 to 2 (real)"},
    "ease": {"l2": "1 to 20000 (real, log)"},
    "mult-dae": _TRAINED | {"weight_decay": "1e-07 to 0.001 (real, log)"},
    "mult-vae": _TRAINED | {"beta_cap": "0.02 to 1 (real, log)"},
}


@pytest.mark.parametrize("name", SPACES)
def test_spaces_are_those_of_the_published_searches(name: str) -> None:
    assert space_of(name).to_json() == SPACES[name]


def test_an_option_given_leaves_the_space_and_what_hangs_on_it_follows() -> None:
    assert list(space_of("item-knn", {"similarity": "cosine"}).options) == ["k_neighbours"]
    kept = space_of("item-knn", {"similarity": "bm25"})
    assert list(kept.options) == ["k_neighbours", "bm25_k1", "bm25_b"]
    assert kept.only_with == {}
    assert str(Range(1, 10, log=True)) == "1 to 10 (int, log)"
    with pytest.raises(ConfigError, match="there is no model 'nobody'"):
        space_of("nobody")


def test_models_get_equal_budgets_and_start_with_their_defaults(data: Interactions) -> None:
    tuning = tune(prepare(data, RunConfig()), ["ease", "item-knn", "popular"], trials=4)
    found = {t.best.model: t for t in tuning.models}
    assert {name: len(t.trials) for name, t in found.items()} == {
        "ease": 4, "item-knn": 4, "popular": 1,
    }  # fmt: skip
    assert found["popular"].space.size == 0
    assert found["ease"].trials[0].options == {"l2": 500.0}
    assert len({t.options["l2"] for t in found["ease"].trials}) == 4
    for tuned in tuning.models:
        assert tuned.best.score == max(t.score for t in tuned.trials)
    scores = [t.best.score for t in tuning.models]
    assert scores == sorted(scores, reverse=True)
    assert tuning.config.model == tuning.models[0].best.model
    assert tuning.config.options("ease") == found["ease"].best.options
    assert "item-knn" in str(tuning)


def test_a_score_is_that_of_the_validation_part(data: Interactions) -> None:
    material = prepare(data, RunConfig(metrics=("recall@20",)))
    tuning = tune(material, ["ease"], trials=1)
    parts = split(data)
    model = create("ease", {"l2": 500.0}).fit(parts.train)
    expected = evaluate(model, parts.validation, metrics=("recall@20",))["recall@20"].mean
    assert tuning.models[0].best.score == expected


def test_a_stopped_study_goes_on_as_if_it_had_not_been(data: Interactions, tmp_path: Path) -> None:
    material = prepare(data, RunConfig())
    whole = tune(material, ["ease", "item-knn"], trials=14)
    seen = []

    class Stop(Exception):
        pass

    def stop(trial) -> None:
        seen.append(trial)
        if len(seen) == 11:  # in the middle of a round
            raise Stop

    with pytest.raises(Stop):
        tune(material, ["ease", "item-knn"], trials=14, storage=url(tmp_path), on_trial=stop)
    rest = []
    tuning = tune(
        material, ["ease", "item-knn"], trials=14, storage=url(tmp_path), on_trial=rest.append
    )
    assert len(seen) + len(rest) == 28
    assert [(t.model, t.number) for t in rest[:2]] == [("item-knn", 6), ("ease", 7)]
    for one, other in zip(tuning.models, whole.models, strict=True):
        assert [t.options for t in one.trials] == [t.options for t in other.trials]
        assert [t.score for t in one.trials] == [t.score for t in other.trials]
    ease = [t.options["l2"] for t in seen + rest if t.model == "ease"]
    assert len(set(ease)) == len(ease)
    more = []
    tune(material, ["ease"], trials=14, storage=url(tmp_path), on_trial=more.append)
    assert more == []


def test_a_trial_killed_in_its_fit_is_made_again(
    data: Interactions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = prepare(data, RunConfig())
    fit, tried = ModelStudy._fit, []

    def killed(self, drawn, options, number):
        tried.append(options)
        if len(tried) == 13:  # after the ten that are drawn without looking at those before
            raise KeyboardInterrupt
        return fit(self, drawn, options, number)

    monkeypatch.setattr(ModelStudy, "_fit", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(material, ["ease"], trials=14, storage=url(tmp_path))
    tuning = tune(material, ["ease"], trials=14, storage=url(tmp_path))
    assert tried[13] == tried[12]
    assert [t.number for t in tuning.models[0].trials] == list(range(1, 15))


def test_a_setting_that_comes_again_is_not_fitted_again(
    data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "recae.experiment.tune.space_of",
        lambda name, fixed: replace(
            space_of(name), options={"l2": Range(3.0, 3.0)}, first={"l2": 3.0}
        ),
    )
    fitted = []
    fit = ModelStudy._fit
    monkeypatch.setattr(
        ModelStudy, "_fit", lambda self, *rest: fitted.append(1) or fit(self, *rest)
    )
    trials = tune(prepare(data, RunConfig()), ["ease"], trials=3).models[0].trials
    assert len(fitted) == 1
    assert len(trials) == 3
    assert len({t.score for t in trials}) == 1


def test_other_data_or_settings_do_not_go_on_with_a_study(
    data: Interactions, tmp_path: Path
) -> None:
    tune(prepare(data, RunConfig()), ["ease"], trials=1, storage=url(tmp_path))
    other = prepare(interactions_from(frame(60)), RunConfig())
    with pytest.raises(ConfigError, match="another training part, validation part"):
        tune(other, ["ease"], trials=1, storage=url(tmp_path))
    metric = prepare(data, RunConfig(metrics=("recall@5",)))
    with pytest.raises(ConfigError, match="another metric"):
        tune(metric, ["ease"], trials=1, storage=url(tmp_path))


def test_a_training_below_the_median_is_given_up(
    data: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are dictated: after two good trials a bad one ends at the first epoch it may."""
    dictated = iter([0.9] * 3 + [0.8] * 3 + [0.1] * 3 + [0.95] * 3)
    asked = []
    run = Trainer.fit

    def fit(self, network, rows, *, validate, **rest):
        def score() -> float:
            validate()
            asked.append(1)
            return next(dictated)

        return run(self, network, rows, validate=score, **rest)

    monkeypatch.setattr(Trainer, "fit", fit)
    config = RunConfig(models={"mult-vae": SMALL_VAE})
    tuning = tune(
        prepare(data, config), ["mult-vae"], trials=3, prune_after_trials=2, prune_after_epochs=2
    )
    trials = tuning.models[0].trials
    assert [t.outcome for t in trials] == ["complete", "complete", "pruned"]
    assert trials[2].score is None
    assert tuning.models[0].count("pruned") == 1
    assert len(asked) == 3 + 3 + 2
    assert tuning.models[0].best.options["validation_metric"] == "ndcg@100"


def test_divergence_is_an_outcome_and_no_score(data: Interactions) -> None:
    wild = RunConfig(models={"mult-vae": {**SMALL_VAE, "learning_rate": 1e35}})
    with pytest.raises(DivergedError, match="all 2 trials of mult-vae diverged"):
        tune(prepare(data, wild), ["mult-vae"], trials=2)


def test_time_ends_a_search_between_rounds(data: Interactions) -> None:
    tuning = tune(prepare(data, RunConfig()), ["ease", "item-knn"], trials=9, timeout_s=1e-9)
    assert [len(t.trials) for t in tuning.models] == [1, 1]


def test_draws_are_of_the_same_people_and_of_other_items(data: Interactions) -> None:
    parts = split(data)
    held = parts.validation
    draws = redraw(held, parts.train, draws=3)
    both = (held.fold_in.matrix + held.target).toarray()
    targets = [held.target.toarray()]
    for draw in draws:
        assert draw.users == held.users
        np.testing.assert_array_equal((draw.fold_in.matrix + draw.target).toarray(), both)
        np.testing.assert_array_equal(np.diff(draw.target.indptr), np.diff(held.target.indptr))
        assert not any((draw.target.toarray() == other).all() for other in targets)
        targets.append(draw.target.toarray())
    again = redraw(held, parts.train, draws=1)[0]
    np.testing.assert_array_equal(again.target.toarray(), draws[0].target.toarray())


def test_a_draw_depends_on_ids_and_not_on_the_order_of_rows() -> None:
    def pairs(rows: pd.DataFrame) -> set[tuple[str, str]]:
        parts = split(interactions_from(rows))
        drawn = redraw(parts.validation, parts.train, draws=1)[0].target.tocoo()
        users = parts.validation.users.ids_at(drawn.coords[0].tolist())
        return set(zip(users, parts.train.items.ids_at(drawn.coords[1].tolist()), strict=True))

    rows = frame()
    assert pairs(rows) == pairs(rows.sample(frac=1.0, random_state=3).reset_index(drop=True))


def test_a_score_is_the_mean_over_draws(data: Interactions) -> None:
    tuning = tune(prepare(data, RunConfig()), ["ease"], trials=1, draws=3)
    parts = split(data)
    model = create("ease").fit(parts.train)
    each = [parts.validation, *redraw(parts.validation, parts.train, draws=2)]
    scores = [evaluate(model, part, metrics=("ndcg@100",))["ndcg@100"].mean for part in each]
    assert len(set(scores)) > 1
    assert tuning.models[0].best.score == pytest.approx(np.mean(scores))
    assert tuning.to_json()["validation_draws"] == 3


def test_draws_of_training_users_are_refused(published: Interactions) -> None:
    material = prepare(published, RunConfig(protocol="column"))
    with pytest.raises(ConfigError, match="40 of 40 held-out users are training users"):
        tune(material, ["ease"], trials=1, draws=2)


def test_a_split_without_validation_is_cut_to_tune_and_trained_whole(
    published: Interactions,
) -> None:
    config = RunConfig(protocol="column", models={"mult-vae": SMALL_VAE})
    material = prepare(published, config)
    whole = split(published, "column")
    assert material.cut
    assert material.train.matrix.nnz == whole.train.matrix.nnz - 40  # one of each user's six
    assert material.validation.target.nnz == 40
    assert material.final.split == {}
    assert prepare(
        published, replace(config, split={"validation_fraction": 0.5})
    ).validation.target.nnz == 120  # fmt: skip
    tuning = tune(material, ["mult-vae"], trials=2)
    final = tuning.config.options("mult-vae")
    assert final["epochs"] == tuning.models[0].best.epochs
    assert final["anneal_epochs"] == 2.0  # three quarters of the planned six steps, two an epoch


def test_what_is_not_accepted_is_refused_before_the_first_trial(
    data: Interactions, tmp_path: Path
) -> None:
    material = prepare(data, RunConfig())
    for arguments, message in (
        ({"models": ["ease", "ease"]}, "each once"),
        ({"trials": 0}, "trials is 0"),
        ({"draws": 0}, "draws is 0"),
        ({"timeout_s": 0.0}, "timeout_s is 0"),
        ({"storage": "redis://here"}, "sqlite:///PATH is accepted"),
    ):
        with pytest.raises(ConfigError, match=message):
            tune(material, **{"models": ["ease"], "trials": 1, **arguments})
    with pytest.raises(ResourceError, match="storage .* failed"):
        tune(material, ["ease"], trials=1, storage=f"sqlite:///{tmp_path}/none/study.db")
    timed = interactions_from(frame().assign(time=np.arange(720)))
    with pytest.raises(ConfigError, match="no validation part"):
        prepare(timed, RunConfig(protocol="leave-last", split={"validation": False}))
    wrong = RunConfig(models={"ease": {"l2": -1.0}})
    with pytest.raises(ConfigError, match="l2 is -1"):
        tune(prepare(data, wrong), ["ease"], trials=1)
    with pytest.raises(ConfigError, match="coverage@10 is not about what was held out"):
        tune(prepare(data, RunConfig(metrics=("coverage@10",))), ["ease"], trials=1)


def test_a_config_file_gives_its_config_again(tmp_path: Path) -> None:
    config = RunConfig(
        model="mult-vae",
        protocol="column",
        metrics=("recall@20",),
        read={"sep": "\t", "min_rating": 1e-5, "header": False, "user_col": 'a "b" \x7f é'},
        split={"validation_fraction": 0.1},
        models={"mult-vae": {"hidden": [600, 200], "epochs": 5}, "ease": {"l2": 1e22}},
    )
    (tmp_path / "run.toml").write_text(config_text(config))
    assert load_config(tmp_path / "run.toml") == config


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def _call(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run_command([str(a) for a in arguments], debug=False)
        return code, *capfd.readouterr()

    return _call


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "plays.csv"
    frame().rename(columns={"user": "userId", "item": "movieId"}).to_csv(path, index=False)
    return path


VAE_FLAGS = [f"--set=mult-vae.{k}={json.dumps(v)}" for k, v in SMALL_VAE.items()]


def test_the_command_writes_a_run_that_trains(run, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    code, text, err = run(
        "tune", file, "--models", "ease,mult-vae", "--trials", 2, "-o", out, *VAE_FLAGS, "--json"
    )
    assert code == 0, err
    assert err.count("/2 ") == 4
    result = json.loads(text)
    assert {m["trials"] for m in result["models"].values()} == {2}
    assert "test" not in result
    assert json.loads((out / "tune.json").read_text()) == result
    best = tomllib.loads((out / "best.toml").read_text())
    assert best["model"] == result["winner"]
    for name in ("ease", "mult-vae"):
        code, text, err = run(
            "train", file, "-o", tmp_path / name, "--config", out / "best.toml", "--json",
            "--set", f"model={name}",
        )  # fmt: skip
        assert code == 0, err
        figure = json.loads(text)["validation"]["metrics"]["ndcg@100"]["mean"]
        assert figure == pytest.approx(result["models"][name]["validation"])
    code, text, err = run("evaluate", out / "model", file)
    assert code == 0, err
    code, text, err = run(
        "tune", file, "--models", "ease,mult-vae", "--trials", 3, "-o", out, *VAE_FLAGS
    )
    assert code == 0, err
    assert err.count("3/3 ") == 2
    assert "2/3 " not in err
    assert "validation ndcg@100" in text


@pytest.mark.parametrize("judge", [False, True])
def test_the_test_part_is_judged_once_if_asked_and_else_not(
    run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: bool
) -> None:
    asked = []

    def spy(model, held_out, **rest):
        asked.append(held_out.users)
        return evaluate(model, held_out, **rest)

    for module in (
        "recae.models.autoencoder",
        "recae.experiment.study",
        "recae.experiment.run",
        "recae.evaluation.evaluator",
    ):
        monkeypatch.setattr(f"{module}.evaluate", spy)
    code, text, err = run(
        "tune", file, "--models", "ease,mult-vae", "--trials", 2, "-o", tmp_path, *VAE_FLAGS,
        "--json", *(["--test"] if judge else []),
    )  # fmt: skip
    assert code == 0, err
    parts = split(interactions_from(frame()))
    assert asked.count(parts.validation.users) >= 2 + 2 * 4
    assert asked.count(parts.test.users) == judge
    assert len(asked) == asked.count(parts.validation.users) + judge
    result = json.loads(text)
    assert ("test" in result) == judge
    if judge:
        best = load_config(tmp_path / "best.toml")
        model = create(best.model, {**best.options(best.model)}).fit(
            parts.train, validation=parts.validation
        )
        again = evaluate(model, parts.test, metrics=("ndcg@100",))["ndcg@100"].mean
        assert result["test"]["metrics"]["ndcg@100"]["mean"] == pytest.approx(again)


def test_a_missing_optuna_is_named_with_its_cure(
    run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, out, err = run("tune", file)
    assert (code, out) == (2, "")
    assert "pip install recae[tune]" in err


def test_two_searches_do_not_share_a_directory(run, file: Path, tmp_path: Path) -> None:
    from recae.storage import directory_lock

    with directory_lock(tmp_path):
        code, out, err = run("tune", file, "--models", "ease", "-o", tmp_path)
    assert (code, out) == (6, "")


def test_no_test_part_is_said_before_the_first_trial(run, file: Path) -> None:
    code, out, err = run("tune", file, "--protocol", "all", "--test")
    assert (code, out) == (2, "")
    assert "has no test part" in err
    assert "1/20" not in err


def test_trials_can_be_judged_on_some_of_the_validation_users(data: Interactions) -> None:
    every = prepare(data, RunConfig()).validation
    some = prepare(data, RunConfig(), validation_users=4).validation
    assert len(some) == 4
    assert set(some.users.to_arrow().to_pylist()) <= set(every.users.to_arrow().to_pylist())
    assert np.diff(some.target.indptr).min() > 0
    for row, user in enumerate(some.users.to_arrow().to_pylist()):
        there = every.users.to_arrow().to_pylist().index(user)
        for mine, theirs in (
            (some.target, every.target),
            (some.fold_in.matrix, every.fold_in.matrix),
        ):
            assert (mine[[row]] != theirs[[there]]).nnz == 0
    again = prepare(data, RunConfig(), validation_users=4).validation
    other = prepare(data, RunConfig(seed=1), validation_users=4).validation
    assert again.users == some.users != other.users
    assert len(prepare(data, RunConfig(), validation_users=999).validation) == len(every)
    with pytest.raises(ConfigError, match="validation_users is 0; at least 1"):
        prepare(data, RunConfig(), validation_users=0)
