"""Scores of linear item-item models: the sum of the history's rows of one items x items table."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from scipy.sparse import csr_array
from torch import Tensor

from recae.data.histories import Histories
from recae.ranking.propose import MAX_CELLS


@final
class ItemWeightScorer:
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

    @torch.no_grad()
    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """Float32 sums, all items of as many users as the caller asked for."""
        n_users, n_items = self._x.shape
        items = torch.from_numpy(self._x.indices.astype(np.int64))
        offsets = torch.from_numpy(self._x.indptr[:-1].astype(np.int64))
        at_once = max(256, MAX_CELLS // max(1, n_users))
        for start in range(0, n_items, at_once):
            block = slice(start, min(n_items, start + at_once))
            yield (
                block,
                torch.nn.functional.embedding_bag(
                    items, self._weights[:, block].contiguous(), offsets, mode="sum"
                )
                if at_once < n_items
                else torch.nn.functional.embedding_bag(items, self._weights, offsets, mode="sum"),
            )

    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Sums without rounding, rounded once to float32."""
        table = self._weights.numpy()
        out = np.empty(items.shape, dtype=np.float32)
        asked, starts = np.unique(rows, return_index=True)
        for row, start, stop in zip(asked, starts, np.append(starts, len(rows))[1:], strict=True):
            history = self._x.indices[self._x.indptr[row] : self._x.indptr[row + 1]]
            entries = table[history[:, None], items[start:stop][None, :]]  # (history, items)
            out[start:stop] = entries.sum(axis=0, dtype=np.float64)
        return out

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """``n`` additions, each rounding by 2**-24 of at most the sum of the row bounds."""
        sums = self._x @ self._row_bounds.astype(np.float64)
        bound: np.ndarray = 2.0**-24 * 1.01 * (np.diff(self._x.indptr) + 2) * sums
        return bound
