r"""Scores from a table in bfloat16, and how far they can be from the exact ones.

Let :math:`\hat h, \hat w_i` be a hidden vector and an item's row rounded to bfloat16, and
:math:`d = h - \hat h`, :math:`r_i = w_i - \hat w_i`. Then

.. math:: \langle h, w_i\rangle - \langle\hat h, \hat w_i\rangle
    = \langle\hat h, r_i\rangle + \langle d, w_i\rangle
    \le \|\hat h\| \max_i \|r_i\| + \|d\| \max_i \|w_i\|

by Cauchy and Schwarz. The residuals are known, so nothing is assumed about how the roundings fell.
The bias takes two more columns, its bfloat16 and that of the remainder. The product adds `n`
products in float32, each addition within :math:`2^{-24}` of a partial sum that is at most
:math:`\|\hat h\| \|\hat w_i\|`; twice that is allowed, as hardware may add pairs. It is then
rounded to bfloat16, by at most :math:`2^{-8}` of itself. Numbers too small to be normal may be
taken for 0.
"""

from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import BFloat16, Float32, Float64
from torch import Tensor

from recae.ranking.propose import MAX_CELLS, Proposals

_ALIGNED = 32  # columns of the widest unit that multiplies
_FEW = 16  # users for whom the other order of the product is the faster one
_TINY = 2.0**-120


@final
class RoundedTable:
    """An output layer in bfloat16.

    Parameters
    ----------
    weight, bias
        The layer, from `recae.ranking.fixed_point.weights_on_grid`.
    """

    def __init__(
        self, weight: Float32[Tensor, "items width"], bias: Float32[Tensor, " items"]
    ) -> None:
        n_items, width = weight.shape
        columns = -(-(width + 2) // _ALIGNED) * _ALIGNED
        table = torch.zeros(n_items, columns, dtype=torch.bfloat16, device=weight.device)
        table[:, :width] = weight
        table[:, width] = bias
        table[:, width + 1] = bias - table[:, width].float()
        self._table = table
        self._width = width
        rest = bias.double() - table[:, width].double() - table[:, width + 1].double()
        self._bias_residual = _largest(rest.abs())
        self._residual = _largest_norm(weight, table[:, :width])
        self._norm = _largest_norm(weight)
        self._table_norm = _largest_norm(table)
        self._bias = _largest(bias.abs())

    def proposals(self, hidden: Float64[Tensor, "users width"]) -> Proposals:
        """Scores of all items for `hidden`, users side by side in memory, and their error."""
        rounded = torch.zeros(
            len(hidden), self._table.shape[1], dtype=torch.bfloat16, device=hidden.device
        )
        rounded[:, : self._width] = hidden
        rounded[:, self._width : self._width + 2] = 1
        kept = rounded[:, : self._width].double()
        norm = kept.norm(dim=1)
        exact = self._norm * hidden.norm(dim=1) + self._bias
        product = self._table_norm * (norm + 2)
        n_terms = rounded.shape[1]
        absolute = (
            norm * self._residual
            + (hidden - kept).norm(dim=1) * self._norm
            + self._bias_residual
            + 2.0**-23 * n_terms * product
            + 2.0**-24 * exact  # the exact score is rounded to float32
            + _TINY * n_terms * (1 + norm + self._table_norm)
        )
        bound = (absolute * 1.0001).cpu().numpy()  # more than the norms' own rounding
        return Proposals(self._blocks(rounded), bound, 2.0**-8)

    def _blocks(
        self, hidden: BFloat16[Tensor, "users columns"]
    ) -> Iterator[tuple[slice, BFloat16[Tensor, "users block"]]]:
        across = hidden.T.contiguous()
        at_once = max(256, MAX_CELLS // max(1, len(hidden)))
        for start in range(0, len(self._table), at_once):
            block = slice(start, min(len(self._table), start + at_once))
            if len(hidden) < _FEW:
                yield block, torch.mm(hidden, self._table[block].T)
            else:  # with the table as the right factor, this takes up to twice as long
                yield block, torch.mm(self._table[block], across).T


def _largest(values: Tensor) -> float:
    return float(values.max()) if values.numel() else 0.0


def _largest_norm(table: Tensor, less: Tensor | None = None) -> float:
    """Largest norm of a row of `table`, or of its difference to `less`, a block at a time."""
    largest = 0.0
    for start in range(0, len(table), 4096):
        rows = table[start : start + 4096].double()
        if less is not None:
            rows = rows - less[start : start + 4096].double()
        largest = max(largest, _largest(rows.norm(dim=1)))
    return largest
