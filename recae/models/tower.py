"""Scores of an autoencoder: the network at prediction, in fixed point."""

from collections.abc import Iterator
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from recae.data.histories import Histories
from recae.machine import multiplies_int8
from recae.networks.batch import SparseBatch
from recae.networks.mult_vae import Layer, Tower
from recae.ranking.fixed_point import (
    exact_linear,
    exact_row_sums,
    float32_error,
    rows_on_grid,
    weights_on_grid,
)
from recae.ranking.propose import MAX_CELLS
from recae.ranking.rounded import MAX_WIDTH, RoundedTable
from recae.ranking.sampled import sampled_products
from recae.ranking.scorer import Proposals

WIDE_BYTES = 1 << 28  # of a float64 copy of the output layer
GATHERED = 4_194_304  # decoder entries gathered at once when rescoring: 32 MiB of float64


@final
class ExactTower:
    """A `Tower` on fixed-point grids: what it computes for a history depends on nothing else.

    Parameters
    ----------
    tower
        Layers of a network. The two tables are shared where they lie on their grids, as those of a
        fitted model do; else the tower has copies.
    """

    def __init__(self, tower: Tower) -> None:
        self.table = _shared_on_grid(tower.table)
        self._table_bias = tower.table_bias.float()
        self._table_tanh = tower.table_tanh
        self._encoder = [_gridded(layer) for layer in tower.encoder]
        self._decoder = [_gridded(layer) for layer in tower.decoder]
        output = tower.output
        self.output = Layer(_shared_on_grid(output.weight), output.bias.float(), output.tanh)
        self._rounded = None
        narrow = self.output.weight.shape[1] <= MAX_WIDTH
        if self.device.type == "cpu" and narrow and multiplies_int8():
            self._rounded = RoundedTable(self.output.weight, self.output.bias)
        self._wide = None
        if self.device.type == "cpu" and 8 * self.output.weight.numel() <= WIDE_BYTES:
            self._wide = self.output.weight.to(torch.float64)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.table)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.table.device

    @torch.no_grad()
    def encode(self, x: SparseBatch) -> Float64[Tensor, "batch latent"]:
        """Code of each history (the mean, where there is a distribution)."""
        summed = exact_row_sums(self.table, x.items, x.offsets)
        norm = torch.rsqrt(x.lengths.clamp(min=1).to(torch.float64)).unsqueeze(1)
        h = summed * norm + self._table_bias.to(torch.float64)
        if self._table_tanh:
            h = torch.tanh(h)
        return _through(self._encoder, h)

    @torch.no_grad()
    def hidden(self, z: Float64[Tensor, "batch latent"]) -> Float64[Tensor, "batch width"]:
        """Input of the output layer for codes `z`, on the grid on which products add exactly."""
        h = _through(self._decoder, z)
        return rows_on_grid(h, n_terms=h.shape[1])

    def scorer(self, histories: Histories) -> "TowerScorer":
        """Scores of a batch of histories."""
        x = SparseBatch.from_csr(histories.matrix, device=self.device)
        hidden = self.hidden(self.encode(x))
        return TowerScorer(self.output, hidden, rounded=self._rounded, wide=self._wide)


@final
class TowerScorer:
    """`Scorer` over the output layer: products of hidden vectors with item rows.

    Parameters
    ----------
    output
        The layer, gridded.
    hidden
        From `rows_on_grid`.
    rounded
        The layer in 8 bits, where that is faster.
    wide
        Its weights in float64, where there is room for them.
    """

    def __init__(
        self,
        output: Layer,
        hidden: Float64[Tensor, "users width"],
        *,
        rounded: RoundedTable | None = None,
        wide: Float64[Tensor, "items width"] | None = None,
    ) -> None:
        self._output = output
        self._hidden = hidden
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
        n_items = len(self._output.weight)
        at_once = max(256, MAX_CELLS // max(1, len(hidden)))
        for start in range(0, n_items, at_once):
            block = slice(start, min(n_items, start + at_once))
            yield block, torch.addmm(self._output.bias[block], hidden, self._output.weight[block].T)

    @torch.no_grad()
    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Scores whose sums are exact, rounded once to float32."""
        if self._wide is not None:
            bias = self._output.bias.to(torch.float64)
            sums = sampled_products(self._hidden, self._wide, bias, rows, items)
            return sums.astype(np.float32)
        out = np.empty(items.shape, dtype=np.float32)
        at_once = max(1, GATHERED // max(1, self._hidden.shape[1]))
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            chosen = torch.from_numpy(items[part]).to(self._hidden.device)
            hidden = self._hidden[torch.from_numpy(rows[part]).to(self._hidden.device)]
            weight = self._output.weight[chosen].to(torch.float64)  # (pairs, width)
            scores = (weight * hidden).sum(dim=1) + self._output.bias[chosen]
            out[part] = scores.to(torch.float32).cpu().numpy()
        return out

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """Bound of the difference between both, see `float32_error`."""
        return float32_error(self._hidden, self._output.weight, self._output.bias).cpu().numpy()


def _shared_on_grid(table: Float[Tensor, "items width"]) -> Float32[Tensor, "items width"]:
    """`table` itself where rounding changes nothing."""
    rounded = weights_on_grid(table).contiguous()
    shared = table.is_contiguous() and table.dtype == rounded.dtype and torch.equal(table, rounded)
    return table if shared else rounded


def _gridded(layer: Layer) -> Layer:
    return Layer(weights_on_grid(layer.weight), layer.bias.float(), layer.tanh)


def _through(layers: list[Layer], h: Float64[Tensor, "batch n"]) -> Float64[Tensor, "batch m"]:
    for layer in layers:
        h = exact_linear(rows_on_grid(h, n_terms=h.shape[1]), layer.weight, layer.bias)
        if layer.tanh:
            h = torch.tanh(h)
    return h
