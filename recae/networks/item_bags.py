"""The first layer with the gradient of its table handed out by blocks of rows.

The gradient of a row is a sum over the users who have the item: the transpose of the forward pass,
computed as the same weighted sum of rows once the entries are sorted by item. No entry has a vector
of its own, and no gradient of the whole table exists.
"""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import embedding_bag

from recae.networks.batch import SparseBatch
from recae.networks.fused_softmax import RowUpdates

_ROWS = 2048


def item_bags(
    table: Float32[Tensor, "items width"],
    x: SparseBatch,
    values: Float32[Tensor, " nnz"],
    updates: RowUpdates | None = None,
    *,
    touched_only: bool = False,
) -> Float32[Tensor, "batch width"]:
    """Sum of the table rows of each history, weighted by `values`.

    Parameters
    ----------
    table
        A row for each item.
    x, values
        The entries and their weights; entries of weight 0 cost nothing.
    updates
        Who updates the table while its gradient appears. None returns the gradient to autograd.
    touched_only
        Hand out the rows with an entry, instead of all rows.
    """
    if updates is None and not torch.is_grad_enabled():
        return embedding_bag(x.items, table, x.offsets, mode="sum", per_sample_weights=values)
    summed: Tensor = _ItemBags.apply(table, x, values, updates, touched_only)  # type: ignore[no-untyped-call]  # autograd
    return summed


class _ItemBags(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        x: SparseBatch,
        values: Tensor,
        updates: RowUpdates | None,
        touched_only: bool,
    ) -> Tensor:
        kept = values.nonzero().squeeze(1)
        items, order = torch.sort(x.items[kept], stable=True)
        ctx.users = x.rows()[kept][order].int()
        ctx.values = values[kept][order]
        ctx.n_items = len(table)
        if touched_only:
            ctx.rows, counts = torch.unique_consecutive(items, return_counts=True)
        else:
            ctx.rows = None
            counts = torch.bincount(items, minlength=len(table))
        ctx.starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
        ctx.updates = updates
        if updates is not None and touched_only:
            updates.ready(ctx.rows)
        entries = torch.searchsorted(kept, x.offsets)
        return embedding_bag(
            x.items[kept], table, entries, mode="sum", per_sample_weights=values[kept]
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0].contiguous()
        whole = None
        if ctx.updates is None:
            whole = gradient.new_zeros(ctx.n_items, gradient.shape[1])
        n_rows = len(ctx.starts) - 1
        edges = [*range(0, n_rows, _ROWS), n_rows]
        entries = ctx.starts[edges].tolist()
        for (first, last), (start, stop) in zip(pairwise(edges), pairwise(entries), strict=True):
            rows = slice(first, last) if ctx.rows is None else ctx.rows[first:last]
            part = embedding_bag(
                ctx.users[start:stop],
                gradient,
                ctx.starts[first:last] - start,
                mode="sum",
                per_sample_weights=ctx.values[start:stop],
            )
            if whole is None:
                ctx.updates.add(rows, part)
            else:
                whole[rows] = part
            del part  # before the next one is made
        return whole, None, None, None, None
