"""A model from outside the package: a name, `fit` and `scores`; the rest is inherited."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recae
from recae.errors import BundleError, ConfigError, RecaeError
from recae.models import registry
from recae.options import Options
from tests.outside import Together


@pytest.fixture(autouse=True)
def known():
    recae.register(Together)
    yield
    registry.unregister("together")


@pytest.fixture(scope="module")
def split() -> recae.Split:
    return recae.split(recae.sample(), "strong", rng=0)


def test_it_is_evaluated_saved_loaded_and_served(split: recae.Split, tmp_path: Path) -> None:
    model = Together().fit(split.train)
    table = recae.compare(["together", "popular"], split, metrics=["ndcg@100"])
    table.require_beat("popular")
    recae.save(model, tmp_path / "m", data=recae.sample(), split=split)
    films = recae.load(tmp_path / "m")
    user = recae.sample().users.ids_at([7])[0]
    listed = [item.item for item in films.recommend(user=user, k=5).items]
    histories = recae.sample().histories().take(np.array([7]))
    top = model.recommend(histories, k=5)
    assert listed == split.train.items.ids_at(top.items[0])
    dense = model.scores(histories)[0]
    dense[histories.matrix.indices] = -np.inf
    assert top.items[0].tolist() == np.argsort(-dense, kind="stable")[:5].tolist()


def test_the_command_line_imports_it(split: recae.Split, tmp_path: Path) -> None:
    recae.save(Together().fit(split.train), tmp_path / "m", data=recae.sample(), split=split)
    command = [sys.executable, "-m", "recae"]
    asked = ["recommend", str(tmp_path / "m"), "--history", "f0001", "-k", "3"]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [*command, "--import", "tests.outside_registered", *asked],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    alone = subprocess.run([*command, *asked], cwd=root, capture_output=True, text=True)
    assert alone.returncode == 4
    assert "together" in alone.stderr


def test_an_installed_package_names_its_models(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.unregister("together")
    point = EntryPoint("together", "tests.outside:Together", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    try:
        assert type(registry.create("together")) is Together
    finally:
        del registry.MODELS["together"]
        recae.register(Together)


def test_what_is_no_array_is_refused_by_name(split: recae.Split, tmp_path: Path) -> None:
    model = Together().fit(split.train)
    model.words = ["a"]  # type: ignore[attr-defined]  # as a fit might
    said = (
        r"Together\.words is of type list and cannot be saved; NumPy arrays of numbers and numbers"
    )
    with pytest.raises(ConfigError, match=said):
        recae.save(model, tmp_path / "m", data=recae.sample(), split=split)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (lambda h: h.matrix.toarray()[:, :3], "scores of shape"),
        (lambda h: h.matrix.toarray() * np.nan, "not finite"),
        (lambda h: [1, 2], "scores of type list"),
    ],
)
def test_scores_that_are_none_are_refused(scores: Any, said: str, split: recae.Split) -> None:
    model = Together().fit(split.train)
    model.scores = scores  # type: ignore[method-assign]
    with pytest.raises(RecaeError, match=said):
        model.recommend(recae.sample().histories().take(slice(0, 3)), k=2)


def test_what_cannot_be_registered_is_told() -> None:
    with pytest.raises(ConfigError, match="is not a subclass of recae.Recommender"):
        recae.register(dict)
    with pytest.raises(ConfigError, match="has no name: give the class one"):
        recae.register(type("Nameless", (Together,), {"name": ""}))
    with pytest.raises(ConfigError, match="there is a model 'ease' already"):
        recae.register(type("Mine", (Together,), {"name": "ease"}))
    with pytest.raises(ConfigError, match="Fitless has no fit: give the class one"):
        recae.register(type("Fitless", (recae.Recommender,), {"name": "fitless"}))
    bare = type("Bare", (Options,), {})
    for config, said in ((None, "Config is None; a class that"), (bare, "Bare is no dataclass")):
        with pytest.raises(ConfigError, match=said):
            recae.register(type("Mine", (Together,), {"name": "mine", "Config": config}))


class Least(recae.Recommender):
    """As little as a beginner writes: no options of fit, nothing returned, numbers kept."""

    name = "least"

    def __init__(self, shift: float = 0.5) -> None:
        self.shift = shift

    def fit(self, train):
        self.counts = np.bincount(train.matrix.indices, minlength=train.n_items)
        self.most = int(self.counts.max())

    def scores(self, histories):
        return np.tile(self.counts / self.most + self.shift, (len(histories), 1))


def test_the_least_a_model_says_is_compared_and_stored(split: recae.Split, tmp_path: Path) -> None:
    recae.register(Least)
    try:
        model = Least(0.25).fit(split.train)
        assert type(model) is Least
        top = recae.compare(["least", "popular"], split, metrics=["ndcg@100"]).entries
        assert top[0].summary("ndcg@100") == top[1].summary("ndcg@100")
        recae.save(model, tmp_path / "m", data=recae.sample(), split=split)
        loaded = recae.load(tmp_path / "m").bundle.model
        assert (loaded.shift, loaded.most) == (0.25, model.most)  # type: ignore[attr-defined]  # Least
        histories = split.test.fold_in  # type: ignore[union-attr]  # has one
        assert np.array_equal(loaded.score(histories), model.score(histories))
    finally:
        registry.unregister("least")


def test_mistakes_of_a_beginner_are_told(split: recae.Split, tmp_path: Path) -> None:
    class Odd(Least):
        def __init__(self, shift) -> None:
            self.shift = shift

    nameless, other = type("Nameless", (Least,), {"name": None}), Least()
    other.config = None
    assert repr(other) == "<Least(config=None), not fitted>"
    recae.register(Odd)
    try:
        asked = (
            (lambda: recae.EASE().fit(split.train, l2=5.0), "no argument 'l2'; .* EASE\\("),
            (lambda: Least().fit(split.train, epochs=5), "fit of least has no argument 'epochs'"),
            (lambda: Least().fit(split.train, resume=True), "resume needs checkpoint"),
            (lambda: nameless().fit(split.train), "Nameless has no name: give the class one"),
            (lambda: other.fit(split.train), "Least.config is None; an Options is accepted"),
            (
                lambda: recae.compare(["least"], split),
                "Odd is made by Odd\\(\\) where it is loaded",
            ),
            (lambda: recae.compare(["nope"], split), "one of yours is known by recae.register"),
            (
                lambda: recae.save(Least().fit(split.train), tmp_path / "m", data=split.train),
                "Least is not the registered model 'least'; recae.register the class",
            ),
        )
        for ask, said in asked:
            with pytest.raises(ConfigError, match=said):
                ask()
    finally:
        registry.unregister("least")


def test_a_directory_of_an_unknown_model_says_so(split: recae.Split, tmp_path: Path) -> None:
    recae.save(Together().fit(split.train), tmp_path / "m", data=recae.sample(), split=split)
    registry.unregister("together")
    with pytest.raises(BundleError, match="together"):
        recae.load(tmp_path / "m")
    recae.register(Together)
    version = next((tmp_path / "m").glob("v-*"))
    assert "tests" not in json.loads((version / "config.json").read_text())  # no code is named
