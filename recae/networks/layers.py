"""Layers that networks are made of, and how their weights begin."""

from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from recae.networks import losses
from recae.networks.batch import Batch


def linear(n_in: int, n_out: int, rng: torch.Generator | None) -> nn.Linear:
    """Linear layer with weights drawn from `rng`; without one they have shapes and no numbers.

    Xavier-uniform weights, biases from a normal of deviation .001 cut at two deviations, as in the
    code of Liang et al., WWW 2018.
    """
    if rng is None:
        return nn.Linear(n_in, n_out, device="meta")
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]  # leaves the global generator alone
    nn.init.xavier_uniform_(layer.weight, generator=rng)
    nn.init.trunc_normal_(layer.bias, std=0.001, a=-0.002, b=0.002, generator=rng)
    return layer


def cut(layer: nn.Linear, n_out: int) -> nn.Linear:
    """First `n_out` outputs of `layer`; shares its memory."""
    part = nn.Linear(layer.in_features, n_out, device="meta")
    part.weight = nn.Parameter(layer.weight.detach()[:n_out], requires_grad=False)
    part.bias = nn.Parameter(layer.bias.detach()[:n_out], requires_grad=False)
    return part


@final
class ItemTable(nn.Module):
    """First layer over histories: a row for each item, of which those of a history are added.

    A linear layer whose weight is stored with a row per item, so that no dense history exists.

    Attributes
    ----------
    weight
        Shape ``(items, width)``.
    bias
        Shape ``(width,)``.
    """

    def __init__(self, n_items: int, width: int, rng: torch.Generator | None) -> None:
        super().__init__()
        layer = linear(n_items, width, rng)
        self.weight = nn.Parameter(layer.weight.detach().T.contiguous())
        self.bias = layer.bias

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers that come out."""
        return self.weight.dtype

    def forward(
        self,
        x: Batch,
        scale: Float[Tensor, " batch"] | None = None,
        *,
        keep: Bool[Tensor, " nnz"] | None = None,
        dropout: float = 0.0,
    ) -> Float[Tensor, "batch width"]:
        """``scale * sum of the rows of each history + bias``.

        Parameters
        ----------
        x
            Histories.
        scale
            A factor of each history; 1 where it is None.
        keep
            Entries that count; all where it is None.
        dropout
            Share of the entries that `keep` leaves out: the others count ``1 / (1 - dropout)``.
        """
        values = None
        if scale is not None or keep is not None:
            one = self.weight.new_ones(len(x)) if scale is None else scale
            values = losses.dropped(x.each_entry(one), keep, dropout)
        summed = nn.functional.embedding_bag(
            x.items, self.weight, x.offsets, mode="sum", per_sample_weights=values
        )
        return summed + self.bias

    def cut(self, width: int) -> "ItemTable":
        """First `width` columns; shares its memory."""
        part = ItemTable(len(self.weight), width, None)
        part.weight = nn.Parameter(self.weight.detach()[:, :width], requires_grad=False)
        part.bias = nn.Parameter(self.bias.detach()[:width], requires_grad=False)
        return part
