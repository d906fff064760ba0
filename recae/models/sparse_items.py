"""Scores of sparse item-item models: the sum of the history's rows of one sparse table."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from scipy.sparse import csr_array
from torch import Tensor

from recae.data.histories import Histories
from recae.ranking.propose import MAX_CELLS

_BITS = 24


def columns_on_grid(table: csr_array) -> csr_array:
    """Round each column to multiples of a power of two, 24 bits below its largest entry.

    Up to 2**29 entries of a column then add in float64 without rounding, and each fits into a
    float32.

    Returns
    -------
    Sorted copy: float64, int32 indices where they suffice, without stored zeros.
    """
    out: csr_array = table.astype(np.float64, copy=True)
    out.sum_duplicates()
    largest = np.zeros(out.shape[1])
    np.maximum.at(largest, out.indices, np.abs(out.data))
    exponent = np.frexp(largest)[1]
    exponent += np.round(np.ldexp(largest, _BITS - exponent)) == 2**_BITS  # rounds up to the next
    steps = exponent[out.indices] - _BITS
    out.data = np.ldexp(np.round(np.ldexp(out.data, -steps)), steps)
    out.eliminate_zeros()
    if out.nnz < np.iinfo(np.int32).max:
        out.indices, out.indptr = out.indices.astype(np.int32), out.indptr.astype(np.int32)
    return out


@final
class SparseSums:
    """Entries of ``x @ table`` for binary histories ``x``, added without rounding.

    Parameters
    ----------
    table
        ``(items, items)``, from `columns_on_grid`.
    histories
        Whose rows of the table are added.
    """

    def __init__(self, table: csr_array, histories: Histories) -> None:
        x, kind = histories.matrix, table.indices.dtype  # of another kind, scipy copies the table
        parts = (np.ones(x.nnz), x.indices.astype(kind), x.indptr.astype(kind))
        self.x = csr_array(parts, shape=x.shape)
        self._table = table
        self._all: Float64[np.ndarray, "users items"] | None = None

    def blocks(self) -> Iterator[tuple[slice, Float64[np.ndarray, "users block"]]]:
        """All sums, in blocks of items; the caller may not overwrite them."""
        n_users, n_items = self.x.shape
        at_once = max(256, MAX_CELLS // max(1, n_users))
        if at_once >= n_items:
            self._all = (self.x @ self._table).toarray()  # `at` is asked next, of the same rows
            yield slice(0, n_items), self._all
            return
        for start in range(0, n_items, at_once):
            block = slice(start, min(n_items, start + at_once))
            yield block, (self.x @ self._table[:, block]).toarray()

    def at(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float64[np.ndarray, " pairs"]:
        """Sums of ``items[i]`` for the history ``rows[i]``, rows in ascending order."""
        if self._all is not None:
            sums: np.ndarray = self._all[rows, items]
            return sums
        out = np.empty(items.shape)
        asked = np.unique(rows)
        at_once = max(1, MAX_CELLS // max(1, self.x.shape[1]))
        for start in range(0, len(asked), at_once):
            some = asked[start : start + at_once]
            part = slice(*np.searchsorted(rows, [some[0], some[-1] + 1]))
            dense = (self.x[some] @ self._table).toarray()
            out[part] = dense[np.searchsorted(some, rows[part]), items[part]]
        return out


@final
class SparseItemScorer:
    """`Scorer` of ``x @ table``: see `SparseSums`."""

    def __init__(self, table: csr_array, histories: Histories) -> None:
        self._sums = SparseSums(table, histories)
        self._n_users = len(histories)

    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """Exact sums rounded to float32, all items of as many users as the caller asked for."""
        for block, sums in self._sums.blocks():
            yield block, torch.from_numpy(sums.astype(np.float32))

    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Sums without rounding, rounded once to float32."""
        return self._sums.at(rows, items).astype(np.float32)

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """Both are equal."""
        return np.zeros(self._n_users)


@final
class StoredEntries:
    """`Scorer` that knows the stored entries of its rows and nothing of other items.

    Parameters
    ----------
    rows
        ``(users, items)``, as many users as may be held at once.
    """

    def __init__(self, rows: csr_array) -> None:
        entries = rows.tocoo()
        self._scores = np.full(rows.shape, -np.inf, dtype=np.float32)
        self._scores[entries.coords] = entries.data

    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """All items at once; minus infinity where nothing is stored."""
        yield slice(0, self._scores.shape[1]), torch.from_numpy(self._scores.copy())

    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Return the entries themselves."""
        entries: np.ndarray = self._scores[rows, items]
        return entries

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """Both are equal."""
        return np.zeros(len(self._scores))
