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
    with pytest.raises(ConfigError, match=r"Together\.words is of type list and cannot be saved"):
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


def test_a_directory_of_an_unknown_model_says_so(split: recae.Split, tmp_path: Path) -> None:
    recae.save(Together().fit(split.train), tmp_path / "m", data=recae.sample(), split=split)
    registry.unregister("together")
    with pytest.raises(BundleError, match="together"):
        recae.load(tmp_path / "m")
    recae.register(Together)
    version = next((tmp_path / "m").glob("v-*"))
    assert "tests" not in json.loads((version / "config.json").read_text())  # no code is named
