"""The multinomial likelihood through the output table, by blocks of items.

For a user with n items, output ``h`` of the last hidden layer and logits ``z = W h + b``::

    e_i = exp(z_i - m)   s = sum_i e_i   nll = n (m + log s) - sum of z_i over the n items
    d nll / d z_i = n / s * (e_i - s / n * [i is one of the n items])
    d nll / d h   = n / s * sum_i e_i W_i - sum of W_i over the n items

`e` is held once, rounded to the precision of the products. The shift `m` cancels: any number near
the largest logit does. A block ``(items, users)`` of `e` meets its rows of `W` while it is in the
cache: one product gives `s` and the gradient of `h`. The gradient of `W` follows in the backward
pass, with ``n / s`` folded into the small ``h``. No float32 array of all items exists.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn.functional import embedding_bag

from recae.networks.batch import SparseBatch

Precision = Literal["float32", "bfloat16"]

STORED_BYTES = 1 << 30  # of `e`, from where on it is computed twice instead
# Bytes of `e` in a block of the forward pass (it should stay in the cache) and least items of one,
# items in a block of the backward pass, items that are asked for the shift, and spare columns: two
# for the bias, two for the shift, and four, each of a quarter of the items, that add up `e`: their
# sums are rounded like all products, and four are rounded less.
_BLOCK_BYTES = 1 << 20
_LEAST_ITEMS = 2048
_BLOCK_ITEMS = 1024
_SHIFT_ITEMS = 256
_SPARE = 8
# Users up to whom products are made by halves; of more, adding these up costs more than is gained.
_HALVED_USERS = 1024
# The logarithm of a sum says how far its shift is from the largest logit. From here on bfloat16 is
# coarse: take a better shift. A round leaves a hundredth of the distance, and no less than the
# rounding of the shift; that of 1e8 to bfloat16 is more than an exponential can hold.
_FAR = 20.7
_ROUNDS = 8


@runtime_checkable
class RowUpdates(Protocol):
    """Takes the gradient of a table in parts and updates the rows it belongs to."""

    def ready(self, rows: Int64[Tensor, " rows"]) -> None:
        """Bring `rows` up to date; called before they are read."""
        ...

    def add(self, rows: slice | Int64[Tensor, " rows"], gradient: Float[Tensor, "rows k"]) -> None:
        """Update `rows` by their gradient; each row at most once a step."""
        ...


@final
class FusedSoftmax:
    """Negative multinomial log-likelihood of the output layer, and its gradients.

    The numbers are those of `multinomial_nll` on the logits, to the rounding of `precision`:
    gradients differ from float64 by less than 1e-5 in float32 and 1 % in bfloat16, where autocast
    differs by .4 %. Logits too large for `precision` (above some 1e7 in bfloat16) give a likelihood
    that is not finite, as do numbers that are not.

    Parameters
    ----------
    precision
        Of the operands of the products; sums are float32.
    stored_bytes
        Largest `e` to keep for the backward pass; a larger one is computed again, block by block,
        for a third more arithmetic.
    updates
        Who updates the table while its gradient appears. None returns the gradient to autograd.
    """

    def __init__(
        self,
        precision: Precision,
        *,
        stored_bytes: int = STORED_BYTES,
        updates: RowUpdates | None = None,
    ) -> None:
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self.stored_bytes = stored_bytes
        self.updates = updates
        self._spare_buffer: Tensor | None = None

    def __call__(
        self,
        h: Float[Tensor, "batch width"],
        weight: Float32[Tensor, "items width"],
        bias: Float32[Tensor, " items"],
        x: SparseBatch,
    ) -> Float32[Tensor, " batch"]:
        """Negative log-likelihood of each history in nats; an empty one gives 0.

        Parameters
        ----------
        h
            Output of the last hidden layer.
        weight, bias
            The output layer.
        x
            The histories, none of which holds an item twice.
        """
        if not torch.is_grad_enabled():
            return _forward(self, h, weight, bias, x).nll
        nll: Tensor = _FusedSoftmax.apply(h, weight, bias, x, self)  # type: ignore[no-untyped-call]  # autograd
        return nll

    def lend(self, entries: int, device: torch.device) -> Tensor:
        """Give a buffer for `entries` numbers; memory is kept, as fresh pages cost time."""
        buffer, self._spare_buffer = self._spare_buffer, None
        if buffer is None or len(buffer) < entries or buffer.device != device:
            buffer = torch.empty(entries, dtype=self.dtype, device=device)
        return buffer

    def give_back(self, buffer: Tensor) -> None:
        """Keep `buffer` for the next step."""
        self._spare_buffer = buffer


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """The entries of a batch, sorted by item."""

    users: Int64[Tensor, " nnz"]
    items: Int64[Tensor, " nnz"]

    @classmethod
    def of(cls, x: SparseBatch) -> "_Entries":
        items, order = torch.sort(x.items, stable=True)
        return cls(x.rows()[order], items)

    def blocks(self, n_items: int, block: int, n_users: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Users of each block's entries, and where they lie in a block ``(items, users)``."""
        starts = torch.arange(0, n_items + block, block, device=self.items.device)
        bounds = torch.searchsorted(self.items, starts).tolist()
        for i, (first, last) in enumerate(pairwise(bounds)):
            users = self.users[first:last]
            yield users, (self.items[first:last] - i * block) * n_users + users


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Exponentials:
    """`e` of a batch, or room for a block of it."""

    buffer: Float[Tensor, " numbers"]
    n_users: int
    stored: bool

    def block(self, start: int, stop: int) -> Float[Tensor, "rows batch"]:
        """Where `e` of items `start` to `stop` lies."""
        first = start * self.n_users if self.stored else 0
        return self.buffer[first : first + (stop - start) * self.n_users].view(-1, self.n_users)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Forward:
    """What the forward pass leaves."""

    nll: Float32[Tensor, " batch"]
    h: Float[Tensor, "batch width"]
    columns: Float[Tensor, "columns batch"]
    s: Float32[Tensor, " batch"]
    dh: Float32[Tensor, "batch width"]
    e: _Exponentials


class _FusedSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h: Tensor, weight: Tensor, bias: Tensor, x: SparseBatch, plan: FusedSoftmax
    ) -> Tensor:
        done = _forward(plan, h, weight, bias, x)
        ctx.save_for_backward(weight, bias)
        ctx.x, ctx.plan, ctx.done, ctx.h_dtype = x, plan, done, h.dtype
        return done.nll

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, bias = ctx.saved_tensors
        done, ctx.done = ctx.done, None
        assert done is not None, "a step has one backward pass: it uses up what is stored"
        dh, dw, db = _backward(ctx.plan, done, gradients[0], weight, bias, ctx.x)
        ctx.plan.give_back(done.e.buffer)
        return dh.to(ctx.h_dtype), dw, db, None, None


def _forward(
    plan: FusedSoftmax, h: Tensor, weight: Tensor, bias: Tensor, x: SparseBatch
) -> _Forward:
    n_items, n_users = len(weight), len(h)
    stored = n_items * n_users * plan.dtype.itemsize <= plan.stored_bytes
    block = min(n_items, _block_items(plan.dtype.itemsize, n_users))
    numbers = n_users * (n_items if stored else max(block, _BLOCK_ITEMS))
    e = _Exponentials(plan.lend(numbers, h.device), n_users, stored)
    move = _first_shift(plan, h, weight, bias)
    shift = torch.zeros_like(move)
    for _ in range(_ROUNDS):
        shift = shift + move
        columns = _columns(plan, h, shift)
        s, mixed = _sums(plan, columns, weight, bias, e, block)
        move = rest = s.log()
        if rest.abs().max().item() <= _FAR or not torch.isfinite(shift).all():
            break
        if not torch.isfinite(rest).all():  # some sum says only on which side its logits are
            move = _largest(plan, columns, weight, bias, block)
    own = embedding_bag(x.items, weight, x.offsets, mode="sum")
    own_bias = embedding_bag(x.items, bias[:, None], x.offsets, mode="sum")[:, 0]
    logits = torch.einsum("uk,uk->u", own, h.float()) + own_bias
    nll = x.lengths * (shift + rest) - logits
    return _Forward(nll, h, columns, s, mixed.mul_((x.lengths / s)[:, None]).sub_(own), e)


def _block_items(itemsize: int, n_users: int) -> int:
    return max(_BLOCK_BYTES // itemsize // n_users // 64 * 64, _LEAST_ITEMS)


def block_bytes(n_items: int, n_users: int, width: int, *, itemsize: int) -> int:
    """Memory of a step beside `e`: blocks of the table, and sums for the users.

    Parameters
    ----------
    n_items, n_users, width
        Of the table and the batch.
    itemsize
        Bytes of an operand of the products.
    """
    rows = min(n_items, max(_block_items(itemsize, n_users), _BLOCK_ITEMS))
    users = _halves(n_users) * n_users
    return (width + _SPARE) * (itemsize * (rows + n_users + users) + 4 * (rows + 2 * users))


def _first_shift(
    plan: FusedSoftmax, h: Tensor, weight: Tensor, bias: Tensor
) -> Float32[Tensor, " batch"]:
    """Largest logit of each user among the items of largest bias: the popular ones, in time."""
    few = bias.topk(min(_SHIFT_ITEMS, len(bias)), sorted=False).indices
    logits = weight[few].to(plan.dtype) @ h.to(plan.dtype).T
    return (logits.float() + bias[few, None]).amax(0)


def _largest(
    plan: FusedSoftmax, columns: Tensor, weight: Tensor, bias: Tensor, block: int
) -> Float32[Tensor, " batch"]:
    """Largest logit of each user less the shift in `columns`, rounded as that difference."""
    largest = torch.full((columns.shape[1],), -float("inf"), device=columns.device)
    for table, _, _ in _blocks(plan, weight, bias, block):
        largest = torch.maximum(largest, (table @ columns).amax(0).float())
    return largest


def _columns(
    plan: FusedSoftmax, h: Tensor, shift: Float32[Tensor, " batch"]
) -> Float[Tensor, "columns batch"]:
    """`h` above the rows that meet the spare columns of the table: 1, 1, the shift in two parts."""
    width = h.shape[1]
    out = torch.zeros(width + _SPARE, len(h), dtype=plan.dtype, device=h.device)
    out[:width] = h.T
    out[width : width + 2] = 1.0
    high = shift.to(plan.dtype)
    out[width + 2] = -high
    out[width + 3] = high.float() - shift
    return out


def _blocks(
    plan: FusedSoftmax, weight: Tensor, bias: Tensor, block: int
) -> Iterator[tuple[Float[Tensor, "rows columns"], int, int]]:
    """Blocks of the table in the precision of the products, beside the spare columns."""
    n_items, width = weight.shape
    table = torch.zeros(min(block, n_items), width + _SPARE, dtype=plan.dtype, device=weight.device)
    table[:, width + 2 : width + 4] = 1.0
    places = torch.arange(len(table), device=weight.device)
    table[places, width + 4 + places % 4] = 1.0
    high = bias.to(plan.dtype)
    low = bias - high.float()
    for start in range(0, n_items, block):
        stop = min(start + block, n_items)
        part = table[: stop - start]
        part[:, :width] = weight[start:stop]
        part[:, width] = high[start:stop]
        part[:, width + 1] = low[start:stop]
        yield part, start, stop


def _sums(
    plan: FusedSoftmax,
    columns: Tensor,
    weight: Tensor,
    bias: Tensor,
    e: _Exponentials,
    block: int,
) -> tuple[Float32[Tensor, " batch"], Float32[Tensor, "batch width"]]:
    """Sum of `e` of each user, and of `e` times the rows of the table, block by block.

    The second product of few users is one of halves, added up at the end. Of two threads each then
    works on the rows that it has just written, which need not travel from one core to the other.
    """
    n_users, width = columns.shape[1], weight.shape[1]
    shape = (_halves(n_users), n_users, width + _SPARE)
    product = torch.empty(shape, dtype=plan.dtype, device=weight.device)
    wide = torch.empty(shape, device=weight.device)  # not made anew by each addition
    sums = torch.zeros(shape, device=weight.device)
    for table, start, stop in _blocks(plan, weight, bias, block):
        part = torch.mm(table, columns, out=e.block(start, stop)).exp_()
        n = len(sums) if len(part) % len(sums) == 0 else 1
        halves = part.view(n, -1, n_users), table.view(n, -1, width + _SPARE)
        torch.bmm(halves[0].transpose(1, 2), halves[1], out=product[:n])
        sums[:n].add_(wide[:n].copy_(product[:n]))
    total = sums[0].add_(sums[1]) if len(sums) == 2 else sums[0]
    return total[:, width + 4 :].sum(1), total[:, :width]


def _halves(n_users: int) -> int:
    return min(2, torch.get_num_threads()) if n_users <= _HALVED_USERS else 1


def _backward(
    plan: FusedSoftmax,
    done: _Forward,
    gradient: Float32[Tensor, " batch"],
    weight: Tensor,
    bias: Tensor,
    x: SparseBatch,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Gradients of `h`, of the table unless it was updated, and of the bias."""
    n_items, width = weight.shape
    dh = done.dh.mul_(gradient[:, None])
    share = done.s / x.lengths  # infinite for an empty history, which has no entry to use it
    scale = gradient / share
    scaled = torch.zeros(len(scale), width + _SPARE, dtype=plan.dtype, device=weight.device)
    scaled[:, :width] = done.h.float() * scale[:, None]
    scaled[:, width] = scale  # for the gradient of the bias
    block = min(_BLOCK_ITEMS, n_items)
    dw = torch.empty_like(weight) if plan.updates is None else None
    db = torch.empty_like(bias)
    product = torch.empty(block, width + _SPARE, dtype=plan.dtype, device=weight.device)
    for e, start, stop in _less_own(plan, done, weight, bias, x, share, block):
        part = torch.mm(e, scaled, out=product[: stop - start])
        db[start:stop] = part[:, width]
        if dw is not None:
            dw[start:stop] = part[:, :width]
        if plan.updates is not None:
            plan.updates.add(slice(start, stop), part[:, :width])
    return dh, dw, db


def _less_own(
    plan: FusedSoftmax,
    done: _Forward,
    weight: Tensor,
    bias: Tensor,
    x: SparseBatch,
    share: Float32[Tensor, " batch"],
    block: int,
) -> Iterator[tuple[Float[Tensor, "rows batch"], int, int]]:
    """`e` by blocks of items, less `share` where a user has the item; made again if not kept."""
    n_items, n_users = len(weight), len(share)
    if done.e.stored:
        _subtract(done.e.buffer, x.items * n_users + x.rows(), share[x.rows()])
        for start in range(0, n_items, block):
            stop = min(start + block, n_items)
            yield done.e.block(start, stop), start, stop
        return
    entries = _Entries.of(x).blocks(n_items, block, n_users)
    for (table, start, stop), (users, places) in zip(
        _blocks(plan, weight, bias, block), entries, strict=True
    ):
        e = torch.mm(table, done.columns, out=done.e.block(start, stop)).exp_()
        _subtract(e.view(-1), places, share[users])
        yield e, start, stop


def _subtract(
    numbers: Float[Tensor, " n"], places: Int64[Tensor, " nnz"], what: Float32[Tensor, " nnz"]
) -> None:
    numbers[places] = (numbers[places].float() - what).to(numbers.dtype)
