"""`DevicePath`: the two wide layers of a network as kernels that never wait for the host.

All arrays have a fixed size, and all that changes from step to step lies on the device, so that a
whole step can be recorded in a CUDA graph and replayed. The equations are those of
`fused_softmax` and `item_bags`; both tables are updated during the backward pass.
"""

from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from recae.networks.batch import SparseBatch
from recae.networks.kernels.entries import Entries
from recae.networks.kernels.moments import ItemTable, Schedule

STORED_BYTES = 8 << 30  # of `e`, from where on it is computed twice instead
# Columns beside the weights in the copy of the output layer: bias and shift, in two parts each.
_SPARE = 4
# Items whose largest logit is the shift, and the sum of `e` above which, or below the inverse of
# which, it is too far away. Rounded to bfloat16 it can lie above all logits, by 64 at 3e4.
_FEW = 256
_LIMIT = 1e9


@runtime_checkable
class StepKernels(Protocol):
    """What a step is made of; `in_torch` says what each computes, `in_triton` is fast."""

    tile: int

    def entries(
        self, all_items: Tensor, sources: Tensor, offsets: Tensor, counter: Tensor, seed: Tensor,
        *, n_items: int, capacity: int, dropout: float, dtype: torch.dtype,
    ) -> Entries:  # fmt: skip
        """Entries of the users whose histories start at `sources`, dropped out."""
        ...

    def noise(
        self, shape: tuple[int, int], counter: Tensor, seed: Tensor, dtype: torch.dtype
    ) -> Tensor:
        """Standard normal numbers of this step."""
        ...

    def code(self, mu: Tensor, log_var: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """``mu + noise sigma``, and the divergence of each user."""
        ...

    def code_gradients(
        self, mu: Tensor, log_var: Tensor, noise: Tensor, dz: Tensor, dkl: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of mean and log-variance."""
        ...

    def columns(self, h: Tensor, n_columns: int, dtype: torch.dtype) -> Tensor:
        """`h` beside 1, 1 and a shift of 0."""
        ...

    def set_shift(self, columns: Tensor, logits: Tensor, width: int) -> None:
        """Make the largest of some logits the shift of each user."""
        ...

    def exp(
        self, columns: Tensor, table: Tensor, e: Tensor, sums: Tensor, largest: Tensor,
        flags: Tensor, *, n_live: int, first_tile: int, again: bool,
    ) -> None:  # fmt: skip
        """``exp(columns table^T)`` into `e`, with sums and largest logits by tiles of items."""
        ...

    def add_sums(
        self, sums: Tensor, largest: Tensor, columns: Tensor, flags: Tensor,
        *, width: int, limit: float, again: bool,
    ) -> Tensor:  # fmt: skip
        """Sum of `e` of each user; at first, move the shift of those far from 1, and flag them."""
        ...

    def scale(
        self, columns: Tensor, gradient: Tensor, offsets: Tensor, s: Tensor, width: int
    ) -> tuple[Tensor, Tensor]:
        """``gradient n / s`` of each user, and the columns times it."""
        ...

    def targets(self, entries: Entries, s: Tensor, e: Tensor, *, begin: int, end: int) -> None:
        """Take ``s / n`` from `e` at the entries among items `begin` to `end`."""
        ...

    def bag(self, table: Tensor, entries: Entries, values: Tensor | None, width: int) -> Tensor:
        """Sum of the rows of each user's entries, weighted by `values`."""
        ...

    def encoder(
        self, table: ItemTable, gradient: Tensor | None, entries: Entries, order: Tensor,
        starts: Tensor, schedule: Schedule, *, every_row: bool, decay: float,
    ) -> None:  # fmt: skip
        """Bring rows up to date, and update them where there is a gradient of the bags."""
        ...

    def output(
        self, table: ItemTable, bias: ItemTable, gradient: Tensor, schedule: Schedule,
        *, begin: int, end: int, decay: float,
    ) -> None:  # fmt: skip
        """Update rows of the output layer."""
        ...


@final
class DevicePath:
    """How a network's `loss_given` treats its first and its last layer; see `WidePath`.

    Parameters
    ----------
    table
        Encoder table, shape ``(items, width)``.
    weight, bias
        Output layer.
    popular
        Items that are asked for the shift, the most popular ones.
    schedule
        Where the run is.
    kernels
        Who computes.
    dtype
        Of the operands of the products; sums are float32.
    decay
        Added to the gradients of both tables, times the weights.
    deferred
        Put off updates of encoder rows without an entry until they are read.
    stored_bytes
        Largest `e` to hold. A larger one is made block by block of items, and again in the
        backward pass, for a third more arithmetic.
    """

    def __init__(
        self,
        table: Float[Tensor, "items width"],
        weight: Float[Tensor, "items last"],
        bias: Float[Tensor, " items"],
        *,
        popular: Int64[Tensor, " few"],
        schedule: Schedule,
        kernels: StepKernels,
        dtype: torch.dtype,
        decay: float,
        deferred: bool,
        stored_bytes: int = STORED_BYTES,
    ) -> None:
        n_items, width = weight.shape
        device, tile = weight.device, kernels.tile
        self.n_columns = -(-(width + _SPARE) // 16) * 16  # rows of 32 bytes and more are aligned
        self.n_rows = -(-n_items // tile) * tile
        self.table = ItemTable.of(table, torch.empty_like(table, dtype=dtype).detach())
        copy = torch.zeros(self.n_rows, self.n_columns, dtype=dtype, device=device)
        self.output = ItemTable.of(weight, copy)
        self.bias = ItemTable.of(bias, bias.detach())
        self.popular = popular[:_FEW]
        self.schedule, self.kernels, self.dtype = schedule, kernels, dtype
        self.decay, self.deferred, self.stored_bytes = decay, deferred, stored_bytes
        self.step: StepEntries | None = None
        self.refresh()

    @property
    def updates(self) -> bool:
        """The tables are updated during the backward pass, weight decay included."""
        return True

    def refresh(self) -> None:
        """Make the copies again, after the weights were set from outside."""
        self.table.copy.copy_(self.table.weight)
        self.output.refresh_output(self.bias.weight, slice(0, len(self.output.weight)))

    def block(self, n_users: int) -> int:
        """Items whose `e` is held at once."""
        fitting = self.stored_bytes // (n_users * self.dtype.itemsize)
        tile = self.kernels.tile
        return min(self.n_rows, max(tile, fitting // tile * tile))

    def settle(self) -> None:
        """Do every update that was put off."""
        if self.deferred and self.step is not None:
            self._encoder(self.step, None, every_row=True)

    def bag(
        self,
        table: Float[Tensor, "items width"],
        x: SparseBatch,
        values: Float[Tensor, " nnz"],
    ) -> Float[Tensor, "batch width"]:
        """Sum of the table rows of each history, weighted by the values drawn with the entries."""
        assert self.step is not None
        assert values is self.step.entries.values
        summed: Tensor = _Bag.apply(table, self, self.step)  # type: ignore[no-untyped-call]  # autograd
        return summed

    def code(
        self,
        mu: Float[Tensor, "batch latent"],
        log_var: Float[Tensor, "batch latent"],
        noise: Float[Tensor, "batch latent"],
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, " batch"]]:
        """Code ``mu + noise * sigma`` of each history, and its divergence."""
        drawn: tuple[Tensor, Tensor] = _Code.apply(mu, log_var, noise, self.kernels)  # type: ignore[no-untyped-call]  # autograd
        return drawn

    def nll(
        self,
        hidden: Float[Tensor, "batch width"],
        weight: Float[Tensor, "items width"],
        bias: Float[Tensor, " items"],
        x: SparseBatch,
    ) -> Float[Tensor, " batch"]:
        """Negative log-likelihood of each history, given the last hidden layer."""
        assert self.step is not None
        nll: Tensor = _Likelihood.apply(hidden, self, self.step)  # type: ignore[no-untyped-call]  # autograd
        return nll

    def _encoder(self, step: "StepEntries", gradient: Tensor | None, *, every_row: bool) -> None:
        self.kernels.encoder(
            self.table, gradient, step.entries, step.order, step.starts, self.schedule,
            every_row=every_row, decay=self.decay,
        )  # fmt: skip


@final
@dataclass(frozen=True, slots=True, eq=False)
class StepEntries:
    """Entries of a step, and their order by item.

    Attributes
    ----------
    order
        Entries by item, in the order of users.
    starts
        Where the kept entries of each item start in `order`, shape ``(items + 1,)``.
    """

    entries: Entries
    order: Int64[Tensor, " capacity"]
    starts: Int64[Tensor, " ends"]

    @classmethod
    def of(cls, entries: Entries, n_items: int) -> "StepEntries":
        """Sort the entries."""
        # Half as many digits to sort where they suffice.
        keys = entries.keys.to(torch.int16) if n_items < 32_767 else entries.keys
        keys, order = torch.sort(keys, stable=True)
        edges = torch.arange(n_items + 1, device=keys.device, dtype=keys.dtype)
        return cls(entries, order, torch.searchsorted(keys, edges))


class _Bag(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, path: DevicePath, step: StepEntries) -> Tensor:
        ctx.path, ctx.step = path, step
        if path.deferred:
            path._encoder(step, None, every_row=False)
        values = step.entries.values
        return path.kernels.bag(path.table.copy, step.entries, values, table.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        ctx.path._encoder(ctx.step, gradients[0], every_row=not ctx.path.deferred)
        return None, None, None


class _Code(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, log_var: Tensor, noise: Tensor, kernels: StepKernels
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(mu, log_var, noise)
        ctx.kernels = kernels
        return kernels.code(mu, log_var, noise)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        mu, log_var, noise = ctx.saved_tensors
        d_mu, d_log_var = ctx.kernels.code_gradients(mu, log_var, noise, *gradients)
        return d_mu, d_log_var, None, None


class _Likelihood(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, path: DevicePath, step: StepEntries) -> Tensor:
        kernels, copy = path.kernels, path.output.copy
        n_users, width, tile = len(h), h.shape[1], kernels.tile
        sums_dtype = torch.promote_types(path.dtype, torch.float32)
        columns = kernels.columns(h, path.n_columns, path.dtype)
        kernels.set_shift(columns, columns @ copy[path.popular].T, width)
        sums, largest = torch.empty(
            2, path.n_rows // tile, n_users, dtype=sums_dtype, device=h.device
        )
        flags = torch.empty(n_users, dtype=torch.int32, device=h.device)
        e = torch.empty(n_users, path.block(n_users), dtype=path.dtype, device=h.device)
        s = sums[0]
        for again in (False, True):
            for begin, end in _blocks(path, n_users):
                _exp(path, columns, e, (sums, largest, flags), begin, end, again=again)
            s = kernels.add_sums(
                sums, largest, columns, flags, width=width, limit=_LIMIT, again=again
            )
        own = kernels.bag(copy, step.entries, None, path.n_columns)
        lengths = step.entries.offsets.diff()
        ctx.kept = path, step, columns, e, s, (sums, largest, flags)
        nll: Tensor = lengths * s.log() - (own * columns).sum(1)
        return nll

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        path, step, columns, e, s, scratch = ctx.kept
        kernels, copy, n_users = path.kernels, path.output.copy, len(columns)
        n_items, width = path.output.weight.shape
        scale, scaled = kernels.scale(columns, gradients[0], step.entries.offsets, s, width)
        blocks = _blocks(path, n_users)
        dh = None
        dw = torch.empty(e.shape[1], path.n_columns, dtype=path.dtype, device=e.device)
        for begin, end in blocks:
            part, rows = e[:, : end - begin], dw[: end - begin]
            if len(blocks) > 1:
                _exp(path, columns, e, scratch, begin, end, again=False)
            kernels.targets(step.entries, s, part, begin=begin, end=min(end, n_items))
            product = torch.mm(part, copy[begin:end])[:, :width]
            dh = product * scale[:, None] if dh is None else dh + product * scale[:, None]
            torch.mm(part.T, scaled, out=rows)
            kernels.output(
                path.output, path.bias, rows, path.schedule,
                begin=begin, end=min(end, n_items), decay=path.decay,
            )  # fmt: skip
        return dh, None, None


def _blocks(path: DevicePath, n_users: int) -> list[tuple[int, int]]:
    """First and last item (exclusive, padding included) of each block."""
    block = path.block(n_users)
    return [(s, min(s + block, path.n_rows)) for s in range(0, path.n_rows, block)]


def _exp(
    path: DevicePath,
    columns: Tensor,
    e: Tensor,
    scratch: tuple[Tensor, Tensor, Tensor],
    begin: int,
    end: int,
    *,
    again: bool,
) -> None:
    sums, largest, flags = scratch
    path.kernels.exp(
        columns, path.output.copy[begin:end], e[:, : end - begin], sums, largest, flags,
        n_live=len(path.output.weight) - begin, first_tile=begin // path.kernels.tile, again=again,
    )  # fmt: skip
