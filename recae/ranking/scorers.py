"""Scorers: what models of one form have in common when they rank."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from recae.ranking.fixed_point import float32_error
from recae.ranking.propose import MAX_CELLS
from recae.ranking.rounded import RoundedTable
from recae.ranking.sampled import sampled_products
from recae.ranking.scorer import Proposals

WIDE_BYTES = 1 << 28  # of a float64 copy of the output layer
GATHERED = 4_194_304  # decoder entries gathered at once when rescoring: 32 MiB of float64


@final
class LinearScorer:
    """`Scorer` over the output layer: products of hidden vectors with item rows.

    Parameters
    ----------
    hidden
        From `rows_on_grid`.
    weight
        A row for each item, from `weights_on_grid`.
    bias
        A number for each item.
    rounded
        The layer in 8 bits, where that is faster.
    wide
        Its weights in float64, where there is room for them.
    """

    def __init__(
        self,
        hidden: Float64[Tensor, "users width"],
        weight: Float32[Tensor, "items width"],
        bias: Float32[Tensor, " items"],
        *,
        rounded: RoundedTable | None = None,
        wide: Float64[Tensor, "items width"] | None = None,
    ) -> None:
        self._hidden, self._weight, self._bias = hidden, weight, bias
        self._rounded = rounded
        self._wide = wide

    def proposals(self) -> Proposals:
        """Scores from the rounded layer, or else those of `blocks`."""
        if self._rounded is not None:
            return self._rounded.proposals(self._hidden)
        return Proposals(self.blocks(), self.error_bound())

    @torch.no_grad()
    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """Float32 scores of all items, a block of items at a time."""
        hidden = self._hidden.to(torch.float32)  # exact: see `rows_on_grid`
        n_items = len(self._weight)
        at_once = max(256, MAX_CELLS // max(1, len(hidden)))
        for start in range(0, n_items, at_once):
            block = slice(start, min(n_items, start + at_once))
            yield block, torch.addmm(self._bias[block], hidden, self._weight[block].T)

    @torch.no_grad()
    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Scores whose sums are exact, rounded once to float32."""
        if self._wide is not None:
            bias = self._bias.to(torch.float64)
            sums = sampled_products(self._hidden, self._wide, bias, rows, items)
            return sums.astype(np.float32)
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
        return float32_error(self._hidden, self._weight, self._bias).cpu().numpy()
