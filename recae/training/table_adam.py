"""`TableAdam`: Adam for a table whose gradient arrives by rows, late rows replayed."""

from typing import final

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

BETAS = (0.9, 0.999)
EPSILON = 1e-8

# Rows from here and there at once, which are gathered first.
_CHUNK = 256
# A first moment that small moves no weight. Left alone it decays to the smallest numbers there are
# and stays, and arithmetic on those is slow on many processors.
_VANISHED = 1e-30


@final
class TableAdam:
    """Adam on the rows of a table; see `RowUpdates` of `recae.networks.fused_softmax`.

    A row that no gradient came for still moves under Adam, by its momentum. Such updates are put
    off until the row is read (`ready`) or everything is settled (`settle`), and then done one by
    one by the kernel of ``torch.optim.Adam(fused=True)``, which a dense gradient would go through.
    Sparse Adam, which forgets them, ends elsewhere.

    Where the width is a multiple of 8, table and moments are bitwise those of the dense gradient
    (but first moments below 1e-30, which are cleared). Otherwise some are roundings apart: the
    kernel takes eight numbers of an array at once and rounds what is left at its end another way,
    and rows gathered here end elsewhere than the table.

    Parameters
    ----------
    table
        Shape ``(rows, width)``, changed in place.
    learning_rate
        Of Adam (betas 0.9 and 0.999, epsilon 1e-8).
    weight_decay
        Times the weights, added to the gradient.

    Attributes
    ----------
    exp_avg, exp_avg_sq
        The moments, same shape; those of rows put off are as of their last update.
    steps
        Updates done.
    """

    def __init__(
        self, table: nn.Parameter, *, learning_rate: float, weight_decay: float = 0.0
    ) -> None:
        self._table = table.detach()
        self._learning_rate = learning_rate
        self._weight_decay = weight_decay
        self.exp_avg: Float32[Tensor, "rows width"] = torch.zeros_like(self._table)
        self.exp_avg_sq: Float32[Tensor, "rows width"] = torch.zeros_like(self._table)
        self.steps = 0
        self._last = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        self._chunk: list[Tensor] = []

    def ready(self, rows: Int64[Tensor, " rows"]) -> None:
        """Do the updates of `rows` that were put off."""
        last = self._last[rows]
        late = last < self.steps
        self._replay(rows[late], last[late])

    def add(
        self, rows: slice | Int64[Tensor, " rows"], gradient: Float[Tensor, "rows width"]
    ) -> None:
        """Do the update of this step for `rows`, which are ready."""
        step = self.steps + 1
        size = len(gradient) if isinstance(rows, slice) else _CHUNK
        for start in range(0, len(gradient), size):
            # float32 only here: a part of the gradient, in the cache
            part = gradient[start : start + size]
            if isinstance(rows, slice):
                some = slice(rows.start + start, rows.start + start + len(part))
                state = (self._table[some], self.exp_avg[some], self.exp_avg_sq[some])
                self._update(state, part.float().contiguous(), step)
            else:
                state = self._gather(rows[start : start + size])
                self._update(state, part.float().contiguous(), step)
                self._scatter(rows[start : start + size], state)
        self._last[rows] = step

    def finish(self) -> None:
        """End the step."""
        self.steps += 1

    def settle(self) -> None:
        """Do every update that was put off."""
        late = (self._last < self.steps).nonzero().squeeze(1)
        self._replay(late, self._last[late])
        torch.hardshrink(self.exp_avg, _VANISHED, out=self.exp_avg)

    def restore(self, exp_avg: Tensor, exp_avg_sq: Tensor, steps: int) -> None:
        """Continue from the state of a settled table after `steps` updates."""
        self.exp_avg.copy_(exp_avg)
        self.exp_avg_sq.copy_(exp_avg_sq)
        self.steps = steps
        self._last.fill_(steps)

    def _replay(self, rows: Int64[Tensor, " rows"], last: Int64[Tensor, " rows"]) -> None:
        """Bring `rows`, updated up to `last`, to the present, without gradients."""
        if self._weight_decay == 0.0:
            moving = last > 0  # before the first gradient all moments are 0: nothing moves
            self._last[rows[~moving]] = self.steps
            rows, last = rows[moving], last[moving]
        last, order = torch.sort(last, stable=True)
        rows = rows[order]
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            # By step, how many rows of the chunk need it: those of the earliest `last`.
            first = int(last[start])
            steps = torch.arange(first + 1, self.steps + 1, device=last.device)
            counts = torch.searchsorted(last[start : start + _CHUNK], steps).tolist()
            state = table, exp_avg, exp_avg_sq = self._gather(part)
            nothing = torch.zeros_like(table)
            for step, count in enumerate(counts, first + 1):
                early = table[:count], exp_avg[:count], exp_avg_sq[:count]
                self._update(early, nothing[:count], step)
            self._scatter(part, state)
        self._last[rows] = self.steps

    def _gather(self, rows: Int64[Tensor, " rows"]) -> tuple[Tensor, Tensor, Tensor]:
        if not self._chunk:
            self._chunk = [self._table.new_empty(_CHUNK, self._table.shape[1]) for _ in range(3)]
        table, exp_avg, exp_avg_sq = (part[: len(rows)] for part in self._chunk)
        torch.index_select(self._table, 0, rows, out=table)
        torch.index_select(self.exp_avg, 0, rows, out=exp_avg)
        torch.index_select(self.exp_avg_sq, 0, rows, out=exp_avg_sq)
        return table, exp_avg, exp_avg_sq

    def _scatter(self, rows: Int64[Tensor, " rows"], state: tuple[Tensor, Tensor, Tensor]) -> None:
        for whole, part in zip((self._table, self.exp_avg, self.exp_avg_sq), state, strict=True):
            whole.index_copy_(0, rows, part)

    def _update(self, state: tuple[Tensor, Tensor, Tensor], gradient: Tensor, step: int) -> None:
        table, exp_avg, exp_avg_sq = state
        # The kernel behind torch.optim.Adam(fused=True), which the tests hold this to.
        torch._fused_adam_(
            [table],
            [gradient],
            [exp_avg],
            [exp_avg_sq],
            [],
            [torch.tensor(float(step), device=table.device)],
            lr=self._learning_rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self._weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )
