"""`ItemTable`: a table with what Adam keeps of it, and the copy that products read."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@final
@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """What changes from step to step, on the device.

    Attributes
    ----------
    lines
        A line an update of the run: weight of the KL term, Adam's step size ``lr / (1 - .9**t)``,
        ``1 / sqrt(1 - .999**t)``, and one over the number of users.
    counter
        Updates done.
    """

    lines: Float[Tensor, "steps columns"]
    counter: Int64[Tensor, " one"]

    def now(self) -> Float[Tensor, " columns"]:
        """Line of this step."""
        return self.lines.index_select(0, self.counter)[0]


@final
@dataclass(frozen=True, slots=True, eq=False)
class ItemTable:
    """Weights with a row for each item.

    Attributes
    ----------
    weight
        Shape ``(items, width)``, or ``(items,)`` for a bias; changed in place.
    exp_avg, exp_avg_sq
        Moments of Adam, same shape.
    copy
        The weights as products read them. For the output layer more columns follow (bias in two
        parts, 1, 1, padding) and rows of 0 up to a multiple of a tile.
    last
        Updates done to each row.
    """

    weight: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    copy: Tensor
    last: Int64[Tensor, " items"]

    @classmethod
    def of(cls, weight: Tensor, copy: Tensor) -> "ItemTable":
        """Table before its first update."""
        last = torch.zeros(len(weight), dtype=torch.int64, device=weight.device)
        weight = weight.detach()
        return cls(weight, torch.zeros_like(weight), torch.zeros_like(weight), copy, last)

    def refresh_output(self, bias: Tensor, rows: slice) -> None:
        """Write `rows` of the copy of an output layer."""
        width, part = self.weight.shape[1], self.copy[rows]
        high = bias[rows].to(self.copy.dtype)
        part[:, :width] = self.weight[rows]
        part[:, width] = high
        part[:, width + 1] = bias[rows] - high.to(bias.dtype)
        part[:, width + 2 : width + 4] = 1.0


def adam(table: ItemTable, rows: slice, g: Tensor, schedule: Schedule, decay: float) -> None:
    """One update of Adam (betas 0.9 and 0.999, epsilon 1e-8) for `rows`, by the gradient `g`."""
    _, step_size, root, _ = schedule.now()
    p, m, v = table.weight[rows], table.exp_avg[rows], table.exp_avg_sq[rows]
    g = g + decay * p
    m.mul_(0.9).add_(g, alpha=0.1)
    v.mul_(0.999).addcmul_(g, g, value=0.001)
    p.sub_(step_size * m / (v.sqrt() * root + 1e-8))
