"""`evaluate` and `Report`, asked of a small linear model whose lists can be redone by hand."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from scipy import stats
from scipy.sparse import csr_array

import recae
from recae.data.histories import Histories, canonical_csr
from recae.data.ids import IdMap
from recae.data.split import HeldOut
from recae.errors import ConfigError, DataError
from recae.evaluation.evaluator import evaluate, fingerprint
from recae.evaluation.names import ACCEPTED, DEFAULT_METRICS, parse_metric
from recae.evaluation.report import summarise, write_per_user
from recae.evaluation.segments import history_lengths, popularity_groups
from recae.evaluation.significance import compare_reports
from recae.options import Options
from recae.ranking.recommender import Recommender
from tests.frames import interactions_from

TRAIN = csr_array(np.float32(np.random.default_rng(9).random((50, 30)) < 0.2))
EVERY = [name.replace("@K", "@5") for name in ACCEPTED[:9]]
EVERY_METRIC = [name.replace("@K", "@5") for name in ACCEPTED]


@final
class Sums:
    """Scores that are sums of whole weights: exact in float32, whatever the order."""

    def __init__(self, scores):
        self.scores = scores

    def blocks(self):
        for start in range(0, self.scores.shape[1], 7):
            block = slice(start, min(start + 7, self.scores.shape[1]))
            yield block, torch.from_numpy(self.scores[:, block].copy())

    def exact(self, rows, items):
        return self.scores[rows, items]

    def error_bound(self):
        return np.zeros(len(self.scores))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LinearConfig(Options):
    """No options."""


@final
class Linear(Recommender):
    """Scores are ``history @ weights + bias``, all whole numbers: many ties."""

    name = "linear"

    def __init__(self, weights, bias):
        self.config, self.weights, self.bias = LinearConfig(), weights, bias

    @property
    def n_items(self):
        return len(self.bias)

    def fit(self, train, *, validation=None, checkpoint=None, resume=False):
        return self

    def scorer(self, histories):
        return Sums((histories.matrix @ self.weights + self.bias).astype(np.float32))

    def arrays(self):
        return {"weights": self.weights, "bias": self.bias}

    @classmethod
    def from_arrays(cls, config: Any, arrays: Mapping[str, np.ndarray]):
        return cls(arrays["weights"], arrays["bias"])


def by_bias(bias):
    return Linear(np.zeros((len(bias), len(bias)), dtype=np.float32), np.float32(bias))


def held(fold_in, target, n_items, **options):
    def matrix(rows):
        return Histories.from_lists(rows, n_items=n_items).matrix

    return HeldOut(
        fold_in=Histories(matrix(fold_in)),
        target=matrix(target),
        users=IdMap([f"u{u}" for u in range(len(fold_in))]),
        **options,
    )


@pytest.fixture
def world():
    """37 users, 30 items: ties, values, users without targets, nearly exhausted catalogues."""
    rng = np.random.default_rng(4)
    n_users, n_items = 37, 30
    kind = rng.choice(4, size=(n_users, n_items), p=[0.55, 0.25, 0.15, 0.05])
    kind[3, kind[3] == 2] = 0  # nobody's targets
    kind[5] = np.where(np.arange(n_items) < 27, 1, 2)  # three items left, all targets
    kind[6, :] = 1  # nothing left
    values = rng.integers(1, 4, size=kind.shape)
    held_out = HeldOut(
        fold_in=Histories(canonical_csr(csr_array(np.float32(kind == 1)))),
        target=canonical_csr(csr_array(np.float32((kind == 2) * values))),
        users=IdMap([f"u{u}" for u in range(n_users)]),
        exclude=Histories(canonical_csr(csr_array(np.float32(kind == 3)))),
        unreachable=rng.integers(0, 3, size=n_users),
    )
    weights = rng.integers(-2, 3, size=(n_items, n_items)).astype(np.float32)
    model = Linear(weights, rng.integers(0, 4, size=n_items).astype(np.float32))
    return model, held_out, rng.integers(1, 50, size=n_items)


def permuted(held_out, order):
    return HeldOut(
        fold_in=held_out.fold_in.take(order),
        target=Histories(held_out.target).take(order).matrix,
        users=held_out.users.take(order),
        exclude=held_out.exclude.take(order),
        unreachable=held_out.unreachable[order],
    )


def test_a_case_by_hand():
    # Everybody's order is 0 1 2 3 4 5, less the fold-in.
    model = by_bias([6, 5, 4, 3, 2, 1])
    held_out = held([[0], [1, 2], [], [5]], [[1, 4], [3], [5], []], 6)
    report = evaluate(model, held_out, metrics=["recall@2", "recall-all@1", "mrr@3", "coverage@2"])
    nan = math.nan
    # Lists: 1 2 3.. / 0 3 4.. / 0 1 2.. / 0 1 2..
    np.testing.assert_array_equal(report.per_user["recall@2"], [1 / 2, 1, 0, nan])
    np.testing.assert_array_equal(report.per_user["recall-all@1"], [1 / 2, 0, 0, nan])
    np.testing.assert_array_equal(report.per_user["mrr@3"], [1, 1 / 2, 0, nan])
    assert report.catalogue == {"coverage@2": 4 / 6}
    assert (report.n_users, report.n_skipped, report["recall@2"].n) == (4, 1, 3)
    assert report["recall@2"].mean == 0.5
    assert report["recall@2"].se == pytest.approx(math.sqrt((0 + 0.25 + 0.25) / 3) / math.sqrt(3))
    assert report["coverage@2"].se is None
    figures = "recall@2 0.5000, recall-all@1 0.1667, mrr@3 0.5000, coverage@2 0.6667"
    assert repr(report) == f"Report(linear: 4 users, {figures})"
    assert repr(held_out) == "HeldOut(4 users x 6 items, 4 targets)"
    assert repr(held_out.fold_in) == "Histories(4 users x 6 items, 4 interactions)"


def test_the_lists_are_those_people_get(world):
    model, held_out, _ = world
    report = evaluate(model, held_out, metrics=["hit@5", "recall-all@5"])
    top = model.recommend(held_out.fold_in, k=5, exclude=held_out.exclude).items
    wanted = held_out.target.toarray() > 0
    for u in range(len(held_out)):
        hits = sum(bool(wanted[u, item]) for item in top[u] if item >= 0)
        if not wanted[u].any():
            assert np.isnan(report.per_user["hit@5"][u])
            continue
        assert report.per_user["hit@5"][u] == float(hits > 0)
        assert report.per_user["recall-all@5"][u] == hits / wanted[u].sum()


def test_nothing_depends_on_the_batch_size(world):
    model, held_out, popularity = world
    reports = [
        evaluate(
            model,
            held_out,
            metrics=EVERY_METRIC,
            batch_size=size,
            popularity=popularity,
            train=TRAIN,
            by=("history", "popularity"),
        )
        for size in (1, 5, 37, 1024)
    ]
    first = reports[-1]
    for report in reports[:-1]:
        assert report.to_json() == first.to_json()
        for name, values in first.per_user.items():
            np.testing.assert_array_equal(report.per_user[name], values)


def test_shuffled_users_shuffle_rows_and_change_no_figure(world):
    model, held_out, popularity = world
    order = np.random.default_rng(1).permutation(len(held_out))
    options = {
        "metrics": EVERY_METRIC,
        "popularity": popularity,
        "train": TRAIN,
        "by": ("history", "popularity"),
    }
    report = evaluate(model, held_out, **options)
    shuffled = evaluate(model, permuted(held_out, order), **options)
    for name, values in report.per_user.items():
        np.testing.assert_array_equal(shuffled.per_user[name], values[order])
        assert shuffled[name] == report[name]
        assert shuffled.interval(name) == report.interval(name)
    ours, theirs = report.to_json(), shuffled.to_json()
    assert ours.pop("fingerprint") != theirs.pop("fingerprint")
    assert ours == theirs


def test_every_metric_of_a_longer_list_ignores_the_rest(world):
    """A cut-off's value does not depend on the other metrics asked for."""
    model, held_out, popularity = world
    together = evaluate(
        model, held_out, metrics=[*EVERY_METRIC, "recall@29"], popularity=popularity, train=TRAIN
    )
    for name in EVERY_METRIC:
        alone = evaluate(model, held_out, metrics=[name], popularity=popularity, train=TRAIN)
        assert alone[name] == together[name]


def test_the_default_metrics_are_those_of_the_papers(world):
    model, held_out, _ = world
    report = evaluate(model, held_out)
    assert tuple(report.per_user) == DEFAULT_METRICS == ("ndcg@100", "recall@20", "recall@50")


def test_cut_offs_beyond_the_catalogue(world):
    model, held_out, _ = world
    report = evaluate(model, held_out, metrics=["recall@1000", "precision@1000"])
    values = report.per_user["recall@1000"]
    assert (values[~np.isnan(values)] == 1).all()
    targets = np.diff(held_out.target.indptr)
    np.testing.assert_allclose(
        report.per_user["precision@1000"], np.where(targets > 0, targets / 1000, np.nan)
    )


def test_an_exhausted_catalogue_gives_empty_lists(world):
    model, held_out, popularity = world
    report = evaluate(
        model, held_out, metrics=["novelty@5", "recall@5"], popularity=popularity, train=TRAIN
    )
    assert np.isnan(report.per_user["novelty@5"][6])
    assert report.per_user["recall@5"][5] == 1
    assert report["novelty@5"].n == len(held_out) - 1


def test_ties_across_a_cut_off_are_counted():
    model = by_bias([3, 2, 2, 1])
    report = evaluate(model, held([[], [1]], [[3], [3]], 4), metrics=["hit@1", "hit@2", "hit@4"])
    assert report.tied == {1: 0, 2: 1, 4: 0}


def test_unreachable_targets_lower_the_ceiling():
    held_out = held([[0], [0], [0]], [[1], [1, 2], []], 3, unreachable=np.array([1, 0, 0]))
    report = evaluate(by_bias([1, 1, 1]), held_out, metrics=["recall@1"])
    assert (report.n_unreachable, report.ceiling) == (1, (1 / 2 + 1) / 2)
    assert "1 unreachable targets, ceiling 0.7500" in str(report)


def test_users_without_any_target():
    report = evaluate(by_bias([1, 2]), held([[0], [1]], [[], []], 2), metrics=["ndcg@1"])
    assert (report.n_skipped, report["ndcg@1"].n) == (2, 0)
    assert math.isnan(report["ndcg@1"].mean)
    assert report.to_json()["metrics"] == {"ndcg@1": {"mean": None, "se": None, "n": 0}}
    assert report.interval("ndcg@1") is None
    assert "nan" in str(report)


def test_json_is_strict_and_says_what_was_measured(world):
    model, held_out, popularity = world
    report = evaluate(
        model, held_out, metrics=EVERY_METRIC, popularity=popularity, train=TRAIN, by=["history"]
    )
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(value["metrics"]) == set(EVERY_METRIC) == set(value["definitions"])
    assert value["metrics"]["recall@5"] == {
        "mean": report["recall@5"].mean,
        "se": report["recall@5"].se,
        "n": 37 - report.n_skipped,
    }
    assert value["metrics"]["gini@5"]["se"] is None
    assert value["definitions"]["recall@5"] == parse_metric("recall@5").definition
    assert value["targets"] == held_out.target.nnz
    assert value["unreachable_targets"] == held_out.unreachable.sum()


def test_standard_error_is_that_of_the_papers():
    values = np.array([0.1, 0.7, np.nan, 0.4])
    found = summarise(values)
    there = values[~np.isnan(values)]
    assert found.n == 3
    assert found.mean == pytest.approx(there.mean(), rel=1e-15)
    assert found.se == pytest.approx(there.std(ddof=0) / math.sqrt(3), rel=1e-15)


def test_interval_is_a_seeded_percentile_bootstrap(world):
    model, held_out, _ = world
    report = evaluate(model, held_out, metrics=["recall@5"])
    values = report.per_user["recall@5"]
    values = values[~np.isnan(values)]
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=0
    ).confidence_interval
    # Both are random: a tenth of a standard error is five of the quantiles' own errors.
    tolerance = report["recall@5"].se / 10
    low, high = report.interval("recall@5", resamples=20_000)
    assert low == pytest.approx(reference.low, abs=tolerance)
    assert high == pytest.approx(reference.high, abs=tolerance)
    assert (low, high) == report.interval("recall@5", resamples=20_000)
    narrow = report.interval("recall@5", level=0.5, resamples=20_000)
    assert low < narrow[0] < report["recall@5"].mean < narrow[1] < high


def test_segments_by_history_partition_the_users(world):
    model, held_out, _ = world
    report = evaluate(model, held_out, metrics=["recall@5"], by=["history"])
    lengths = np.diff(held_out.fold_in.matrix.indptr)
    assert [s.label for s in report.segments] == ["5-9", "10-19", "20-49"]
    edges = {"5-9": (5, 9), "10-19": (10, 19), "20-49": (20, 49)}
    for segment in report.segments:
        low, high = edges[segment.label]
        inside = (lengths >= low) & (lengths <= high)
        np.testing.assert_array_equal(
            segment.per_user["recall@5"], np.where(inside, report.per_user["recall@5"], np.nan)
        )
    assert sum(summarise(s.per_user["recall@5"]).n for s in report.segments) == report["recall@5"].n


def test_history_groups_at_their_edges():
    sizes = [0, 1, 4, 5, 9, 10, 19, 20, 49, 50, 99, 100, 120]
    found = history_lengths(held([list(range(n)) for n in sizes], [[] for _ in sizes], 120))
    assert (
        found
        == ["0"]
        + ["1-4"] * 2
        + ["5-9"] * 2
        + ["10-19"] * 2
        + ["20-49"] * 2
        + ["50-99"] * 2
        + ["100+"] * 2
    )


def test_segments_by_popularity_judge_only_the_targets_of_the_group():
    # Counts 6 3 2 1: six of twelve interactions begin in the first third, three in the second.
    popularity = np.array([6, 3, 2, 1])
    assert popularity_groups(popularity).tolist() == [0, 1, 2, 2]
    model = by_bias([4, 3, 2, 1])
    held_out = held([[], []], [[0, 3], [1, 2]], 4)
    report = evaluate(
        model, held_out, metrics=["recall-all@2"], popularity=popularity, by=["popularity"]
    )
    found = {s.label: s.per_user["recall-all@2"] for s in report.segments}
    np.testing.assert_array_equal(found["head"], [1, np.nan])
    np.testing.assert_array_equal(found["middle"], [np.nan, 1])
    np.testing.assert_array_equal(found["tail"], [0, 0])


def test_popularity_groups_are_a_third_each():
    popularity = np.random.default_rng(0).integers(0, 100, size=3000)
    groups = popularity_groups(popularity)
    shares = [popularity[groups == g].sum() / popularity.sum() for g in range(3)]
    np.testing.assert_allclose(shares, [1 / 3] * 3, atol=0.001)
    assert popularity[groups == 0].min() >= popularity[groups == 1].max()
    assert popularity_groups(np.zeros(3, dtype=np.int64)).tolist() == [0, 0, 0]


def test_segments_by_a_column_of_labels(world):
    model, held_out, _ = world
    country = ["fr" if u % 3 else "de" for u in range(len(held_out))]
    report = evaluate(
        model, held_out, metrics=["recall@5"], by=["country"], labels={"country": country}
    )
    assert [(s.by, s.label) for s in report.segments] == [("country", "de"), ("country", "fr")]
    de = np.array(country) == "de"
    np.testing.assert_array_equal(
        report.segments[0].per_user["recall@5"], np.where(de, report.per_user["recall@5"], np.nan)
    )


def test_per_user_file(world, tmp_path):
    model, held_out, _ = world
    report = evaluate(model, held_out, metrics=["recall@5", "coverage@5"])
    write_per_user(report, tmp_path / "users.parquet")
    table = pq.read_table(tmp_path / "users.parquet")
    assert table.column_names == ["user_id", "targets", "recall@5"]
    assert table["user_id"].to_pylist() == [f"u{u}" for u in range(37)]
    assert table["targets"].to_pylist() == np.diff(held_out.target.indptr).tolist()
    assert table["recall@5"].null_count == report.n_skipped
    np.testing.assert_array_equal(
        table["recall@5"].to_pandas().to_numpy(), report.per_user["recall@5"]
    )


def test_frame_and_text_say_the_same(world):
    model, held_out, popularity = world
    report = evaluate(
        model,
        held_out,
        metrics=["recall@5", "gini@5"],
        popularity=popularity,
        train=TRAIN,
        by=["history", "popularity"],
    )
    frame = report.to_frame()
    assert list(frame.columns) == ["by", "label", "metric", "mean", "se", "n"]
    assert len(frame) == 2 + len(report.segments)
    assert frame["mean"][0] == report["recall@5"].mean
    assert np.isnan(frame["se"][1])
    lines = str(report).splitlines()
    assert lines[0].startswith(f"linear: 37 users; {report.n_skipped} without targets, not counted")
    assert lines[1].split() == ["metric", "mean", "se", "95%", "interval", "users"]
    low, high = report.interval("recall@5")
    assert lines[2].split() == [
        "recall@5",
        f"{report['recall@5'].mean:.4f}",
        f"{report['recall@5'].se:.4f}",
        f"{low:.4f}",
        "to",
        f"{high:.4f}",
        str(report["recall@5"].n),
    ]
    assert all(line == line.rstrip() for line in lines)
    for segment in report.segments:
        assert any(line.split()[:2] == [segment.by, segment.label] for line in lines)


def test_fingerprint_names_the_exam():
    base = held([[0, 1], [2]], [[2], [0]], 4)
    others = [
        held([[1, 0], [2]], [[2], [0]], 4),  # another order in the history
        held([[0, 1], [2]], [[2], [1]], 4),
        held([[0, 1], [2]], [[2], [0]], 5),
        held([[0, 1], [2]], [[2], [0]], 4, exclude=Histories.from_lists([[], [3]], n_items=4)),
        replace(base, users=IdMap(["u0", "u2"])),
        replace(base, users=IdMap(["u", "0u1"])),
    ]
    with_order = replace(base, fold_in=Histories.from_lists([[0, 1], [2]], n_items=4))
    others[0] = replace(base, fold_in=Histories.from_lists([[1, 0], [2]], n_items=4))
    found = [fingerprint(h) for h in (base, with_order, *others)]
    assert len(set(found)) == len(found)
    assert fingerprint(held([[0, 1], [2]], [[2], [0]], 4)) == found[0]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ConfigError, "batch_size is 0; at least 1 is accepted"),
        ({"metrics": ["mpr"]}, ConfigError, "metric 'mpr' is unknown; accepted are recall@K"),
        ({"metrics": ["novelty@5"]}, ConfigError, "novelty@5 needs popularity"),
        ({"metrics": ["diversity@5"]}, ConfigError, "diversity@5 needs train"),
        ({"train": TRAIN[:, :3]}, DataError, "train has 3 items; 30 are held out"),
        ({"by": ["popularity"]}, ConfigError, "segments by popularity needs popularity"),
        ({"popularity": np.ones(3, dtype=np.int64)}, DataError, "popularity of 3 items; 30 are"),
        ({"by": ["age"]}, ConfigError, "segment 'age' is unknown; accepted are 'history'"),
        ({"labels": {"age": ["x"]}}, DataError, "age labels 1 users; 37 are held out"),
        ({"labels": {"history": ["x"] * 37}}, ConfigError, "labels are named 'history'"),
    ],
)
def test_refusals(world, options, error, message):
    model, held_out, _ = world
    with pytest.raises(error, match=message):
        evaluate(model, held_out, **options)


def test_refuses_nobody_and_impossible_targets():
    model = by_bias([1, 2, 3])
    with pytest.raises(DataError, match="there are no held-out users"):
        evaluate(model, held([], [], 3))
    excluded = Histories.from_lists([[1]], n_items=3)
    with pytest.raises(DataError, match="1 interactions are both excluded and target, for users"):
        held([[0]], [[1]], 3, exclude=excluded)
    with pytest.raises(DataError, match="this model knows 3 items"):
        evaluate(model, held([[0]], [[1]], 4))


# ---------------------------------------------------------------- metrics of the caller


def first_hit(ranked, targets):
    """Whether the first item is a hit."""
    return ranked.size and float(ranked[0] in targets)


def ranks(ranked, targets):
    return np.float32(len(ranked))


ranks.k = 3


def test_a_function_is_a_metric_beside_names(world):
    model, held_out, _ = world
    found = evaluate(model, held_out, metrics=["recall@5", first_hit, "r-precision", ranks])
    usual = evaluate(model, held_out, metrics=["hit@1", "recall@5", "r-precision"])
    assert list(found.per_user) == ["recall@5", "first_hit", "r-precision", "ranks"]
    np.testing.assert_array_equal(found.per_user["first_hit"], usual.per_user["hit@1"])
    for name in ("recall@5", "r-precision"):
        np.testing.assert_array_equal(found.per_user[name], usual.per_user[name])
    top = model.recommend(held_out.fold_in, k=3, exclude=held_out.exclude)
    lengths = np.where(found.n_targets > 0, (top.items >= 0).sum(axis=1), np.nan)
    np.testing.assert_array_equal(found.per_user["ranks"], lengths)
    said = json.loads(json.dumps(found.to_json(), allow_nan=False))["definitions"]
    assert said["first_hit"] == "Whether the first item is a hit (of the first 100 items)"
    assert said["ranks"] == "a function of the caller (of the first 3 items)"
    again = evaluate(model, held_out, metrics=[first_hit], batch_size=3)
    assert again["first_hit"] == found["first_hit"]
    assert [d.metric for d in compare_reports({"a": found, "b": found}).differences] == [
        *("recall@5", "first_hit", "r-precision", "ranks")
    ]


def test_a_function_sees_indices_of_one_person_and_cannot_change_them(world):
    model, held_out, _ = world
    seen = []

    def spy(ranked, targets):
        seen.append((ranked.tolist(), targets.tolist()))
        ranked[:] = targets[:] = 0
        return 0

    found = evaluate(model, held_out, metrics=[spy, "hit@1"])
    assert found["hit@1"] == evaluate(model, held_out, metrics=["hit@1"])["hit@1"]
    asked = np.flatnonzero(np.diff(held_out.target.indptr))
    top = model.recommend(held_out.fold_in, k=30, exclude=held_out.exclude)
    assert len(seen) == len(asked)
    for row, (ranked, targets) in zip(asked, seen, strict=True):
        assert ranked == [item for item in top.items[row].tolist() if item >= 0]
        assert (
            targets
            == held_out.target.indices[slice(*held_out.target.indptr[row : row + 2])].tolist()
        )


def one_argument(ranked):
    return 1.0


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        (lambda ranked, targets: 1.0, "a metric is a <lambda>, which has no name to be known by"),
        (partial(first_hit), "a metric is a partial, which has no name to be known by"),
        (one_argument, r"metric one_argument cannot be called with \(ranked, targets\): too many"),
    ],
)
def test_what_is_no_metric_is_refused_first(metric, said):
    with pytest.raises(ConfigError, match=said):
        parse_metric(metric)


@pytest.mark.parametrize("value", [None, "0.5", float("nan"), np.inf, [1.0, 2.0]])
def test_what_a_function_returns_is_a_finite_number(world, value):
    def odd(ranked, targets):
        return value

    with pytest.raises(ConfigError, match=r"metric odd returned .*; a finite number is accepted"):
        evaluate(*world[:2], metrics=[odd])


def test_two_functions_of_one_name_are_refused(world):
    def other(ranked, targets):
        return 1.0

    other.__name__ = "first_hit"
    with pytest.raises(ConfigError, match="two metrics are called 'first_hit'"):
        evaluate(*world[:2], metrics=[first_hit, other])
    assert list(evaluate(*world[:2], metrics=[first_hit, first_hit]).per_user) == ["first_hit"]


def test_a_part_of_a_split_knows_what_was_trained_on():
    split = recae.split(recae.sample(), rng=0)
    model = recae.Popularity().fit(split.train)
    metrics = ["novelty@10", "popularity-bias@10", "diversity@10"]
    found = evaluate(model, split.test, metrics=metrics, by=["popularity"])
    counts = np.bincount(split.train.matrix.indices, minlength=split.train.n_items)
    given = evaluate(
        model, split.test, metrics=metrics, by=["popularity"],
        popularity=counts, train=split.train.matrix,
    )  # fmt: skip
    assert found.to_json() == given.to_json()
    few = evaluate(model, split.test.take(np.arange(3)), metrics=metrics)
    assert not math.isnan(few["novelty@10"].mean)


def test_a_report_shows_itself_in_a_line_and_as_html(world):
    def first(ranked, targets):
        return 1.0

    first.__name__ = "f" * 400
    found = replace(evaluate(*world[:2], metrics=[*EVERY, first]), model="<b>" * 300)
    assert len(repr(found)) < 600
    assert repr(found).startswith("Report(<b>")
    page = found._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.count("<tr>") == len(EVERY) + 2


def test_report_refuses_metrics_it_has_not(world):
    model, held_out, _ = world
    report = evaluate(model, held_out, metrics=["recall@5"])
    with pytest.raises(ConfigError, match=r"'recall@6' is not in this report; it has 'recall@5'"):
        report["recall@6"]
    with pytest.raises(ConfigError, match="level is 1.5; a number between 0 and 1"):
        report.interval("recall@5", level=1.5)
    with pytest.raises(ConfigError, match="resamples is 0; at least 1"):
        report.interval("recall@5", resamples=0)


def test_evaluating_needs_neither_statistics_nor_pandas():
    code = "import sys, recae.evaluation.evaluator, recae.evaluation.significance"
    code += "; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert not {"scipy.stats", "pandas"} & loaded


def test_cut_offs_that_hold_every_item_are_told() -> None:
    pairs = [(f"u{u}", f"i{i}") for u in range(40) for i in range(12) if (u * i) % 5 != 1]
    data = interactions_from(pd.DataFrame(pairs, columns=["user", "item"]))
    split = recae.split(data, "strong")
    found = recae.evaluate(
        recae.Popularity().fit(split.train), split.test, metrics=["recall@2", "ndcg@12"]
    )
    eligible = 12 - np.diff(split.test.fold_in.matrix.indptr)
    assert found.whole == {2: int((eligible <= 2).sum()), 12: len(split.test)}
    assert f"note: lists of 12 hold every item there is for {found.n_users} of" in str(found)
    assert found.to_json()["users_with_all_items_at"]["12"] == found.n_users
    table = recae.compare(["popular"], split, metrics=["recall@12"])
    assert str(table).count("note: lists of") == 1
