"""Lists do not depend on how they are proposed, and proposals err by no more than they say."""

from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.errors import RecaeError
from recae.ranking import fixed_point
from recae.ranking.fixed_point import exact_row_sums, rows_on_grid, weights_on_grid
from recae.ranking.propose import recommend_chunk
from recae.ranking.rounded import RoundedTable
from recae.ranking.scorers import LinearScorer, LinearTable
from recae.ranking.select import Groups
from recae.ranking.topk import BestLists


def layer_and_hidden(rng, n_users=37, n_items=900, width=40, bias=1.0):
    """Weights, biases and hidden vectors, on their grids."""
    draw = np.random.default_rng(rng)
    weight = torch.from_numpy(draw.standard_normal((n_items, width)) * draw.random((n_items, 1)))
    offset = torch.from_numpy((bias * draw.standard_normal(n_items)).astype(np.float32))
    hidden = torch.tanh(torch.from_numpy(draw.standard_normal((n_users, width))))
    return weights_on_grid(weight), offset, rows_on_grid(hidden, n_terms=width)


def in_8_bits(weight, bias, hidden, *, wide=True):
    table = LinearTable(
        weight,
        bias,
        rounded=RoundedTable(weight, bias),
        wide=weight.double() if wide else None,
    )
    return LinearScorer(hidden, table)


class Blocks:
    """A scorer whose fast scores come in blocks, and are a little off."""

    def __init__(self, weight, bias, hidden):
        self._plain = LinearScorer(hidden, LinearTable(weight, bias))
        self.exact = self._plain.exact

    def blocks(self):
        (_, scores), *_ = self._plain.blocks()
        for start in range(0, scores.shape[1], 700):
            block = slice(start, min(start + 700, scores.shape[1]))
            yield block, (scores[:, block] + 1e-3 * (-1) ** (start // 700)).clone()

    def error_bound(self):
        return self._plain.error_bound() + 2e-3


def by_numpy(weight, bias, hidden, k, hidden_items=()):
    """Items of each user by sorting all float64 scores, rounded once."""
    scores = hidden.numpy() @ weight.numpy().astype(np.float64).T + bias.numpy()
    scores = scores.astype(np.float32)
    scores[:, list(hidden_items)] = -np.inf
    order = np.lexsort((np.tile(np.arange(scores.shape[1]), (len(scores), 1)), -scores))
    return np.where(np.isneginf(np.take_along_axis(scores, order, 1)), -1, order)[:, :k]


def lists(scorer, n_users, n_items, k, *, hidden=(), allowed=None):
    nobody = Histories(csr_array((n_users, n_items), dtype=np.float32))
    return recommend_chunk(scorer, nobody, k, list(hidden), allowed)


@pytest.mark.parametrize("width", [1, 2, 16, 64, 100, 128, 600])
def test_rows_on_the_grid_are_exact_in_float32(width: int) -> None:
    rng = torch.Generator().manual_seed(width)
    x = torch.randn(500, width, generator=rng, dtype=torch.float64)
    rows = rows_on_grid(torch.cat([x, x.sign() * (1 - 2.0**-40)]), n_terms=width)
    assert torch.equal(rows.to(torch.float32).to(torch.float64), rows)


@pytest.mark.parametrize("k", [1, 10, 101, 890, 900, 950])
@pytest.mark.parametrize("largest_bias", [0.0, 1.0, 300.0])
def test_lists_are_those_of_all_scores_sorted(k, largest_bias):
    weight, bias, hidden = layer_and_hidden(1, bias=largest_bias)
    expected = by_numpy(weight, bias, hidden, k)
    plain = lists(LinearScorer(hidden, LinearTable(weight, bias)), 37, 900, k)
    for scorer in (in_8_bits(weight, bias, hidden), in_8_bits(weight, bias, hidden, wide=False)):
        found = lists(scorer, 37, 900, k)
        assert found.items[:, : min(k, 900)].tolist() == expected.tolist()
        assert found.items.tobytes() == plain.items.tobytes()
        assert found.scores.tobytes() == plain.scores.tobytes()


@pytest.mark.parametrize("n_users", [1, 3, 16, 17])
@pytest.mark.parametrize(("n_items", "k"), [(5, 9), (900, 10), (20_003, 10), (20_003, 600)])
def test_lists_of_a_few_are_those_that_each_has_among_many(n_users, n_items, k):
    """Requests take another way, blocks of items and groups included."""
    weight, bias, hidden = layer_and_hidden(7, n_users=20, n_items=n_items)
    weight[-3:] = weight[:1]  # equal scores
    bias[-3:] = bias[:1]
    seen = csr_array(np.random.default_rng(1).random((20, n_items)) < 0.2, dtype=np.float32)
    allowed = np.arange(n_items) % 5 != 1
    many = lists(in_8_bits(weight, bias, hidden), 20, n_items, k, hidden=[seen], allowed=allowed)
    for scorer in (
        in_8_bits(weight, bias, hidden[:n_users]),
        Blocks(weight, bias, hidden[:n_users]),
    ):
        few = lists(scorer, n_users, n_items, k, hidden=[seen[:n_users]], allowed=allowed)
        assert few.items.tobytes() == many.items[:n_users].tobytes()
        assert few.scores.tobytes() == many.scores[:n_users].tobytes()


def test_masks_and_candidates_are_kept_out_of_8_bits_too():
    weight, bias, hidden = layer_and_hidden(2)
    seen = csr_array(np.random.default_rng(0).random((37, 900)) < 0.3, dtype=np.float32)
    allowed = np.arange(900) % 7 != 0
    found = lists(in_8_bits(weight, bias, hidden), 37, 900, 25, hidden=[seen], allowed=allowed)
    dense = seen.toarray() > 0
    for user in range(37):
        left_out = np.flatnonzero(dense[user] | ~allowed)
        expected = by_numpy(weight, bias, hidden[user : user + 1], 25, left_out)[0]
        assert found.items[user].tolist() == expected.tolist()


@pytest.mark.parametrize(
    "kind", ["fine", "coarse", "coarse history", "offset", "huge", "tiny", "zero"]
)
def test_no_score_is_further_off_than_the_bound(kind):
    """Weights that 8 bits round all the same way, or cannot tell apart at all."""
    weight, bias, hidden = layer_and_hidden(3, n_users=20, n_items=300)
    if kind == "coarse":  # every residual has the sign of its hidden number, and the rest is 0
        hidden = hidden.sign()
        weight = 10.49 * hidden[0].expand(300, 40).clone()
        weight[:, 0] = 127  # one step is 1: .49 are lost everywhere else
        bias = torch.full_like(bias, -40.0)
    elif kind == "coarse history":  # the same of the hidden numbers, with weights that are kept
        weight = hidden[0].sign().expand(300, 40).float().clone()
        hidden = 10.49 * hidden[:1].sign().expand(20, 40).clone()
        hidden[:, 0] = 127
        bias = torch.full_like(bias, -40.0)
    elif kind == "offset":
        bias = bias + 1e4
    elif kind == "huge":
        weight = weight * 1e30
    elif kind == "tiny":
        weight, bias = weight * 1e-37, bias * 1e-37
    elif kind == "zero":
        hidden = torch.zeros_like(hidden)
    weight = weights_on_grid(weight)
    hidden = rows_on_grid(hidden, n_terms=40)
    scorer = in_8_bits(weight, bias, hidden)
    proposals = scorer.proposals()
    fast = torch.cat([scores for _, scores in proposals.blocks], dim=1).double().numpy()
    rows, items = np.repeat(np.arange(20), 300), np.tile(np.arange(300), 20)
    exact = scorer.exact(rows, items).astype(np.float64).reshape(20, 300)
    assert (np.abs(exact - fast) <= proposals.error[:, None]).all()
    if kind.startswith("coarse"):  # the bound is not far from what can happen
        assert (np.abs(exact - fast).max(axis=1) >= 0.9 * proposals.error)[0]


def test_items_that_8_bits_cannot_tell_apart_are_ranked():
    """Scores grow by less than the rounding from item to item: everything must be rescored."""
    n_items = 3000
    weight = torch.ones(n_items, 2, dtype=torch.float64)
    weight[:, 1] = torch.arange(n_items) * 2.0**-21
    weight, bias = weights_on_grid(weight), torch.zeros(n_items)
    hidden = rows_on_grid(torch.ones(2, 2, dtype=torch.float64), n_terms=2)
    scorer = in_8_bits(weight, bias, hidden)
    found = lists(scorer, 2, n_items, 4)
    assert found.items.tolist() == [[2999, 2998, 2997, 2996]] * 2
    ((_, fast),) = scorer.proposals().blocks
    assert len(fast.unique()) < 3


@pytest.mark.parametrize("n_users", [1, 3, 40])
def test_the_largest_integers_add_exactly(n_users):
    """No intermediate sum of theirs saturates."""
    sign = torch.from_numpy(np.random.default_rng(4).choice([-1.0, 1.0], (n_users, 700)))
    weight = torch.cat([torch.ones(1, 700), sign[:1].float(), -sign[:1].float()])
    weight, bias = weights_on_grid(weight), torch.zeros(3)
    scorer = in_8_bits(weight, bias, rows_on_grid(sign, n_terms=700))
    ((_, fast),) = scorer.proposals().blocks
    torch.testing.assert_close(fast.double(), sign @ weight.double().T, rtol=1e-6, atol=1e-4)


def test_ties_at_the_end_of_a_list_go_to_the_smaller_index():
    weight = torch.ones(700, 8)
    weight[[650, 3]] = 2
    weight, bias = weights_on_grid(weight), torch.zeros(700)
    hidden = rows_on_grid(torch.ones(3, 8, dtype=torch.float64), n_terms=8)
    found = lists(in_8_bits(weight, bias, hidden), 3, 700, 5)
    assert found.items.tolist() == [[3, 650, 0, 1, 2]] * 3


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(wrong):
    weight, bias, hidden = layer_and_hidden(5)
    rounded = RoundedTable(weight, bias)
    scorer = LinearScorer(hidden * wrong, LinearTable(weight, bias, rounded=rounded))
    with pytest.raises(RecaeError, match="not finite"):
        lists(scorer, 37, 900, 3)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_reaches_the_floor_is_found(data):
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n_users, n_items = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 400))
    k = data.draw(st.integers(1, 60))
    scores = draw.integers(0, data.draw(st.sampled_from([2, 50, 10**6])), (n_users, n_items))
    scores = np.where(draw.random(scores.shape) < 0.2, -np.inf, scores).astype(np.float32)
    tensor = torch.from_numpy(scores)
    if data.draw(st.booleans()):
        tensor = tensor.T.contiguous().T
    groups = Groups.of(tensor, k)
    kth = groups.kth(k)
    if k <= n_items:
        assert (kth <= np.sort(scores, axis=1)[:, -k]).all()
    floor = np.where(draw.random(n_users) < 0.5, kth, draw.choice(scores.ravel(), n_users))
    found = [pair for part in groups.reaching(floor) for pair in zip(*part, strict=True)]
    wanted = np.argwhere((scores >= floor[:, None]) & (scores > -np.inf))
    assert [tuple(map(int, pair)) for pair in found] == [tuple(pair) for pair in wanted.tolist()]


def test_expanding_in_parts_changes_nothing(monkeypatch):
    weight, bias, hidden = layer_and_hidden(6)
    whole = lists(in_8_bits(weight, bias, hidden), 37, 900, 20)
    monkeypatch.setattr("recae.ranking.select._EXPANDED", 50)
    monkeypatch.setattr("recae.ranking.scorer.MAX_CELLS", 1)
    parts = lists(in_8_bits(weight, bias, hidden), 37, 900, 20)
    assert parts.items.tobytes() == whole.items.tobytes()
    assert parts.scores.tobytes() == whole.scores.tobytes()


@given(data=st.data())
def test_the_order_of_lists_is_that_of_score_and_index(data):
    numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
    scores = data.draw(st.lists(st.one_of(numbers, st.sampled_from([0.0, -0.0, 1.0])), min_size=1))
    k, cut = data.draw(st.integers(1, 30)), data.draw(st.integers(0, len(scores)))
    best = BestLists(2, k)
    for part in (range(cut, len(scores)), range(cut)):
        if len(part):
            best.add(
                np.ones(len(part), dtype=np.int64),
                np.array(part, dtype=np.int64),
                np.array([scores[i] for i in part], dtype=np.float32),
            )
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k]
    found = best.lists()
    assert found.items.tolist() == [[-1] * k, expected + [-1] * (k - len(expected))]
    assert found.scores[1, : len(expected)].tolist() == [scores[i] for i in expected]
    assert np.isneginf(found.scores[0]).all()


def test_rows_add_exactly_however_many_and_large():
    draw = np.random.default_rng(7)
    table = draw.integers(-(2**22) + 1, 2**22, (300, 6))
    table[:250] = 2**22 - 1 - draw.integers(0, 8, (250, 6))  # whose sums leave float32 at once
    for lengths in ([3, 0, 250], [0, 20_000, 1, 0], [1] * 7, [0, 0], []):
        items = draw.integers(0, 300, sum(lengths))
        ends = np.cumsum([0, *lengths])
        expected = [table[items[a:b]].sum(axis=0) for a, b in pairwise(ends)]
        for at_once in (fixed_point._SUMMED, 24):  # all groups together, and four at a time
            with mock.patch.object(fixed_point, "_SUMMED", at_once):
                found = exact_row_sums(
                    torch.from_numpy(table.astype(np.float32)),
                    torch.from_numpy(items),
                    torch.from_numpy(ends[:-1]),
                )
            assert found.tolist() == [row.tolist() for row in expected]
