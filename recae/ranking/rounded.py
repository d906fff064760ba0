r"""Scores from a table of 8-bit integers, and how far they can be from the exact ones.

An item's row is stored as :math:`\hat w_i = s_i q_i` with integers :math:`q_i` of 8 bits, a hidden
vector as :math:`\hat h` likewise. The product of the integers is exact, and

.. math:: \langle h, w_i\rangle - \langle\hat h, \hat w_i\rangle
    = \langle\hat h, w_i - \hat w_i\rangle + \langle h - \hat h, w_i\rangle
    \le \|\hat h\| \max_i \|w_i - \hat w_i\| + \|h - \hat h\| \max_i \|w_i\|

by Cauchy and Schwarz. The residuals are known, so nothing is assumed about how the roundings fell.
What is left is the arithmetic that makes a float32 score of the integer: five roundings.
"""

from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Float32, Float64, Int8
from torch import Tensor

from recae.ranking.scorer import Proposals, item_blocks

MAX_WIDTH = 1 << 17  # sums of products of 8-bit integers stay below 2**31
_LEVELS = 127
_ALIGNED = 32  # columns of the widest unit that multiplies
_ITEMS = 2048  # of a block whose integers stay in the cache until they are scores
_TINY = 2.0**-120


@final
class RoundedTable:
    """An output layer in 8-bit integers.

    Parameters
    ----------
    weight, bias
        The layer, from `recae.ranking.fixed_point.weights_on_grid`; at most `MAX_WIDTH` wide.
    """

    def __init__(
        self, weight: Float32[Tensor, "items width"], bias: Float32[Tensor, " items"]
    ) -> None:
        n_items, width = weight.shape
        assert width <= MAX_WIDTH
        columns = -(-width // _ALIGNED) * _ALIGNED
        self._bias = bias.unsqueeze(1)
        self._table = torch.zeros(n_items, columns, dtype=torch.int8)
        self._scale = torch.empty(n_items, 1)
        self._residual = self._norm = self._table_norm = 0.0
        for start in range(0, n_items, _ITEMS):
            part = slice(start, start + _ITEMS)
            rows = weight[part].to(torch.float64)
            self._table[part], self._scale[part], kept = _in_8_bits(rows, columns)
            self._norm = max(self._norm, _largest_norm(rows))
            self._table_norm = max(self._table_norm, _largest_norm(kept))
            self._residual = max(self._residual, _largest_norm(rows - kept))
        self._largest_bias = float(bias.abs().max()) if n_items else 0.0

    def proposals(self, hidden: Float64[Tensor, "users width"]) -> Proposals:
        """Scores of all items for `hidden`, users side by side in memory, and their error."""
        integers, scale, kept = _in_8_bits(hidden, self._table.shape[1])
        product = kept.norm(dim=1) * self._table_norm
        exact = hidden.norm(dim=1) * self._norm
        absolute = (
            kept.norm(dim=1) * self._residual
            + (hidden - kept).norm(dim=1) * self._norm
            + 2.0**-23 * (2 * product + self._largest_bias)
            + 2.0**-24 * (exact + self._largest_bias)  # the exact score is rounded to float32
            + _TINY
        )
        bound = (absolute * 1.0001).numpy()  # more than the norms' own rounding
        return Proposals(self._blocks(integers, scale[:, 0]), bound)

    def _blocks(
        self, hidden: Int8[Tensor, "users columns"], scale: Float32[Tensor, " users"]
    ) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        n_items, n_users = len(self._table), len(hidden)
        sums = torch.empty(min(_ITEMS, n_items), n_users, dtype=torch.int32)
        for block in item_blocks(n_items, n_users):
            scores = torch.empty(block.stop - block.start, n_users)
            for first in range(block.start, block.stop, _ITEMS):
                part = slice(first, min(first + _ITEMS, block.stop))
                some = sums[: part.stop - first]
                into = scores[first - block.start : part.stop - block.start]
                torch._int_mm(self._table[part], hidden.T, out=some)
                into.copy_(some).mul_(self._scale[part])
                torch.addcmul(self._bias[part], into, scale, out=into)
            yield block, scores.T


def _in_8_bits(
    rows: Float64[Tensor, "rows n"], columns: int
) -> tuple[Int8[Tensor, "rows columns"], Float32[Tensor, "rows 1"], Float64[Tensor, "rows n"]]:
    """Integers padded to `columns`, the scale of each row, and what both together stand for."""
    largest = (
        rows.abs().amax(dim=1, keepdim=True) if rows.shape[1] else rows.new_zeros(len(rows), 1)
    )
    scale = (largest / _LEVELS).clamp(min=_TINY).to(torch.float32)
    integers = (rows / scale).round_().clamp_(-_LEVELS, _LEVELS)
    padded = torch.zeros(len(rows), columns, dtype=torch.int8)
    padded[:, : rows.shape[1]] = integers
    return padded, scale, integers.mul_(scale)


def _largest_norm(rows: Float64[Tensor, "rows n"]) -> float:
    return float(rows.norm(dim=1).max()) if len(rows) else 0.0
