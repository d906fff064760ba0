"""A network whose results for a history depend on that history alone, to the last bit.

`exact` makes it by swapping modules, as quantisation does: linear layers round their input rows and
their weights to grids on which float64 adds without rounding, item tables add gridded rows, and
everything else (activations, normalisations, skips, convolutions) runs row by row in float64. The
grid of the next layer absorbs what these may leave in the last bit; see
`recae.ranking.fixed_point`.
"""

import copy
from typing import Any, TypeVar, final

import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor, nn

from recae.networks.batch import Batch
from recae.networks.layers import ItemTable
from recae.networks.network import Network
from recae.ranking.fixed_point import exact_linear, exact_row_sums, rows_on_grid, weights_on_grid

N = TypeVar("N", bound=nn.Module)


@final
class GridLinear(nn.Module):
    """`nn.Linear` on grids: each output of each row is an exact sum, rounded once.

    Attributes
    ----------
    weight, bias
        Float32, the weight on its grid; shared with the layer where it lay there.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.weight = _on_grid(layer.weight)
        bias = layer.bias
        self.bias = layer.weight.new_zeros(len(layer.weight)) if bias is None else bias.detach()
        self.bias = self.bias.float()
        self._wide: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Float[Tensor, "*rows n"]) -> Float64[Tensor, "*rows out"]:
        """``x @ weight.T + bias``."""
        if self._wide is None:  # once: the output layer, which may be huge, is never called
            self._wide = self.weight.to(torch.float64).T, self.bias.to(torch.float64)
        rows = x.to(torch.float64).reshape(-1, x.shape[-1])
        out = exact_linear(rows_on_grid(rows, n_terms=rows.shape[1]), *self._wide)
        return out.reshape(*x.shape[:-1], out.shape[1])


@final
class GridTable(nn.Module):
    """`ItemTable` on a grid: the sum of the rows of a history is exact."""

    dtype = torch.float64

    def __init__(self, table: ItemTable) -> None:
        super().__init__()
        self.weight = _on_grid(table.weight)
        self.bias = table.bias.detach().float().to(torch.float64)

    def forward(
        self,
        x: Batch,
        scale: Float64[Tensor, " batch"] | None = None,
        *,
        keep: Bool[Tensor, " nnz"] | None = None,
        dropout: float = 0.0,
    ) -> Float64[Tensor, "batch width"]:
        """As `ItemTable.forward`."""
        kept = x if keep is None else x.only(keep)
        summed = exact_row_sums(self.weight, kept.items, kept.offsets)
        if keep is not None:
            summed = summed / (1.0 - dropout)
        if scale is not None:
            summed = summed * scale.unsqueeze(1)
        return summed + self.bias


@final
class WideEmbedding(nn.Module):
    """`nn.Embedding` whose rows come out in float64, without a copy of the table."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.weight = embedding.weight.detach()

    def forward(self, items: Tensor) -> Float64[Tensor, "*shape width"]:
        """Rows of `items`."""
        return self.weight[items].to(torch.float64)


def exact(network: Network) -> Any:
    """`network` as used at prediction, with its modules swapped; large tables are shared.

    Returns
    -------
    A module with the methods of `network`; what it computes has no gradient.
    """
    return _swapped(network.at_prediction()).eval()


def share_tables(network: Network, twin: Any) -> None:
    """Let `network` hold the gridded tables of its `twin`, so that each is held once."""
    twins = dict(twin.named_modules())
    for name, module in network.named_modules():
        if not isinstance(module, ItemTable) and module is not network.output:
            continue
        table: Any = twins[name].weight
        if module.weight.shape == table.shape:  # a table may be cut for prediction
            module.weight = nn.Parameter(table)


def _swapped(module: N) -> Any:
    if isinstance(module, nn.Linear):
        return GridLinear(module)
    if isinstance(module, ItemTable):
        return GridTable(module)
    if isinstance(module, nn.Embedding):
        return WideEmbedding(module)
    twin = copy.copy(module)
    twin._modules = {n: None if m is None else _swapped(m) for n, m in module._modules.items()}
    twin._parameters = {
        n: None if p is None else nn.Parameter(_wide(p), requires_grad=False)
        for n, p in module._parameters.items()
    }
    twin._buffers = {n: None if b is None else _wide(b) for n, b in module._buffers.items()}
    return twin


def _wide(value: Tensor) -> Tensor:
    value = value.detach()
    return value.to(torch.float64) if value.is_floating_point() else value


def _on_grid(table: Float[Tensor, "rows width"]) -> Float32[Tensor, "rows width"]:
    """`table` itself where rounding changes nothing."""
    table = table.detach()
    rounded = weights_on_grid(table).contiguous()
    shared = table.is_contiguous() and table.dtype == rounded.dtype and torch.equal(table, rounded)
    return table if shared else rounded
