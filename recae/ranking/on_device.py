"""The lists of a batch made on an accelerator, where an answer to the host costs more than work.

The rule is that of `propose`: fast scores choose, exact ones order, and a list is proved. Here the
fast scores choose a fixed number of items for each history, so that nothing depends on what was
found until the end, when the lists and what is needed to prove them are copied at once. A history
whose list is not proved is left to `propose`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from recae.ranking.topk import TopK

# Items chosen beyond `k`, at least, and as a share of it.
_MARGIN = 16
_SHARE = 4
# Scores held at once, and entries of item rows gathered at once: 512 MiB each.
DEVICE_CELLS = 1 << 27
_GATHERED = 1 << 26


@final
@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """Scores as products of gridded factors on a device; see `fixed_point`.

    Attributes
    ----------
    hidden
        A row for each history, from `rows_on_grid`.
    weight, bias
        A row and a number for each item.
    error
        Bound of the error of their product in float32.
    """

    hidden: Float64[Tensor, "users width"]
    weight: Float32[Tensor, "items width"]
    bias: Float32[Tensor, " items"]
    error: Float64[Tensor, " users"]

    def of(self, users: slice) -> "Products":
        """Scores of some histories."""
        return Products(self.hidden[users], self.weight, self.bias, self.error[users])


@torch.no_grad()
def lists_on_device(
    products: Products,
    k: int,
    hidden_cells: tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]],
    allowed: Bool[np.ndarray, " items"] | None,
) -> tuple[TopK, Bool[np.ndarray, " users"]]:
    """Top `k` of each history, and which of them are proved.

    Parameters
    ----------
    products
        The scores.
    k
        Length of the lists.
    hidden_cells
        Rows and items that may not be listed.
    allowed
        Items that may be listed; None is all.
    """
    n_users, n_items = len(products.hidden), len(products.weight)
    at_once = max(1, DEVICE_CELLS // max(1, n_items))
    if n_users > at_once:
        hidden_rows, hidden_items = hidden_cells
        parts = []
        for start in range(0, n_users, at_once):
            part = slice(start, start + at_once)
            inside = (hidden_rows >= start) & (hidden_rows < start + at_once)
            cells = hidden_rows[inside] - start, hidden_items[inside]
            parts.append(lists_on_device(products.of(part), k, cells, allowed))
        lists, proved = zip(*parts, strict=True)
        return _joined(lists), np.concatenate(proved)
    device = products.hidden.device
    fast = torch.addmm(products.bias, products.hidden.float(), products.weight.T)
    fast[tuple(torch.from_numpy(cells).to(device) for cells in hidden_cells)] = -torch.inf
    if allowed is not None:
        fast[:, torch.from_numpy(~allowed).to(device)] = -torch.inf
    chosen = torch.topk(fast, min(n_items, k + max(_MARGIN, k // _SHARE)), dim=1, sorted=False)
    listed = chosen.values > -torch.inf
    exact = torch.where(listed, _exact(products, chosen.indices), -torch.inf)
    keys = torch.where(listed, _keys(chosen.indices, exact), _EMPTY).sort(dim=1)
    order = keys.indices[:, :k]
    items = torch.where(keys.values[:, :k] == _EMPTY, -1, chosen.indices.gather(1, order))
    scores = exact.gather(1, order)
    # What was not chosen has a fast score of at most the lowest chosen one.
    lowest = chosen.values.amin(dim=1).to(torch.float64)
    complete = torch.isneginf(lowest) | (chosen.values.shape[1] == n_items)
    proved = complete | (scores[:, -1].to(torch.float64) > lowest + products.error)
    # A score that is not finite proves nothing, and `propose` refuses it.
    proved &= (torch.isfinite(exact) | ~listed).all(dim=1) & ~torch.isnan(fast.amax(dim=1))
    lists = TopK(items.cpu().numpy(), scores.cpu().numpy())
    return lists.padded(k), proved.cpu().numpy()


def _exact(products: Products, items: Int64[Tensor, "users m"]) -> Float32[Tensor, "users m"]:
    """Scores whose sums are exact, rounded once to float32."""
    at_once = max(1, _GATHERED // (items.shape[1] * products.weight.shape[1]))
    parts = []
    for start in range(0, len(items), at_once):
        part = slice(start, start + at_once)
        weight = products.weight[items[part]].to(torch.float64)  # (users, m, width)
        sums = torch.bmm(weight, products.hidden[part].unsqueeze(2)).squeeze(2)
        parts.append((sums + products.bias[items[part]]).to(torch.float32))
    return torch.cat(parts)


_EMPTY = torch.iinfo(torch.int64).max


def _keys(items: Int64[Tensor, "users m"], scores: Float32[Tensor, "users m"]) -> Tensor:
    """One integer for each item, smaller for a better place; as in `BestLists`."""
    bits = (scores + 0.0).view(torch.int32)  # adding 0 makes -0 and 0 the same
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # in the order of the numbers
    return (~ascending).to(torch.int64) << 32 | items


def _joined(lists: Sequence[TopK]) -> TopK:
    items, scores = zip(*((part.items, part.scores) for part in lists), strict=True)
    return TopK(np.concatenate(items), np.concatenate(scores))
