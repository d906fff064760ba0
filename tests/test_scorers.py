"""Scorers of every form against plain NumPy sums, alone and added up."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.errors import RecaeError
from recae.ranking.fixed_point import columns_on_grid, rows_on_grid, weights_on_grid
from recae.ranking.propose import recommend_chunk
from recae.ranking.rounded import RoundedTable
from recae.ranking.scorer import item_blocks
from recae.ranking.scorers import (
    DenseScorer,
    LinearScorer,
    LinearTable,
    SparseScorer,
    SparseTable,
    Summand,
    SumScorer,
    TableScorer,
    stored_entries,
)

N_USERS, N_ITEMS = 23, 700
FORMS = ["linear", "rounded", "table", "sparse", "dense", "dense64", "function"]


def histories(draw, n_users=N_USERS, n_items=N_ITEMS):
    x = draw.random((n_users, n_items)) < 0.02
    x[0] = False
    return Histories(csr_array(x, dtype=np.float32))


def scorer_and_scores(form, draw, asking):
    """A scorer, its exact scores before they are rounded to float32, and where none was added."""
    n_users, n_items = asking.matrix.shape
    nowhere = np.zeros((n_users, n_items), dtype=bool)
    x = asking.matrix.toarray().astype(np.float64)
    if form in {"linear", "rounded"}:
        weight = weights_on_grid(torch.from_numpy(draw.standard_normal((n_items, 12))))
        bias = torch.from_numpy(draw.standard_normal(n_items).astype(np.float32))
        hidden = torch.from_numpy(draw.standard_normal((n_users, 12)))
        hidden[0] = 0  # whose scores are the biases
        hidden = rows_on_grid(hidden, n_terms=12)
        rounded = RoundedTable(weight, bias) if form == "rounded" else None
        scores = hidden.numpy() @ weight.numpy().astype(np.float64).T + bias.numpy()
        scores = scores.astype(np.float32).astype(np.float64)  # as it is added: see its `sums`
        return LinearScorer(hidden, LinearTable(weight, bias, rounded=rounded)), scores, nowhere
    if form == "table":
        weights = weights_on_grid(torch.from_numpy(draw.standard_normal((n_items, n_items))))
        bounds = weights.abs().amax(dim=1).numpy()
        wide = weights.numpy().astype(np.float64)
        return TableScorer(weights, bounds, asking), x @ wide, x @ abs(wide) == 0
    if form == "sparse":
        entries = draw.standard_normal((n_items, n_items)) * (draw.random((n_items, n_items)) < 0.1)
        table = SparseTable(csr_array(entries))
        wide = table.entries.toarray()
        return SparseScorer(table, asking), x @ wide, x @ abs(wide) == 0
    if form == "function":  # of a history alone
        slopes = draw.standard_normal(n_items)
        scores = np.outer(x.sum(axis=1), slopes)
        scorer = DenseScorer(lambda h: np.outer(h.matrix.sum(axis=1), slopes), asking)
        return scorer, scores, nowhere
    scores = draw.standard_normal((n_users, n_items))
    if form == "dense":
        scores = scores.astype(np.float32)
    return DenseScorer(scores, asking), scores.astype(np.float64), nowhere


def every_pair(n_users=N_USERS, n_items=N_ITEMS):
    return np.repeat(np.arange(n_users), n_items), np.tile(np.arange(n_items), n_users)


def fast_scores(blocks):
    return torch.cat([scores for _, scores in blocks], dim=1).double().numpy()


def sorted_items(scores, k):
    order = np.lexsort((np.tile(np.arange(scores.shape[1]), (len(scores), 1)), -scores))
    return order[:, :k]


def lists(scorer, asking, k):
    return recommend_chunk(scorer, asking, k, [], None)


def agrees(scorer, scores, silent, asking):
    """Exact scores are `scores`, rounded once; fast ones, bound and lists follow from them.

    Lists end before the items that are `silent`.
    """
    n_users, n_items = scores.shape
    rounded = scores.astype(np.float32)
    exact = scorer.exact(*every_pair(n_users, n_items)).reshape(n_users, n_items)
    assert exact.tobytes() == rounded.tobytes()
    assert (np.abs(scores).max(axis=1, initial=0.0) <= scorer.largest()).all()
    ways = [(scorer.blocks(), scorer.error_bound())]
    if hasattr(scorer, "proposals"):
        ways.append((scorer.proposals().blocks, scorer.proposals().error))
    for blocks, bound in ways:
        off = np.abs(fast_scores(blocks) - exact)
        assert (off <= bound[:, None]).all()
    heard = np.where(silent, -np.inf, rounded).astype(np.float32)
    for k in (1, 10, n_items):
        top, best = lists(scorer, asking, k), sorted_items(heard, k)
        listed = np.take_along_axis(heard, best, 1)
        assert top.items.tolist() == np.where(np.isneginf(listed), -1, best).tolist()
        assert top.scores.tobytes() == (listed + 0).tobytes()


# ---- blocks


def test_blocks_cover_all_items_once(monkeypatch):
    assert list(item_blocks(0, 5)) == []
    assert list(item_blocks(700, 0)) == list(item_blocks(700, 11_000)) == [slice(0, 700)]
    assert list(item_blocks(700, 10**9)) == [slice(0, 256), slice(256, 512), slice(512, 700)]
    monkeypatch.setattr("recae.ranking.scorer.MAX_CELLS", 3000)
    assert list(item_blocks(700, 10)) == [slice(0, 300), slice(300, 600), slice(600, 700)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("max_cells", [1, N_ITEMS, 10**7])
def test_a_scorer_is_the_plain_sum(form, max_cells, monkeypatch):
    monkeypatch.setattr("recae.ranking.scorer.MAX_CELLS", max_cells)
    asking = histories(np.random.default_rng(1))
    scorer, scores, silent = scorer_and_scores(form, np.random.default_rng(2), asking)
    assert isinstance(scorer, Summand)
    blocks = [block for block, _ in scorer.blocks()]
    assert blocks == list(item_blocks(N_ITEMS, N_USERS))
    agrees(scorer, scores, silent, asking)


@pytest.mark.parametrize("form", FORMS)
def test_some_scores_are_those_among_all(form):
    """Asked before the blocks and after them, of some rows and of one."""
    asking = histories(np.random.default_rng(3))
    scorer, scores, silent = scorer_and_scores(form, np.random.default_rng(4), asking)
    rows, items = np.array([2, 2, 9, 22]), np.array([5, 699, 0, 5])
    expected = scores[rows, items].astype(np.float32).tobytes()
    assert scorer.exact(rows, items).tobytes() == expected
    for _, block in scorer.blocks():
        block.fill_(torch.nan)  # the caller may
    assert scorer.exact(rows, items).tobytes() == expected
    none = np.zeros(0, dtype=np.int64)
    assert scorer.exact(none, none).shape == (0,)


# ---- sums


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_sum_is_the_plain_weighted_sum(data):
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    forms = data.draw(st.lists(st.sampled_from(FORMS), min_size=1, max_size=4))
    weights = data.draw(
        st.none()
        | st.lists(
            st.floats(-100, 100) | st.sampled_from([0.0, 1.0, 1 / 3, -1e-9, 1e6]),
            min_size=len(forms),
            max_size=len(forms),
        )
    )
    asking = histories(draw, n_users=5, n_items=300)
    parts, terms, silent = zip(
        *[scorer_and_scores(form, draw, asking) for form in forms], strict=True
    )
    total = np.zeros((5, 300))
    for weight, scores in zip(weights or [1.0] * len(forms), terms, strict=True):
        total += weight * scores
    agrees(SumScorer(parts, weights), total, np.all(silent, axis=0), asking)


@pytest.mark.parametrize("max_cells", [1, N_ITEMS])
def test_sums_of_several_blocks(max_cells, monkeypatch):
    monkeypatch.setattr("recae.ranking.scorer.MAX_CELLS", max_cells)
    draw = np.random.default_rng(5)
    asking = histories(draw)
    parts, terms, silent = zip(
        *[scorer_and_scores(form, draw, asking) for form in FORMS], strict=True
    )
    weights = [0.3, -2.0, 1e-3, 7.0, 1.0, 0.1, -0.5]
    total = np.zeros((N_USERS, N_ITEMS))
    for weight, scores in zip(weights, terms, strict=True):
        total += weight * scores
    scorer = SumScorer(parts, weights)
    assert len(list(scorer.blocks())) == 3
    agrees(scorer, total, np.all(silent, axis=0), asking)


def test_sums_can_be_parts_of_a_sum():
    draw = np.random.default_rng(6)
    asking = histories(draw)
    (a, a_scores, _), (b, b_scores, nowhere), (c, c_scores, _) = (
        scorer_and_scores(form, draw, asking) for form in ("sparse", "rounded", "table")
    )
    inner = SumScorer([a, b], [0.7, 0.1])
    total = 0.9 * (0.7 * a_scores + 0.1 * b_scores) + 0.2 * c_scores
    agrees(SumScorer([inner, c], [0.9, 0.2]), total, nowhere, asking)


def test_the_bound_of_a_sum_holds_where_terms_cancel():
    """Large terms whose float32 sum forgets the small one that decides the list."""
    asking = histories(np.random.default_rng(7), n_users=2, n_items=50)
    large = np.full((2, 50), 1e6 + 1 / 3)
    small = np.arange(100, dtype=np.float64).reshape(2, 50) * 1e-4
    parts = [DenseScorer(large, asking), DenseScorer(small, asking), DenseScorer(large, asking)]
    scorer = SumScorer(parts, [1.0, 1.0, -1.0])
    assert len(np.unique(fast_scores(scorer.blocks())[0])) < 10
    top = lists(scorer, asking, 5)
    assert top.items.tolist() == [[49, 48, 47, 46, 45]] * 2
    assert top.scores.tobytes() == (large + small - large).astype(np.float32)[:, :-6:-1].tobytes()


def test_ties_of_a_sum_go_to_the_smaller_index():
    """0.5 + 0.25 and 0.25 + 0.5 are tied."""
    asking = histories(np.random.default_rng(8), n_users=1, n_items=400)
    one, other = np.zeros((1, 400)), np.zeros((1, 400))
    one[0, [7, 390]], other[0, [7, 390]] = [1, 0.5], [0.5, 1]
    one[0, 8] = 9
    scorer = SumScorer([DenseScorer(one, asking), DenseScorer(other, asking)], [0.5, 0.5])
    top = lists(scorer, asking, 5)
    assert top.items.tolist() == [[8, 7, 390, 0, 1]]
    assert top.scores.tolist() == [[4.5, 0.75, 0.75, 0, 0]]


def test_parts_of_other_blocks_are_refused():
    asking = histories(np.random.default_rng(9))
    other = histories(np.random.default_rng(9), n_items=N_ITEMS + 1)
    parts = [DenseScorer(np.zeros(h.matrix.shape), h) for h in (asking, other)]
    with pytest.raises(RecaeError, match="other than those of `item_blocks`"):
        next(SumScorer(parts).blocks())


# ---- dense scores


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e39, -1e39])
def test_dense_scores_that_are_not_finite_are_refused(wrong):
    asking = histories(np.random.default_rng(10), n_users=2, n_items=5)
    scores = np.zeros((2, 5))
    scores[1, 3] = wrong
    with pytest.raises(RecaeError, match=r"not finite in float32, such as .*(nan|inf|1e\+39)"):
        DenseScorer(scores, asking)
    scorer = DenseScorer(lambda h: scores[-len(h) :], asking)
    with pytest.raises(RecaeError, match="not finite"):
        lists(scorer, asking, 1)
    with pytest.raises(RecaeError, match="not finite"):
        scorer.exact(np.array([1]), np.array([0]))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.zeros((2, 4)), r"shape \(2, 4\); \(2, 5\) is accepted, a row for each history"),
        (np.zeros(5), r"shape \(5,\); \(2, 5\) is accepted"),
        (np.zeros((2, 5), dtype=np.int64), "type int64; a NumPy array of float32 or float64"),
        ([[0.0] * 5] * 2, "type list; a NumPy array of float32 or float64"),
    ],
)
def test_scores_that_are_no_array_of_users_and_items_are_refused(scores, message):
    asking = histories(np.random.default_rng(11), n_users=2, n_items=5)
    with pytest.raises(RecaeError, match=message):
        DenseScorer(lambda _: scores, asking).exact(np.array([0, 1]), np.array([0, 1]))
    if isinstance(scores, np.ndarray):
        with pytest.raises(RecaeError, match=message):
            DenseScorer(scores, asking)


def test_few_exact_scores_are_not_paid_for_by_all(monkeypatch):
    """A function is asked for the rows that are needed, a few at a time."""
    monkeypatch.setattr("recae.ranking.scorer.MAX_CELLS", 2 * N_ITEMS)
    asking = histories(np.random.default_rng(12))
    sizes = []

    def scores(some):
        sizes.append(len(some))
        return np.outer(some.matrix.sum(axis=1), np.arange(float(N_ITEMS)))

    rows, items = np.array([3, 3, 8, 20]), np.array([1, 2, 3, 4])
    found = DenseScorer(scores, asking).exact(rows, items)
    assert found.tolist() == (asking.matrix.sum(axis=1)[rows] * items).tolist()
    assert sizes == [2, 1]


def test_only_stored_entries_are_listed():
    rows = csr_array(np.array([[0, 2, 0, -1.0], [0, 0, 0, 0]]))
    asking = Histories(csr_array((2, 4), dtype=np.float32))
    top = lists(stored_entries(rows, asking), asking, 3)
    assert top.items.tolist() == [[1, 3, -1], [-1, -1, -1]]
    assert top.scores[0].tolist() == [2, -1, -np.inf]


# ---- grids


def test_columns_on_grid_add_exactly_and_stay_close():
    rng = np.random.default_rng(3)
    table = csr_array(rng.random((50, 7)) * 10.0 ** rng.integers(-9, 3, 7))
    rounded = columns_on_grid(table)
    dense, original = rounded.toarray(), table.toarray()
    assert (np.abs(dense - original) <= 2.0**-24 * original.max(axis=0)).all()
    for order in range(5):
        rows = np.random.default_rng(order).permutation(50)
        assert np.cumsum(dense[rows], axis=0)[-1].tolist() == dense.sum(axis=0).tolist()
    assert (columns_on_grid(rounded).data == rounded.data).all()
    assert (rounded.data.astype(np.float32) == rounded.data).all()


def test_columns_on_grid_twice_is_once_where_the_largest_entry_rounds_up():
    table = csr_array(np.array([[1 - 2.0**-30], [1 / 3]]))
    once = columns_on_grid(table)
    assert once.data[0] == 1.0
    assert (columns_on_grid(once).data == once.data).all()


def test_factor_scores_do_not_depend_on_the_order_of_the_sum():
    """Products that nearly cancel, so that any rounding on the way would be seen in a float32."""
    draw = np.random.default_rng(8)
    half_user, half_item = draw.standard_normal((40, 32)), draw.standard_normal((50, 32))
    users = np.concatenate([half_user, half_user * (1 + 1e-7)], axis=1)
    table = np.concatenate([half_item, -half_item], axis=1)
    items = weights_on_grid(torch.from_numpy(table)).numpy()
    rows, every = np.repeat(np.arange(40), 50), np.tile(np.arange(50), 40)
    expected = LinearTable.of(items).scorer(users).exact(rows, every)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(64)
        shuffled = LinearTable.of(np.ascontiguousarray(items[:, order])).scorer(users[:, order])
        assert shuffled.exact(rows, every).tobytes() == expected.tobytes()
