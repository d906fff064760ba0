"""Scorers: how models of one form score items, whatever made their numbers.

=============== ====================================================================
`LinearScorer`  vectors times a table of item vectors: networks and factor models
`TableScorer`   rows of a dense item-item table, added
`SparseScorer`  rows of a sparse item-item table, added
`DenseScorer`   all scores, given as an array or by a function
`SumScorer`     weighted sum of the above
=============== ====================================================================
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.sparse import csr_array
from torch import Tensor

from recae.data.histories import Histories
from recae.errors import RecaeError
from recae.ranking.fixed_point import columns_on_grid, float32_error, rows_on_grid
from recae.ranking.rounded import RoundedTable
from recae.ranking.sampled import sampled_products
from recae.ranking.scorer import (
    Proposals,
    Scorer,
    item_blocks,
    lacking_of,
    proposals_of,
    rows_at_once,
)

WIDE_BYTES = 1 << 28  # of a copy of the output layer
FEW_PAIRS = 256  # are gathered one by one: a sparse pattern costs more
_TILE = 2048  # items whose vectors a cache holds
_SINGLY = 8  # vectors that are multiplied one by one: no product of matrices is faster
GATHERED = 4_194_304  # decoder entries gathered at once when rescoring: 32 MiB of float64
_LARGEST = float(np.finfo(np.float32).max)
_TINY = 2.0**-120  # more than what float32 loses where it underflows


@runtime_checkable
class Summand(Scorer, Protocol):
    """A `Scorer` that can be part of a `SumScorer`."""

    def sums(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float64[np.ndarray, " pairs"]:
        """Exact scores in float64: `Scorer.exact` gives the same, rounded to float32."""
        ...

    def largest(self) -> Float64[np.ndarray, " users"]:
        """Upper bound of the absolute exact scores of each history."""
        ...


@final
class LinearTable:
    """A table of item vectors, and what of it every request needs.

    Parameters
    ----------
    weight
        A row for each item, from `weights_on_grid`.
    bias
        A number for each item. None where scores come from the history alone: then a vector of 0
        is no evidence for any item.
    rounded
        `weight` and `bias` in 8 bits, where that is faster.
    wide
        `weight` in float64, where there is room for it.

    Attributes
    ----------
    norm, largest_bias
        Largest norm of a row, and largest absolute bias.
    """

    def __init__(
        self,
        weight: Float32[Tensor, "items width"],
        bias: Float32[Tensor, " items"] | None = None,
        *,
        rounded: RoundedTable | None = None,
        wide: Float64[Tensor, "items width"] | None = None,
    ) -> None:
        self.weight, self.rounded, self.wide = weight, rounded, wide
        self.from_history = bias is None
        self.bias = weight.new_zeros(weight.shape[0]) if bias is None else bias
        self.norm = float(weight.norm(dim=1).max()) if weight.shape[0] else 0.0
        self.largest_bias = float(self.bias.abs().max()) if weight.shape[0] else 0.0

    @cached_property
    def tiles(self) -> list[Float32[np.ndarray, "width tile"]]:
        """`weight` of some items after the other, the numbers of a factor side by side.

        Made when a request is first answered: what it waits for is the memory that it reads. Copies
        in this order, in NumPy's large pages, are read two to three times as fast as the table, and
        one stays in the cache for the next row. A table that takes too much room is not copied.
        """
        weight = self.weight.numpy()
        tiles = [weight[start : start + _TILE].T for start in range(0, len(weight), _TILE)]
        return [np.ascontiguousarray(t) for t in tiles] if weight.nbytes <= WIDE_BYTES else tiles

    def products(self, rows: Float32[np.ndarray, "users width"]) -> Float32[Tensor, "users items"]:
        """``rows @ weight.T + bias`` of a few rows on the CPU."""
        out = np.empty((len(rows), len(self.weight)), dtype=np.float32)
        for number, tile in enumerate(self.tiles):
            start = number * _TILE
            for row, products in zip(rows, out, strict=True):
                np.dot(row, tile, out=products[start : start + tile.shape[1]])
        return torch.from_numpy(out).add_(self.bias)

    @classmethod
    def of(
        cls,
        items: Float32[np.ndarray, "items factors"],
        bias: Float32[np.ndarray, " items"] | None = None,
    ) -> "LinearTable":
        """Table of arrays, `items` from `weights_on_grid`."""
        return cls(torch.from_numpy(items), None if bias is None else torch.from_numpy(bias))

    def scorer(self, users: Float64[np.ndarray, "users factors"]) -> "LinearScorer":
        """`Scorer` of ``users @ weight.T + bias``; the vectors are rounded to their grid here."""
        n_terms = max(1, users.shape[1])
        return LinearScorer(rows_on_grid(torch.from_numpy(users), n_terms=n_terms), self)


@final
class LinearScorer:
    """`Scorer` of ``hidden @ weight.T + bias``.

    Parameters
    ----------
    hidden
        From `rows_on_grid`.
    table
        Weight and bias.
    """

    def __init__(self, hidden: Float64[Tensor, "users width"], table: LinearTable) -> None:
        self._hidden, self._table = hidden, table
        self._weight, self._bias = table.weight, table.bias
        self._block = slice(0)
        self._rows = hidden.numpy() if hidden.device.type == "cpu" else None

    def proposals(self) -> Proposals:
        """Scores from the rounded layer, or else those of `blocks`."""
        if self._table.rounded is not None:
            return self._table.rounded.proposals(self._hidden)  # of networks alone
        return Proposals(self.blocks(), self.error_bound())

    @torch.no_grad()
    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """Float32 scores of all items, a block of items at a time."""
        hidden = self._hidden.to(torch.float32)  # exact: see `rows_on_grid`
        whole = slice(0, self._weight.shape[0])
        for block in item_blocks(whole.stop, hidden.shape[0]):
            self._block = block
            if self._rows is not None and len(hidden) <= _SINGLY and whole == block:  # requests
                yield block, self._table.products(hidden.numpy())
            else:
                yield block, torch.addmm(self._bias[block], hidden, self._weight[block].T)

    @torch.no_grad()
    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Scores whose sums are exact, rounded once to float32."""
        wide = self._table.wide
        if wide is not None and len(rows) > FEW_PAIRS:
            bias = self._bias.to(torch.float64)
            sums = sampled_products(self._hidden, wide, bias, rows, items)
            return sums.astype(np.float32)
        if self._rows is not None and len(rows) <= FEW_PAIRS:
            products = self._weight.numpy()[items] * self._rows[rows]  # in float64
            few: np.ndarray = products.sum(axis=1) + self._bias.numpy()[items]
            return few.astype(np.float32)
        out = np.empty(items.shape, dtype=np.float32)
        at_once = max(1, GATHERED // max(1, self._hidden.shape[1]))
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            chosen = torch.from_numpy(items[part]).to(self._hidden.device)
            hidden = self._hidden[torch.from_numpy(rows[part]).to(self._hidden.device)]
            weight = self._weight[chosen].to(torch.float64)  # (pairs, width)
            scores = (weight * hidden).sum(dim=1) + self._bias[chosen]
            out[part] = scores.to(torch.float32).cpu().numpy()
        return out

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """Bound of the difference between both, see `float32_error`."""
        width, cuda, table = self._hidden.shape[1], self._hidden.is_cuda, self._table
        return float32_error(self._lengths(), width, table.norm, table.largest_bias, cuda=cuda)

    def lacking(self) -> Bool[Tensor, "users block"] | None:
        """All items of a history whose vector is 0, where no bias speaks for an item."""
        if not self._table.from_history:
            return None
        nothing = ~self._hidden.any(dim=1)
        if not nothing.any():
            return None
        return nothing[:, None].expand(-1, self._block.stop - self._block.start)

    def sums(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float64[np.ndarray, " pairs"]:
        """`exact` itself: stored models that are sums were ranked with the rounded products."""
        return self.exact(rows, items).astype(np.float64)

    def largest(self) -> Float64[np.ndarray, " users"]:
        """Bound by Cauchy and Schwarz, and the largest bias."""
        product = self._lengths() * self._table.norm
        largest: np.ndarray = 1.01 * (product + self._table.largest_bias)
        return largest

    def _lengths(self) -> Float64[np.ndarray, " users"]:
        """Norm of each vector."""
        lengths: np.ndarray
        if self._rows is not None:
            lengths = np.sqrt(np.einsum("ij,ij->i", self._rows, self._rows))
        else:
            lengths = self._hidden.norm(dim=1).cpu().numpy()
        return lengths


@final
class TableScorer:
    """`Scorer` of ``x @ weights`` for binary histories ``x``.

    Parameters
    ----------
    weights
        ``(items, items)`` on a grid of `recae.ranking.fixed_point.weights_on_grid`: up to 2**29
        entries of a column then add in float64 without rounding.
    row_bounds
        Largest absolute entry of each row of `weights`, shape ``(items,)``.
    histories
        Who is scored.
    """

    def __init__(
        self,
        weights: Float32[Tensor, "items items"],
        row_bounds: Float32[np.ndarray, " items"],
        histories: Histories,
    ) -> None:
        self._weights = weights
        self._row_bounds = row_bounds
        self._x: csr_array = histories.matrix
        self._zero: tuple[slice, Tensor] | None = None

    @torch.no_grad()
    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """Float32 sums, all items of as many users as the caller asked for."""
        n_users, n_items = self._x.shape
        items = torch.from_numpy(self._x.indices.astype(np.int64))
        offsets = torch.from_numpy(self._x.indptr[:-1].astype(np.int64))
        for block in item_blocks(n_items, n_users):
            table = self._weights[:, block].contiguous()  # a copy only where it is a part
            scores = torch.nn.functional.embedding_bag(items, table, offsets, mode="sum")
            self._zero = block, scores == 0
            yield block, scores

    def lacking(self) -> Bool[Tensor, "users block"] | None:
        """Where every weight from the history to an item is 0: sums of 0 that did not cancel."""
        assert self._zero is not None  # `blocks` came before
        block, zero = self._zero
        for row in zero.any(dim=1).nonzero()[:, 0].tolist():
            history = self._x.indices[self._x.indptr[row] : self._x.indptr[row + 1]]
            at = zero[row].nonzero()[:, 0]
            weights = self._weights[torch.from_numpy(history)[:, None], at + block.start]
            zero[row, at] = ~weights.any(dim=0)
        return zero if zero.any() else None

    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Sums without rounding, rounded once to float32."""
        return self.sums(rows, items).astype(np.float32)

    def sums(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float64[np.ndarray, " pairs"]:
        """Sums without rounding."""
        table = self._weights.numpy()
        out = np.empty(items.shape)
        asked, starts = np.unique(rows, return_index=True)
        for row, start, stop in zip(asked, starts, np.append(starts, len(rows))[1:], strict=True):
            history = self._x.indices[self._x.indptr[row] : self._x.indptr[row + 1]]
            entries = table[history[:, None], items[start:stop][None, :]]  # (history, items)
            out[start:stop] = entries.sum(axis=0, dtype=np.float64)
        return out

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """``n`` additions, each rounding by 2**-24 of at most the sum of the row bounds."""
        bound: np.ndarray = 2.0**-24 * 1.01 * (np.diff(self._x.indptr) + 2) * self.largest()
        return bound

    def largest(self) -> Float64[np.ndarray, " users"]:
        """Sum of the row bounds."""
        sums: np.ndarray = self._x @ self._row_bounds.astype(np.float64)
        return sums


@final
class SparseTable:
    """A sparse item-item table, on the grid on which its columns add exactly.

    Parameters
    ----------
    table
        ``(items, items)``, row = item of the history; rounded by `columns_on_grid`.

    Attributes
    ----------
    entries
        The rounded table.
    signed
        Whether an entry is below 0, so that a sum of 0 may have cancelled.
    row_bounds
        Largest absolute entry of each row.
    """

    def __init__(self, table: csr_array) -> None:
        self.entries = columns_on_grid(table)
        self.signed = bool((self.entries.data < 0).any())
        self.row_bounds: Float64[np.ndarray, " items"] = abs(self.entries).max(axis=1).toarray()


@final
class SparseScorer:
    """`Scorer` of ``x @ table`` for binary histories ``x``; fast scores are the exact ones.

    Parameters
    ----------
    table
        Whose rows are added.
    histories
        Who is scored.
    """

    def __init__(self, table: SparseTable, histories: Histories) -> None:
        x = histories.matrix
        self._table, kind = table.entries, table.entries.indices.dtype
        # With indices of another kind, scipy would copy the table.
        parts = (np.ones(x.nnz), x.indices.astype(kind), x.indptr.astype(kind))
        self._x = csr_array(parts, shape=x.shape)
        self._row_bounds = table.row_bounds
        self._signed = table.signed
        self._block: tuple[slice, np.ndarray] | None = None
        self._all: Float64[np.ndarray, "users items"] | None = None

    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """Exact sums rounded to float32, all items of as many users as the caller asked for."""
        n_users, n_items = self._x.shape
        for block in item_blocks(n_items, n_users):
            whole = block == slice(0, n_items)
            sums = (self._x @ (self._table if whole else self._table[:, block])).toarray()
            if whole:
                self._all = sums  # `exact` is asked next, of the same rows
            self._block = block, sums
            yield block, torch.from_numpy(sums.astype(np.float32))

    def lacking(self) -> Bool[Tensor, "users block"] | None:
        """Where no entry of the table joins the history and an item."""
        assert self._block is not None  # `blocks` came before
        block, sums = self._block
        if self._signed:
            sums = (self._x @ abs(self._table[:, block])).toarray()
        return torch.from_numpy(sums == 0)

    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Sums without rounding, rounded once to float32."""
        return self.sums(rows, items).astype(np.float32)

    def sums(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float64[np.ndarray, " pairs"]:
        """Sums without rounding."""
        if self._all is not None:
            sums: np.ndarray = self._all[rows, items]
            return sums
        return _row_by_row(
            lambda some: (self._x[some] @ self._table).toarray(), rows, items, self._x.shape[1]
        )

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """Both are equal."""
        return np.zeros(self._x.shape[0])

    def largest(self) -> Float64[np.ndarray, " users"]:
        """Sum of the row bounds."""
        sums: np.ndarray = self._x @ self._row_bounds
        return sums


@final
class DenseScorer:
    """`Scorer` of a model that scores all items itself; fast scores are the exact ones.

    Parameters
    ----------
    scores
        Float32 or float64, shape ``(users, items)``, or a function of histories that returns such
        an array. The function is asked for some of the histories where not all are needed: a row
        must depend on its own history alone. It is not copied.
    histories
        Who is scored; as many as may have all their scores held at once.
    partial
        Accept minus infinity, which keeps an item out of the list.

    Raises
    ------
    RecaeError
        Here or when scores are asked for, if they are no such array or not finite.
    """

    def __init__(
        self,
        scores: np.ndarray | Callable[[Histories], np.ndarray],
        histories: Histories,
        *,
        partial: bool = False,
    ) -> None:
        self._histories, self._partial = histories, partial
        self._given = scores
        self._all = None if callable(scores) else self._checked(scores, len(histories))

    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """Scores rounded to float32."""
        scores = self._scores()
        for block in item_blocks(scores.shape[1], len(scores)):
            yield block, torch.from_numpy(scores[:, block].astype(np.float32, order="C"))

    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Scores rounded to float32."""
        return self.sums(rows, items).astype(np.float32)

    def sums(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float64[np.ndarray, " pairs"]:
        """Scores as they were given."""
        if self._all is None:
            return _row_by_row(self._of, rows, items, self._histories.n_items)
        sums: np.ndarray = self._all[rows, items].astype(np.float64)
        return sums

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """Both are equal."""
        return np.zeros(len(self._histories))

    def largest(self) -> Float64[np.ndarray, " users"]:
        """Largest score."""
        lowest, highest = (end(self._scores(), axis=1, initial=0.0) for end in (np.min, np.max))
        largest: np.ndarray = np.maximum(-lowest, highest).astype(np.float64)
        return largest

    def _scores(self) -> np.ndarray:
        if self._all is None:
            self._all = self._of(np.arange(len(self._histories)))
        return self._all

    def _of(self, rows: Int64[np.ndarray, " some"]) -> np.ndarray:
        assert callable(self._given)
        every = len(rows) == len(self._histories)
        histories = self._histories if every else self._histories.take(rows)
        return self._checked(self._given(histories), len(rows))

    def _checked(self, scores: object, n_users: int) -> np.ndarray:
        if not isinstance(scores, np.ndarray) or scores.dtype not in (np.float32, np.float64):
            kind = getattr(scores, "dtype", type(scores).__name__)
            raise RecaeError(
                f"a model gave scores of type {kind};"
                " a NumPy array of float32 or float64 is accepted"
            )
        accepted = (n_users, self._histories.n_items)
        if scores.shape != accepted:
            raise RecaeError(
                f"a model gave scores of shape {scores.shape}; {accepted} is accepted,"
                " a row for each history"
            )
        for end in (scores.min(initial=0.0), scores.max(initial=0.0)):  # NaN if one is
            if not abs(end) <= _LARGEST and not (self._partial and end == -np.inf):
                raise RecaeError(
                    f"a model gave scores that are not finite in float32, such as {end}"
                )
        return scores


def stored_entries(rows: csr_array, histories: Histories) -> DenseScorer:
    """`Scorer` that knows the stored entries of `rows`; lists hold no other items.

    Parameters
    ----------
    rows
        ``(users, items)``, as many users as may be held at once.
    histories
        Whose rows they are.
    """
    scores = np.full(rows.shape, -np.inf, dtype=np.float32)
    entries = rows.tocoo()
    scores[entries.coords] = entries.data
    return DenseScorer(scores, histories, partial=True)


def _row_by_row(
    dense: Callable[[Int64[np.ndarray, " some"]], np.ndarray],
    rows: Int64[np.ndarray, " pairs"],
    items: Int64[np.ndarray, " pairs"],
    n_items: int,
) -> Float64[np.ndarray, " pairs"]:
    """Entries of `dense`, which gives all items of some rows, as many as may be held at once."""
    out = np.empty(items.shape)
    asked = np.unique(rows)
    at_once = rows_at_once(n_items)
    for start in range(0, len(asked), at_once):
        some = asked[start : start + at_once]
        part = slice(*np.searchsorted(rows, [some[0], some[-1] + 1]))
        out[part] = dense(some)[np.searchsorted(some, rows[part]), items[part]]
    return out


@final
class SumScorer:
    """`Scorer` of a weighted sum of scores.

    Exact scores are added in float64, in the order of the parts, and rounded once to float32.

    Parameters
    ----------
    parts
        At least one, all of the same histories and items.
    weights
        A finite number for each part; 1 where None.
    """

    def __init__(self, parts: Sequence[Summand], weights: Sequence[float] | None = None) -> None:
        weights = [1.0] * len(parts) if weights is None else weights
        self._terms = list(zip(weights, parts, strict=True))

    def proposals(self) -> Proposals:
        """Sum of the cheapest scores of each part."""
        each = [proposals_of(part) for _, part in self._terms]
        return Proposals(
            self._added([p.blocks for p in each]), self._bound([p.error for p in each])
        )

    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """Fast scores of the parts, added in float32.

        Raises
        ------
        RecaeError
            If the blocks of the parts are not the same.
        """
        return self._added([part.blocks() for _, part in self._terms])

    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """`sums`, rounded once to float32."""
        return self.sums(rows, items).astype(np.float32)

    def sums(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float64[np.ndarray, " pairs"]:
        """Exact scores of the parts, added in float64."""
        total = np.zeros(items.shape)
        for weight, part in self._terms:
            total += weight * part.sums(rows, items)
        return total

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """Errors of the parts, and the roundings of weights, products and sums."""
        return self._bound([part.error_bound() for _, part in self._terms])

    def lacking(self) -> Bool[Tensor, "users block"] | None:
        """Where every part lacks evidence."""
        found: Tensor | None = None
        for _, part in self._terms:
            lacks = lacking_of(part)
            if lacks is None:
                return None
            found = lacks if found is None else found & lacks.to(found.device)
        return found

    def largest(self) -> Float64[np.ndarray, " users"]:
        """Sum of the largest scores of the parts."""
        largest = [abs(weight) * part.largest() for weight, part in self._terms]
        total: np.ndarray = 1.01 * np.sum(largest, axis=0)
        return total

    @torch.no_grad()
    def _added(
        self, each: Sequence[Iterator[tuple[slice, Tensor]]]
    ) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        for together in zip(*each, strict=True):
            (block, total), *others = together
            if any(other != block for other, _ in others):
                raise RecaeError("parts of a sum have blocks other than those of `item_blocks`")
            (first, _), *rest = self._terms
            if first != 1:
                total.mul_(first)
            for (weight, _), (_, scores) in zip(rest, others, strict=True):
                total.add_(scores.to(total.device), alpha=weight)
            yield block, total

    def _bound(
        self, errors: Sequence[Float64[np.ndarray, " users"]]
    ) -> Float64[np.ndarray, " users"]:
        """Bound of the error of the sum of fast scores that are off by `errors`.

        A fast term rounds its weight and its product, each addition rounds once, and so do the
        exact score of a part and the exact sum, by 2**-24 of the largest that they can be.
        """
        error, largest = np.zeros(errors[0].shape), np.zeros(errors[0].shape)
        for (weight, part), off in zip(self._terms, errors, strict=True):
            error += abs(weight) * off
            largest += (abs(weight) + _TINY) * (part.largest() + off + _TINY)
        return error + 2.0**-24 * 1.01 * (len(errors) + 3) * largest + _TINY
