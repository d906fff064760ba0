"""Metrics against plain loops written from their definitions, and against ir-measures."""

import itertools
import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import AP, RR, P, R, Rprec, Success, nDCG
from scipy.sparse import csr_array

from recae.data.histories import canonical_csr
from recae.errors import DataError
from recae.evaluation import metrics
from recae.evaluation.judge import judge
from recae.evaluation.names import parse_metric
from recae.evaluation.ties import expected_hits
from recae.ranking.topk import BestLists

N_ITEMS = 12


def oracle(family, ranking, values, k):
    """One user's metric from the ranked items (no padding) and the targets' values."""
    if not values:
        return math.nan
    n, top = len(values), ranking[:k]
    found = [item in values for item in top]
    if family == "recall":
        return sum(found) / min(k, n)
    if family == "recall-all":
        return sum(found) / n
    if family == "precision":
        return sum(found) / k
    if family == "hit":
        return float(any(found))
    if family == "mrr":
        return next((1 / rank for rank, hit in enumerate(found, start=1) if hit), 0.0)
    if family == "map":
        total = 0.0
        for rank, hit in enumerate(found, start=1):
            if hit:
                total += sum(found[:rank]) / rank
        return total / min(k, n)
    if family == "r-precision":
        return sum(item in values for item in ranking[:n]) / n
    gain = dict.fromkeys(values, 1.0) if family == "ndcg" else values
    ideal = sorted(gain.values(), reverse=True)[:k]
    dcg = sum(gain.get(item, 0.0) / math.log2(rank + 1) for rank, item in enumerate(top, start=1))
    return dcg / sum(g / math.log2(rank + 1) for rank, g in enumerate(ideal, start=1))


FAMILIES = [
    *("recall", "recall-all", "precision", "hit", "mrr", "map"),
    *("r-precision", "ndcg", "ndcg-graded"),
]


@st.composite
def users(draw):
    """Tied scores of eligible items, and valued targets, for a few users."""
    out = []
    for _ in range(draw(st.integers(1, 5))):
        eligible = draw(st.lists(st.integers(0, N_ITEMS - 1), unique=True))
        scores = {item: draw(st.integers(0, 3)) for item in eligible}
        wanted = draw(st.lists(st.integers(0, N_ITEMS - 1), unique=True))
        out.append((scores, {item: float(draw(st.integers(1, 4))) for item in wanted}))
    return out


def listed_and_targets(drawn, k):
    best = BestLists(len(drawn), k)
    dense = np.zeros((len(drawn), N_ITEMS), dtype=np.float32)
    for u, (scored, values) in enumerate(drawn):
        for item, score in scored.items():
            best.add(np.array([u]), np.array([item]), np.array([score], dtype=np.float32))
        for item, value in values.items():
            dense[u, item] = value
    return best.lists().items, canonical_csr(csr_array(dense))


def plain_ranking(scored):
    return sorted(scored, key=lambda item: (-scored[item], item))


def named(family, k):
    return parse_metric(family if family == "r-precision" else f"{family}@{k}")


@given(drawn=users(), k=st.integers(1, N_ITEMS + 3), longer=st.integers(0, 4))
def test_equals_the_plain_loop(drawn, k, longer):
    """Ties, short lists, cut-offs above and below the length of the lists, no targets."""
    judged = {n: judge(*listed_and_targets(drawn, n)) for n in {N_ITEMS, k + longer}}
    for family in FAMILIES:
        length = N_ITEMS if family == "r-precision" else k + longer
        found = named(family, k).of_targets(judged[length])
        expected = [oracle(family, plain_ranking(scored), values, k) for scored, values in drawn]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0, err_msg=family)
        assert (np.isnan(found) | ((found >= 0) & (found <= 1))).all(), family


@given(drawn=users(), k=st.integers(1, N_ITEMS))
def test_one_user_at_a_time_gives_the_same_bits(drawn, k):
    listed, target = listed_and_targets(drawn, N_ITEMS)
    together = judge(listed, target)
    alone = [judge(listed[[u]], target[[u]]) for u in range(len(drawn))]
    for metric in (named(family, k) for family in FAMILIES):
        one_by_one = [metric.of_targets(judged)[0] for judged in alone]
        np.testing.assert_array_equal(metric.of_targets(together), one_by_one, metric.name)


@pytest.mark.parametrize("length", [3, 10, 40])
def test_agrees_with_ir_measures(length):
    """Random rankings, shorter than the cut-offs too; AP divides by all targets there."""
    rng = np.random.default_rng(length)
    n_users, n_items = 60, 50
    listed = np.full((n_users, length), -1, dtype=np.int64)
    dense = np.zeros((n_users, n_items), dtype=np.float32)
    qrels, run = {}, {}
    for u in range(n_users):
        kept = rng.integers(1, length + 1)
        listed[u, :kept] = rng.permutation(n_items)[:kept]
        wanted = rng.permutation(n_items)[: rng.integers(1, 30)]
        dense[u, wanted] = rng.integers(1, 4, size=len(wanted))
        qrels[str(u)] = {f"i{i}": int(dense[u, i]) for i in wanted}
        run[str(u)] = {f"i{i}": float(length - rank) for rank, i in enumerate(listed[u, :kept])}
    binary = {u: dict.fromkeys(row, 1) for u, row in qrels.items()}
    judged = judge(listed, canonical_csr(csr_array(dense)))

    def theirs(measure, wanted=binary):
        values = {m.query_id: m.value for m in ir_measures.iter_calc([measure], wanted, run)}
        return np.array([values[str(u)] for u in range(n_users)])

    def ours(name):
        return parse_metric(name).of_targets(judged)

    for k in (1, 5, 20):
        for name, measure in [
            ("ndcg", nDCG @ k),
            ("precision", P @ k),
            ("recall-all", R @ k),
            ("hit", Success @ k),
            ("mrr", RR @ k),
        ]:
            np.testing.assert_allclose(ours(f"{name}@{k}"), theirs(measure), atol=1e-9, rtol=0)
        np.testing.assert_allclose(
            ours(f"ndcg-graded@{k}"), theirs(nDCG @ k, qrels), atol=1e-9, rtol=0
        )
        rescaled = ours(f"map@{k}") * np.minimum(k, judged.n_targets) / judged.n_targets
        np.testing.assert_allclose(rescaled, theirs(AP @ k), atol=1e-9, rtol=0)
    np.testing.assert_allclose(ours("r-precision"), theirs(Rprec), atol=1e-9, rtol=0)


@given(
    scores=st.lists(st.sampled_from([0.0, 1.0, 2.0, -math.inf]), min_size=1, max_size=6),
    wanted=st.sets(st.integers(0, 5)),
    k=st.integers(1, 8),
)
def test_expected_values_are_means_over_all_orders_of_ties(scores, wanted, k):
    n = len(scores)
    targets = np.array([[item in wanted for item in range(n)]])
    wanted_here = int(targets.sum())
    orders = []
    for order in itertools.permutations(range(n)):
        ranked = [scores[item] for item in order]
        if all(a >= b for a, b in itertools.pairwise(ranked)):
            eligible = [item for item in order if scores[item] > -math.inf]
            orders.append([item in wanted for item in eligible] + [False] * (n - len(eligible)))
    hits = np.array(orders)
    count = np.full(len(hits), wanted_here)
    chances = expected_hits(np.float32([scores]), targets, k)
    for metric in (metrics.recall, metrics.recall_all, metrics.precision, metrics.ndcg):
        np.testing.assert_allclose(
            metric(chances, count[:1], k)[0], metric(hits, count, k).mean(), rtol=1e-12, atol=1e-15
        )


def test_expected_hits_keep_users_apart_and_refuse_nan():
    scores = np.float32([[1, 1, 1], [1, 0, 1]])
    targets = np.array([[True, False, False], [False, True, False]])
    np.testing.assert_allclose(expected_hits(scores, targets, 3), [[1 / 3] * 3, [0, 0, 1]])
    with pytest.raises(DataError, match="scores hold NaN"):
        expected_hits(np.float32([[np.nan]]), np.array([[True]]), 1)
