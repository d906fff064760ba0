"""Our lists under the definitions of RecBole and Cornac, transcribed user by user."""

# ruff: noqa: E402 - without the repository there is nothing to import

import doctest
import json
import os
from collections import Counter
from math import log, log2
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from scipy.stats import rankdata

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.split import HeldOut
from recae.errors import ConfigError
from recae.models.ease import EASE
from recae.models.popular import Popularity
from recae.ranking.recommender import Recommender
from tests.frames import interactions_from

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks").exists():
    pytest.skip("the benchmarks are not part of the package", allow_module_level=True)

from benchmarks import library_metrics
from benchmarks.library_metrics import CUTS, LIBRARIES, evaluate_like, exam

pytestmark = pytest.mark.checkout

N_ITEMS, N_USERS, UNTRAINED = 30, 41, 3
World = tuple[Recommender, HeldOut, np.ndarray]


@pytest.fixture(params=[EASE(l2=3.0), Popularity()], ids=lambda m: m.name)
def world(request: pytest.FixtureRequest) -> World:
    """Fitted model, held-out users (one without targets, some with unreachable ones), counts."""
    rng = np.random.default_rng(4)
    liked = rng.random((60, N_ITEMS)) < np.linspace(0.5, 0.06, N_ITEMS)
    liked[0] = True
    rows = [(f"t{u}", f"i{i:02}") for u, i in zip(*liked.nonzero(), strict=True)]
    model = request.param.fit(interactions_from(pd.DataFrame(rows, columns=["user", "item"])))
    kind = rng.choice(4, size=(N_USERS, N_ITEMS), p=[0.6, 0.2, 0.15, 0.05])
    kind[0][kind[0] == 2] = 0
    part = {n: csr_array(np.float32(kind == n)) for n in (1, 2, 3)}
    held_out = HeldOut(
        fold_in=Histories(part[1]),
        target=part[2],
        users=IdMap([str(u) for u in range(N_USERS)]),
        exclude=Histories(part[3]),
        unreachable=rng.integers(0, 3, N_USERS),
    )
    return model, held_out, liked.sum(axis=0)


def rankings(model: Recommender, held_out: HeldOut) -> tuple[list[list[int]], list[np.ndarray]]:
    """Full ranking of each user, and the scores in that order."""
    top = model.recommend(held_out.fold_in, k=N_ITEMS, exclude=held_out.exclude)
    there = top.items >= 0
    return (
        [row[keep].tolist() for row, keep in zip(top.items, there, strict=True)],
        [row[keep] for row, keep in zip(top.scores, there, strict=True)],
    )


@pytest.mark.parametrize("k", [1, 4, 10])
def test_recbole(world: World, k: int) -> None:
    model, held_out, popularity = world
    lists, _ = rankings(model, held_out)
    found = evaluate_like(
        model,
        held_out,
        "recbole",
        cutoffs=[10, k],
        popularity=popularity,
        untrained_items=UNTRAINED,
    )
    rows: dict[str, list[float]] = {}
    shown: Counter[int] = Counter()
    assert held_out.unreachable is not None
    users = 0
    for u, ranked in enumerate(lists):
        targets = set(held_out.target[[u]].indices.tolist())
        pos_len = len(targets) + int(held_out.unreachable[u])
        if not pos_len:
            continue
        users += 1
        pos = [item in targets for item in ranked[:k]]
        shown.update(ranked[:k])
        hits = np.cumsum(pos)
        first = next((1 / (i + 1) for i, p in enumerate(pos) if p), 0.0)
        ideal = sum(1 / log2(i + 2) for i in range(min(k, pos_len)))
        values = {
            "hit": float(hits[-1] > 0),
            "mrr": first,
            "recall": hits[-1] / pos_len,
            "precision": hits[-1] / k,
            "ndcg": sum(1 / log2(i + 2) for i, p in enumerate(pos) if p) / ideal,
            "map": sum(hits[i] / (i + 1) for i, p in enumerate(pos) if p) / min(k, pos_len),
            "averagepopularity": sum(popularity[i] for i in ranked[:k]) / k,
        }
        for name, value in values.items():
            rows.setdefault(name, []).append(value)
    for name, column in rows.items():
        assert found[f"{name}@{k}"] == pytest.approx(np.mean(column), abs=1e-12), name
    items = N_ITEMS + UNTRAINED + 1
    assert found[f"itemcoverage@{k}"] == len(shown) / items
    total = users * k
    entropy = sum(-c / total * log(c / total) for c in shown.values()) / len(shown)
    assert found[f"shannonentropy@{k}"] == pytest.approx(entropy, abs=1e-12)
    counts = np.array(sorted(shown.values()))
    index = np.arange(items - len(counts) + 1, items + 1)
    gini = ((2 * index - items - 1) * counts).sum() / total / items
    assert found[f"giniindex@{k}"] == pytest.approx(gini, abs=1e-12)
    assert found.users == users


@pytest.mark.parametrize("k", [1, 4, 100])
def test_cornac(world: World, k: int) -> None:
    model, held_out, popularity = world
    lists, scores = rankings(model, held_out)
    found = evaluate_like(model, held_out, "cornac", cutoffs=[k], popularity=popularity)
    rows: dict[str, list[float]] = {}
    for u, (ranked, score) in enumerate(zip(lists, scores, strict=True)):
        targets = held_out.target[[u]].indices
        if not len(targets):
            continue
        relevant = np.isin(ranked, targets)
        first = relevant[:k]
        tp = first.sum()
        precision, recall = tp / k, tp / len(targets)
        ranks = np.flatnonzero(first) + 1
        ideal = np.arange(min(len(targets), len(first))) + 1
        pairs = score[relevant][:, None] > score[~relevant][None, :]
        values = {
            f"Recall@{k}": recall,
            f"Precision@{k}": precision,
            f"F1@{k}": 2 * precision * recall / (precision + recall) if tp else 0.0,
            f"HitRatio@{k}": float(tp > 0),
            f"NDCG@{k}": (1 / np.log2(ranks + 1)).sum()
            / (1 / np.log2(np.arange(min(k, len(targets))) + 2)).sum(),
            f"NCRR@{k}": (1 / ranks).sum() / (1 / ideal).sum(),
            "MRR": 1 / (relevant.argmax() + 1),
            "MAP": (rankdata(-score[relevant], "max") / rankdata(-score, "max")[relevant]).mean(),
            "AUC": pairs.mean(),
        }
        for name, value in values.items():
            rows.setdefault(name, []).append(float(value))
    for name, column in rows.items():
        assert found[name] == pytest.approx(np.mean(column), abs=1e-12), name
    assert len(found.figures) == len(rows)


def test_what_is_refused(world: World) -> None:
    model, held_out, popularity = world
    with pytest.raises(ConfigError, match="no library 'surprise'; there are recbole, cornac"):
        evaluate_like(
            model,
            held_out,
            "surprise",
            cutoffs=[1],
            popularity=popularity,
        )
    with pytest.raises(ConfigError, match=r"cutoffs are \[\]"):
        evaluate_like(model, held_out, "cornac", cutoffs=[], popularity=popularity)
    found = evaluate_like(model, held_out, "recbole", cutoffs=[5], popularity=popularity)
    with pytest.raises(ConfigError, match="recbole has no figure 'recall@6'"):
        found["recall@6"]


def test_the_example_in_its_docstring_is_true() -> None:
    failed, attempted = doctest.testmod(library_metrics)
    assert not failed
    assert attempted


@pytest.mark.slow
@pytest.mark.datasets
@pytest.mark.skipif("RECAE_DATASETS" not in os.environ, reason="RECAE_DATASETS is not set")
def test_the_figures_are_those_that_the_libraries_found() -> None:
    """`benchmarks/like.py` asked both libraries; what they found is in its results."""
    proved = json.loads((ROOT / "benchmarks" / "results" / "like.json").read_text())
    split, models = exam(Path(os.environ["RECAE_DATASETS"]) / "ml-1m" / "interactions.parquet")
    assert split.fingerprint == proved["data"]
    assert split.test is not None
    counts = np.bincount(split.train.matrix.indices, minlength=split.train.n_items)
    found = {}
    for model in models:
        model.fit(split.train)
        for library in LIBRARIES:
            found[model.name, library] = evaluate_like(
                model,
                split.test,
                library,
                cutoffs=CUTS,
                popularity=counts,
                untrained_items=split.notes["items_never_trained"],
            )
    assert len(proved["figures"]) > 50
    for row in proved["figures"]:
        ours = found[row["model"], row["library"]][row["figure"]]
        assert ours == pytest.approx(row["theirs"], abs=1e-9), row
