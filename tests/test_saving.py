"""Saving from Python: the right ids, and enough to evaluate again."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import recae
from recae.errors import DataError
from recae.experiment.run import evaluate_stored
from recae.serving import load_bundle


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """Ratings of 60 users, half of them below 4."""
    lines = ["userId,movieId,rating"]
    lines += [
        f"{u},i{(u * 7 + i * i) % 19},{2 + (u + i) % 4}" for u in range(60) for i in range(12)
    ]
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_model_is_not_stored_with_the_ids_of_another_order(ratings: Path, tmp_path: Path) -> None:
    data = recae.read_interactions(ratings)
    splits = (recae.split(data, "mult-vae", held_out_users=10, seed=s) for s in range(100))
    split = next(s for s in splits if s.train.items != data.items)
    model = recae.EASE(l2=5).fit(split.train)
    assert model.n_items == data.n_items  # the count alone would not tell
    with pytest.raises(DataError, match="give the split it was fitted on"):
        recae.save(model, tmp_path / "m", data=data)
    recae.save(model, tmp_path / "m", data=data, split=split)
    assert recae.load(tmp_path / "m").n_items == data.n_items


def test_what_python_stored_can_be_evaluated(ratings: Path, tmp_path: Path) -> None:
    data = recae.read_interactions(ratings, min_rating=4)
    split = recae.split(data, "strong", rng=1)
    model = recae.EASE(l2=5).fit(split.train)
    recae.save(model, tmp_path / "m", data=data, split=split)
    report, _, _ = evaluate_stored(load_bundle(tmp_path / "m"), ratings, metrics=["recall@5"])
    assert (
        report["recall@5"].mean
        == recae.evaluate(model, split.test, metrics=["recall@5"])["recall@5"].mean
    )


def test_a_model_is_not_certified_by_a_split_it_learnt_from(ratings: Path, tmp_path: Path) -> None:
    data = recae.read_interactions(ratings)
    one, other = recae.split(data, "strong", rng=1), recae.split(data, "strong", rng=2)
    assert one.train.items == other.train.items  # the items would not tell
    model = recae.EASE(l2=5).fit(one.train)
    with pytest.raises(DataError, match="other interactions than the training part of split"):
        recae.save(model, tmp_path / "m", data=data, split=other)
    with pytest.raises(DataError, match="other interactions than data"):
        recae.save(model, tmp_path / "m", data=data)
    assert one.test is not None
    assert other.test is not None
    recae.evaluate(model, one.test, metrics=["recall@5"])  # a warning would be an error
    with pytest.warns(UserWarning, match="may have learnt what it is asked for"):
        recae.evaluate(model, other.test, metrics=["recall@5"])
    some = other.test.take(np.arange(3))
    with pytest.warns(UserWarning, match="may have learnt what it is asked for"):
        recae.evaluate(model, some, metrics=["recall@5"])
    model.fit(other.train, validation=other.validation)
    recae.evaluate(model, other.test, metrics=["recall@5"])


def test_a_model_that_is_fitted_anew_is_judged_by_its_new_split_alone(ratings: Path) -> None:
    data = recae.read_interactions(ratings)
    network = recae.MultDAE(latent_dim=4, epochs=1)
    for seed in (1, 2):  # it judges itself on validation users while it is fitted
        split = recae.split(data, "strong", rng=seed)
        network.fit(split.train, validation=split.validation)


_CHECKOUT = """
import importlib.metadata as metadata
import sys

found = metadata.distribution


def distribution(name):
    if name in ("recae", "implicit"):
        raise metadata.PackageNotFoundError(name)
    return found(name)


metadata.distribution = distribution
import recae
from recae.cli.main import cli

data = recae.sample()
split = recae.split(data, "strong", rng=1)
recae.save(recae.Popularity().fit(split.train), sys.argv[1], data=data, split=split)
assert len(recae.load(sys.argv[1]).recommend(user=data.users.ids_at([0])[0], k=5).items) == 5
cli(["--version"], standalone_mode=False)
cli(["doctor"], standalone_mode=False)
cli(["inspect", sys.argv[1]], standalone_mode=False)
"""


def test_a_checkout_that_is_not_installed_saves_loads_and_says_so(tmp_path: Path) -> None:
    script = [sys.executable, "-c", _CHECKOUT, str(tmp_path / "m")]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("recae 0+checkout\nrecae 0+checkout, Python")
    document = next((tmp_path / "m").glob("v-*/config.json")).read_text()
    assert '"recae": "0+checkout"' in document
