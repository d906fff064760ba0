"""Metrics against fractions worked out by hand, and the names they go by."""

import tracemalloc
from fractions import Fraction as F
from math import log2
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array

from recae.errors import ConfigError, DataError
from recae.evaluation import catalogue, metrics
from recae.evaluation.judge import ideal_gains, judge
from recae.evaluation.names import ACCEPTED, DEFAULT_METRICS, parse_metric, parse_metrics

# Four users, lists of four places:
#   0: 3 targets, hits at ranks 1 and 3
#   1: 1 target, hit at rank 4
#   2: 6 targets, no hit
#   3: no targets
HITS = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
N_TARGETS = np.array([3, 1, 6, 0])
NAN = float("nan")


def d(rank):
    return 1 / log2(rank + 1)


@pytest.mark.parametrize(
    ("metric", "k", "expected"),
    [
        (metrics.recall, 1, [F(1, 1), F(0), F(0), NAN]),
        (metrics.recall, 2, [F(1, 2), F(0), F(0), NAN]),
        (metrics.recall, 4, [F(2, 3), F(1), F(0), NAN]),
        (metrics.recall, 9, [F(2, 3), F(1), F(0), NAN]),
        (metrics.recall_all, 1, [F(1, 3), F(0), F(0), NAN]),
        (metrics.recall_all, 4, [F(2, 3), F(1), F(0), NAN]),
        (metrics.precision, 2, [F(1, 2), F(0), F(0), NAN]),
        (metrics.precision, 4, [F(2, 4), F(1, 4), F(0), NAN]),
        (metrics.precision, 9, [F(2, 9), F(1, 9), F(0), NAN]),
        (metrics.hit, 3, [F(1), F(0), F(0), NAN]),
        (metrics.hit, 9, [F(1), F(1), F(0), NAN]),
        (metrics.mrr, 3, [F(1), F(0), F(0), NAN]),
        (metrics.mrr, 9, [F(1), F(1, 4), F(0), NAN]),
        (metrics.average_precision, 2, [F(1, 1) / 2, F(0), F(0), NAN]),
        (metrics.average_precision, 3, [(F(1) + F(2, 3)) / 3, F(0), F(0), NAN]),
        (metrics.average_precision, 9, [(F(1) + F(2, 3)) / 3, F(1, 4), F(0), NAN]),
        (metrics.ndcg, 1, [1.0, 0.0, 0.0, NAN]),
        (metrics.ndcg, 2, [d(1) / (d(1) + d(2)), 0.0, 0.0, NAN]),
        (metrics.ndcg, 4, [(d(1) + d(3)) / (d(1) + d(2) + d(3)), d(4), 0.0, NAN]),
        (metrics.ndcg, 9, [(d(1) + d(3)) / (d(1) + d(2) + d(3)), d(4), 0.0, NAN]),
    ],
)
def test_by_hand(metric, k, expected):
    found = metric(HITS, N_TARGETS, k)
    np.testing.assert_allclose(found, [float(e) for e in expected], rtol=1e-15, atol=0)


def test_r_precision_by_hand():
    np.testing.assert_array_equal(metrics.r_precision(HITS, N_TARGETS), [2 / 3, 0, 0, NAN])


def test_graded_ndcg_by_hand():
    # Targets worth 5, 2 and 1; the list finds 1 at rank 1 and 5 at rank 3.
    gains, ideal = np.array([[1.0, 0, 5, 0]]), np.array([[5.0, 2, 1, 0]])
    expected = (1 * d(1) + 5 * d(3)) / (5 * d(1) + 2 * d(2) + 1 * d(3))
    np.testing.assert_allclose(metrics.ndcg_graded(gains, ideal, 4), [expected], rtol=1e-15)
    np.testing.assert_allclose(metrics.ndcg_graded(gains, ideal, 1), [1 / 5], rtol=1e-15)


def test_graded_ndcg_of_equal_values_is_ndcg():
    ideal = np.where(np.arange(4) < N_TARGETS[:, None], 3.0, 0.0)
    for k in (1, 2, 3, 4):
        np.testing.assert_allclose(
            metrics.ndcg_graded(HITS * 3.0, ideal, k), metrics.ndcg(HITS, N_TARGETS, k), rtol=1e-15
        )


def test_a_perfect_list_gets_exactly_one():
    n = np.arange(1, 301)
    hits = np.arange(100) < n[:, None]
    for metric in (metrics.recall, metrics.ndcg, metrics.average_precision, metrics.hit):
        assert (metric(hits, n, 100) == 1.0).all()
    ideal = np.random.default_rng(0).random((300, 100)).astype(np.float32)
    assert (metrics.ndcg_graded(ideal, ideal, 100) == 1.0).all()


def test_lists_without_places():
    nothing = np.zeros((2, 0), dtype=bool)
    n = np.array([2, 0])
    for metric in (
        metrics.recall,
        metrics.recall_all,
        metrics.ndcg,
        metrics.precision,
        metrics.average_precision,
        metrics.mrr,
        metrics.hit,
    ):
        np.testing.assert_array_equal(metric(nothing, n, 5), [0.0, NAN])
    np.testing.assert_array_equal(metrics.r_precision(nothing, n), [0.0, NAN])


def target(rows, n_items):
    """Canonical matrix from a dict of item to value for each row."""
    dense = np.zeros((len(rows), n_items), dtype=np.float32)
    for u, row in enumerate(rows):
        for item, value in row.items():
            dense[u, item] = value
    matrix = csr_array(dense)
    matrix.sort_indices()
    return matrix


def test_judge_finds_targets_in_their_own_row_only():
    listed = np.array([[4, 0, -1], [0, 4, 3], [2, 1, 0]])
    judged = judge(listed, target([{4: 2.0, 1: 1.0}, {}, {0: 3.0, 1: 0.5, 4: 1.0}], 5))
    assert judged.hits.tolist() == [[True, False, False], [False] * 3, [False, True, True]]
    assert judged.gains.tolist() == [[2, 0, 0], [0, 0, 0], [0, 0.5, 3]]
    assert judged.n_targets.tolist() == [2, 0, 3]


def test_an_empty_place_is_no_hit_on_the_last_item_of_the_row_before():
    # Row 1's place -1 and row 0's item 4 would have the same key, 1 * 5 - 1 == 0 * 5 + 4.
    judged = judge(np.array([[4], [-1]]), target([{4: 1.0}, {0: 1.0}], 5))
    assert judged.hits.tolist() == [[True], [False]]


def test_judge_without_any_target():
    judged = judge(np.array([[1, -1]]), target([{}], 3))
    assert not judged.hits.any()
    assert judged.n_targets.tolist() == [0]


def test_judge_refuses_other_users():
    with pytest.raises(DataError, match="2 lists for 1 rows of targets"):
        judge(np.zeros((2, 1), dtype=np.int64), target([{}], 3))


def test_ideal_gains_are_the_largest_values_first():
    matrix = target([{0: 1.0, 2: 3.0, 3: 2.0}, {}, {1: 1.0}], 5)
    assert ideal_gains(matrix, 2).tolist() == [[3, 2], [0, 0], [1, 0]]
    assert ideal_gains(matrix, 4).tolist() == [[3, 2, 1, 0], [0] * 4, [1, 0, 0, 0]]


def test_ideal_gains_refuse_negative_values():
    with pytest.raises(DataError, match=r"graded gains hold -2; target values of at least 0"):
        ideal_gains(target([{0: -2.0}], 1), 3)


LISTED = np.array([[0, 1], [0, 2], [0, -1], [-1, -1]])


def test_catalogue_figures_by_hand():
    counts = catalogue.list_counts(LISTED, 5)
    assert counts.tolist() == [3, 1, 1, 0, 0]
    assert catalogue.coverage(counts) == 3 / 5
    # Ascending counts 0 0 1 1 3 with weights -4 -2 0 2 4, over 5 items and 5 places.
    assert catalogue.gini(counts) == float(F(0 + 0 + 0 + 2 + 12, 5 * 5))


def test_gini_of_empty_lists_is_undefined():
    assert np.isnan(catalogue.gini(np.zeros(3, dtype=np.int64)))


def test_novelty_by_hand():
    # Shares of training: 8/16, 4/16, 4/16, 0 (counts as 1/16), 0.
    popularity = np.array([8, 4, 4, 0, 0])
    found = catalogue.novelty(np.array([[0, 1], [0, 3], [2, -1], [-1, -1]]), popularity)
    np.testing.assert_allclose(found, [(1 + 2) / 2, (1 + 4) / 2, 2, NAN])


def test_popularity_bias_by_hand():
    popularity = np.array([8, 4, 4, 0, 0])
    usual = F(64 + 16 + 16, 16)
    found = catalogue.popularity_bias(LISTED, popularity)
    np.testing.assert_allclose(found, [float(6 / usual), float(6 / usual), float(8 / usual), NAN])


def test_popularity_without_training_is_refused():
    with pytest.raises(DataError, match="popularity holds no training interactions"):
        catalogue.novelty(LISTED, np.zeros(5, dtype=np.int64))


def test_diversity_by_hand():
    # Users of items: 0 {a, b}, 1 {a, b}, 2 {b, c}, 3 {d}, 4 nobody.
    train = csr_array(
        np.float32([[1, 1, 0, 0, 0], [2, 5, 1, 0, 0], [0, 0, 3, 0, 0], [0, 0, 0, 1, 0]])
    )
    lists = np.array([[0, 1, -1], [0, 2, 1], [0, 1, 4], [2, 3, 4], [3, -1, -1], [-1, -1, -1]])
    found = catalogue.diversity(lists, catalogue.users_of_items(train))
    half = F(1, 2)  # 0 and 2 share one of two users each
    expected = [0.0, float((half + 0 + half) / 3), 2 / 3, 1.0, NAN, NAN]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


def test_diversity_is_the_mean_over_pairs_whatever_their_order():
    rng = np.random.default_rng(3)
    train = csr_array(np.float32(rng.random((40, 25)) < 0.15))
    columns = train.toarray().T.astype(np.float64)
    lists = np.array([rng.permutation(25)[:9] for _ in range(150)])
    lists[rng.random(lists.shape) < 0.1] = -1  # wherever the end is, empty places count for nothing
    found = catalogue.diversity(lists, catalogue.users_of_items(train))
    for row, value in zip(lists, found, strict=True):
        items = [i for i in row if i >= 0]
        distances = []
        for i in items:
            for j in items:
                if i != j:
                    both = (columns[i] * columns[j]).sum()
                    norms = np.sqrt(columns[i].sum() * columns[j].sum())
                    distances.append(1 - both / norms if norms else 1)
        assert value == pytest.approx(np.mean(distances), abs=1e-12)
    again = catalogue.diversity(lists[:, ::-1], catalogue.users_of_items(train))
    np.testing.assert_array_equal(found, again)


def test_diversity_copies_no_more_of_the_training_part_than_its_lists_need():
    draw = np.random.default_rng(5)
    train = csr_array(np.float32(draw.random((4000, 300)) < 0.3))
    users = catalogue.users_of_items(train)
    assert users.data.nbytes + users.indices.nbytes == 5 * train.nnz
    lists = np.array([draw.permutation(300)[:5] for _ in range(40)])
    catalogue.diversity(lists, users)
    tracemalloc.start()
    catalogue.diversity(lists, users)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * train.nnz


@pytest.mark.parametrize("name", [n.replace("@K", "@7") for n in ACCEPTED])
def test_every_accepted_name_parses_and_defines_itself(name):
    metric = parse_metric(name)
    assert metric.name == name
    assert metric.k == (7 if "@" in name else None)
    assert "{" not in metric.definition
    if metric.k:
        assert "7" in metric.definition


@pytest.mark.parametrize(
    "name",
    ["recal@20", "recall", "recall@0", "recall@-1", "recall@1.5", "recall@020", "Recall@20"]
    + ["r-precision@5", "ndcg@", "@20", "", " recall@20", "recall@20\n", "recall@9999999999"],
)
def test_other_names_are_refused_with_the_accepted_ones(name):
    with pytest.raises(ConfigError) as caught:
        parse_metric(name)
    accepted = f"accepted are {', '.join(ACCEPTED)}, K from 1 to 999999999"
    assert str(caught.value) == f"metric {name!r} is unknown; {accepted}"


def test_metrics_are_parsed_once_each_in_order():
    assert [m.name for m in parse_metrics(["recall@5", "ndcg@2", "recall@5"])] == [
        "recall@5",
        "ndcg@2",
    ]
    assert [m.name for m in parse_metrics(DEFAULT_METRICS)] == list(DEFAULT_METRICS)
    with pytest.raises(ConfigError, match="no metric is named"):
        parse_metrics([])


@pytest.mark.checkout
def test_the_documentation_defines_exactly_the_accepted_names():
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    ids = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert sorted(ids) == sorted(ACCEPTED)
