"""A validation part beside the test part it stands for."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.protocols import split
from recae.data.readers import read_interactions
from recae.data.split import HeldOut
from recae.data.synthetic import Synthetic
from recae.evaluation.parts import Dispersion, Part, PartsCompared, compare_parts, dispersion
from recae.experiment import RunConfig, compare
from recae.experiment.report import html
from recae.experiment.tune import prepare
from tests.frames import interactions_from


def matrix(rows: list[list[int]]) -> csr_array:
    return csr_array(np.array(rows, dtype=np.float32))


def test_a_dispersion_worked_out_by_hand() -> None:
    """Users draw 1 of 2, 1 of 4 and 2 of 3; one draws all she has and says nothing."""
    pool = matrix([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 1]])
    target = matrix([[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]])
    expected = np.array([1 / 2 + 1 / 4 + 2 / 3, 1 / 2 + 1 / 4, 1 / 4 + 2 / 3, 1 / 4 + 2 / 3 + 1])
    coins = np.array([1 / 4, 3 / 16, 2 / 9])
    variance = np.array([coins.sum(), coins[:2].sum(), coins[1:].sum(), coins[1:].sum()])
    terms = (np.array([2, 0, 1, 2]) - expected) ** 2 / variance
    found = dispersion(pool, target)
    assert found.items == 4
    assert found.value == pytest.approx(terms.mean(), rel=1e-12)
    fourth = coins * (1 - 6 * coins)
    fourth = np.array([fourth.sum(), fourth[:2].sum(), fourth[1:].sum(), fourth[1:].sum()])
    assert found.se == pytest.approx(np.sqrt((2 + fourth / variance**2).sum()) / 4, rel=1e-12)


def test_nothing_to_draw_has_no_dispersion() -> None:
    pool = matrix([[1, 0], [0, 1]])
    assert dispersion(pool, pool).items == 0
    assert np.isnan(dispersion(pool, pool).value)


def test_a_random_draw_has_mean_one_and_the_stated_error() -> None:
    """300 draws inside each of 200 users: mean 1 within its own error, spread as stated."""
    rng = np.random.default_rng(0)
    pool = csr_array((rng.random((200, 60)) < np.linspace(0.02, 0.6, 60)).astype(np.float32))
    wanted = np.maximum(1, np.diff(pool.indptr) // 4)
    rows = np.repeat(np.arange(200), np.diff(pool.indptr))
    found = []
    for _ in range(300):
        order = np.empty(pool.nnz, dtype=np.int64)
        order[np.lexsort((rng.random(pool.nnz), rows))] = np.arange(pool.nnz) - pool.indptr[rows]
        drawn = order < wanted[rows]
        target = csr_array(
            (np.ones(drawn.sum(), np.float32), (rows[drawn], pool.indices[drawn])), pool.shape
        )
        found.append(dispersion(pool, target))
    values = np.array([d.value for d in found])
    assert abs(values.mean() - 1) < 4 * values.std() / np.sqrt(300)
    assert found[0].se == pytest.approx(values.std(), rel=0.15)


def part(value: float, *, head: float = 0.33, shown: float = 20.0) -> Part:
    rest = (1 - head) / 2
    return Part(
        users=10,
        targets=30,
        dispersion=Dispersion(value, 0.01, 50),
        history=(5.0, shown, 40.0),
        targets_each=(1.0, 3.0, 5.0),
        popularity=(head, rest, rest),
    )


@pytest.mark.parametrize(
    ("validation", "test", "words"),
    [
        (None, None, "There is no test part"),
        (None, part(1.02), "look drawn at random"),
        (None, part(1.76), "were not drawn at random among each user's (a dispersion of 1.76"),
        (part(1.0), part(1.05), "nothing here speaks against choosing by it"),
        (part(1.7), part(1.76), "nothing here speaks against choosing by it"),
        (part(1.0), part(1.76), "drawn in different ways (dispersion 1.00 and 1.76,"),
        (part(1.0, head=0.1), part(1.0, head=0.3), "10% and 30% of their items are among the most"),
        (part(1.0, shown=20.0), part(1.0, shown=30.0), "users have 20 and 30 items, as a median"),
    ],
)
def test_the_sentence_says_what_was_found(
    validation: Part | None, test: Part | None, words: str
) -> None:
    assert words in str(PartsCompared(validation, test))


def test_the_pool_holds_what_was_excluded_and_all_counts_are_of_users_with_targets() -> None:
    held_out = HeldOut(
        fold_in=Histories(matrix([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])),
        target=matrix([[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]),
        users=IdMap(["a", "b", "c"]),
        exclude=Histories(matrix([[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]])),
    )
    train = interactions_from(pd.DataFrame({"user": list("pqrs"), "item": list("wxyz")}))
    test = compare_parts(train, None, held_out).test
    assert test is not None
    pool = matrix([[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 1]])
    assert test.dispersion == dispersion(pool, held_out.target)
    assert (test.users, test.targets, test.history[1]) == (2, 2, 1.5)
    assert sum(test.popularity) == pytest.approx(1)


@pytest.mark.parametrize("options", [{}, {"target_fraction": 0.5, "validation_fraction": 0.0}])
def test_a_random_cut_of_many_rare_items_looks_random(options: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    # half of the items belong to one or two people: most of those are lost if they are drawn
    rows = {(int(rng.integers(300)), int(4000 * rng.random() ** 4)) for _ in range(12_000)}
    data = interactions_from(pd.DataFrame(sorted(rows), columns=["user", "item"]).astype(str))
    counts = np.bincount(data.matrix.indices)
    assert np.median(counts) <= 2
    found = []
    for seed in range(24):
        made = split(data, "random", rng=seed, **options)
        test = compare_parts(made.train, made.validation, made.test).test
        assert test is not None
        found.append(test.dispersion)
    mean = np.mean([one.value for one in found])
    assert mean == pytest.approx(1, abs=4 * found[0].se / len(found) ** 0.5)
    assert found[0].items > 100


@pytest.mark.datasets
@pytest.mark.skipif("RECAE_DATASETS" not in os.environ, reason="RECAE_DATASETS is not set")
def test_the_published_gowalla_test_is_no_random_cut() -> None:
    file = Path(os.environ["RECAE_DATASETS"]) / "gowalla" / "interactions.parquet"
    made = split(read_interactions(file, split_col="split"), "column", validation_fraction=0.1)
    found = compare_parts(made.train, made.validation, made.test)
    assert found.validation is not None
    assert found.test is not None
    assert found.validation.dispersion.value == pytest.approx(1, abs=4 * 0.008)
    assert round(found.test.dispersion.value, 2) == 1.76
    assert "does not stand for the test part" in str(found)
    told = json.loads(json.dumps(found.to_json()))
    assert told["meaning"] == str(found)
    assert set(told["test"]["popularity"]) == {"head", "middle", "tail"}
    alone = compare_parts(made.train, None, made.test)
    assert "were not drawn at random" in str(alone)
    assert str(replace(alone, test=None)).startswith("There is no test part")


def test_tuning_and_comparisons_tell_how_the_parts_compare() -> None:
    data = Synthetic(n_users=120, n_items=40).interactions()
    config = RunConfig(protocol="random", metrics=("ndcg@10",))
    table = compare(["popular"], split(data, "random"), config=config, metrics=config.metrics)
    told = json.loads(json.dumps(table.to_json()))["parts"]
    assert told["validation"]["dispersion"]["items"] > 0
    assert told["meaning"] == str(table.parts()) == str(prepare(data, config).parts)
    page = html(table)
    assert "Does the validation part stand for the test part?" in page
    assert f"<p>{told['meaning']}</p>".replace("'", "&#39;") in page
