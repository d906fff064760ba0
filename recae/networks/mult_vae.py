"""Mult-DAE and Mult-VAE, as in the paper and the authors' notebook.

Liang, Krishnan, Hoffman, Jebara: "Variational autoencoders for collaborative filtering", WWW 2018.

A history ``x`` (binary) is divided by its L2 norm, then dropped out (inverted, the norm is not
restored). Layers are linear with tanh between them; none follows the encoder's last layer in the
VAE, nor the decoder's last layer. The likelihood is multinomial over all items.

The first layer is a table with a row per item, of which those of a history are gathered: no dense
history exists.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from recae.networks import losses
from recae.networks.batch import SparseBatch


@final
@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """Loss of one step: what is minimised, and its parts averaged over the batch, in nats."""

    total: Tensor
    nll: Tensor
    kl: Tensor


@final
@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """``x @ weight.T + bias``, then tanh if `tanh`."""

    weight: Float[Tensor, "out in"]
    bias: Float[Tensor, " out"]
    tanh: bool


@final
@dataclass(frozen=True, slots=True, eq=False)
class Tower:
    """The network at prediction, history to scores: table, hidden layers, output.

    Attributes
    ----------
    table
        Encoder rows, shape ``(items, width)``; the rows of a normalised history are added.
    table_bias, table_tanh
        What follows the sum.
    encoder, decoder
        Dense layers up to and after the code.
    output
        Last layer, shape ``(items, width)``.
    """

    table: Float[Tensor, "items width"]
    table_bias: Float[Tensor, " width"]
    table_tanh: bool
    encoder: tuple[Layer, ...]
    decoder: tuple[Layer, ...]
    output: Layer


def _linear(n_in: int, n_out: int, rng: torch.Generator | None) -> nn.Linear:
    """Xavier-uniform weights, biases from a normal of deviation .001 cut at two deviations."""
    if rng is None:
        return nn.Linear(n_in, n_out, device="meta")
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, n_in, n_out)  # type: ignore[no-untyped-call]  # leaves the global generator alone
    nn.init.xavier_uniform_(layer.weight, generator=rng)
    nn.init.trunc_normal_(layer.bias, std=0.001, a=-0.002, b=0.002, generator=rng)
    return layer


def _item_table(n_items: int, width: int, rng: torch.Generator | None) -> nn.Linear:
    """First layer, stored with a row per item: ``weight`` has shape ``(n_items, width)``."""
    layer = _linear(n_items, width, rng)
    layer.weight = nn.Parameter(layer.weight.detach().T.contiguous())
    return layer


def _draw_mask(x: SparseBatch, dropout: float, rng: torch.Generator) -> Tensor | None:
    return None if dropout == 0.0 else x.uniform(rng) >= dropout


class _Network(nn.Module):
    """What both networks share: the item table, the dense layers, the output table."""

    def __init__(
        self,
        n_items: int,
        encoder_widths: list[int],
        decoder_widths: list[int],
        *,
        dropout: float,
        weight_decay: float,
        rng: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.n_items = n_items
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.table = _item_table(n_items, encoder_widths[0], rng)
        self.encoder = nn.ModuleList(_linear(a, b, rng) for a, b in pairwise(encoder_widths))
        self.decoder = nn.ModuleList(_linear(a, b, rng) for a, b in pairwise(decoder_widths))
        self.output = _linear(decoder_widths[-1], n_items, rng)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.output.weight.dtype

    def _bag(self, x: SparseBatch, keep: Tensor | None) -> Float[Tensor, "batch width"]:
        """First layer: weighted sum of the table rows of each history, plus the bias."""
        values = losses.dropped(x.normalised(self.dtype), keep, self.dropout)
        summed = nn.functional.embedding_bag(
            x.items, self.table.weight, x.offsets, mode="sum", per_sample_weights=values
        )
        return summed + self.table.bias

    def _hidden(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch width"]:
        for layer in self.decoder:
            z = torch.tanh(layer(z))
        return z

    def decode(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch items"]:
        """Unnormalised item scores of codes `z`, shape ``(batch, items)``."""
        logits: Tensor = self.output(self._hidden(z))
        return logits

    def _nll(self, z: Float[Tensor, "batch latent"], x: SparseBatch) -> Float[Tensor, ""]:
        """Negative log-likelihood of the histories given their codes, averaged."""
        return losses.multinomial_nll(self.decode(z), x).mean()

    def _penalty(self) -> Tensor:
        """``weight_decay`` times the squares of all weights; biases are left out."""
        if self.weight_decay == 0.0:
            return self.output.weight.new_zeros(())
        layers = [*self.encoder, *self.decoder, self.table, self.output]
        return losses.weight_penalty(layers, self.weight_decay)


@final
class MultDAENetwork(_Network):
    """Mult-DAE: ``items - hidden - latent - hidden - items``, tanh after every layer but the last.

    Parameters
    ----------
    n_items
        Width of a history.
    hidden
        Widths between items and code, outermost first; none in the paper's best model.
    latent_dim
        Width of the code.
    dropout
        Probability that an input entry is dropped in training.
    weight_decay
        Factor of the squared weights in the loss.
    rng
        Draws the initial weights; None leaves them to be given (`load_state_dict`, ``assign``).
    """

    def __init__(
        self,
        n_items: int,
        *,
        hidden: tuple[int, ...],
        latent_dim: int,
        dropout: float,
        weight_decay: float,
        rng: torch.Generator | None,
    ) -> None:
        super().__init__(
            n_items,
            [*hidden, latent_dim],
            [latent_dim, *reversed(hidden)],
            dropout=dropout,
            weight_decay=weight_decay,
            rng=rng,
        )

    def encode(
        self, x: SparseBatch, keep: Bool[Tensor, " nnz"] | None = None
    ) -> Float[Tensor, "batch latent"]:
        """Code of each history, shape ``(batch, latent)``; `keep` is a dropout mask."""
        h = torch.tanh(self._bag(x, keep))
        for layer in self.encoder:
            h = torch.tanh(layer(h))
        return h

    def loss_given(self, x: SparseBatch, *, keep: Bool[Tensor, " nnz"] | None) -> Loss:
        """Loss of a batch for a given dropout mask (Liang et al., sec. 2.3)."""
        nll = self._nll(self.encode(x, keep), x)
        return Loss(nll + self._penalty(), nll, torch.zeros_like(nll))

    def loss(self, x: SparseBatch, *, step: int, rng: torch.Generator) -> Loss:
        """Loss of update `step` (counted from 0), its dropout mask drawn from `rng`."""
        return self.loss_given(x, keep=_draw_mask(x, self.dropout, rng))

    def tower(self) -> Tower:
        """Return the network as used at prediction."""
        return _tower(self, self.encoder, encoder_tanh=True)


@final
class MultVAENetwork(_Network):
    """Mult-VAE: ``items - hidden - 2 x latent``, a sample, ``latent - hidden - items``.

    Parameters
    ----------
    n_items
        Width of a history.
    hidden
        Widths between items and code, outermost first; ``(600,)`` in the paper.
    latent_dim
        Width of the code.
    dropout
        Probability that an input entry is dropped in training.
    weight_decay
        Factor of the squared weights in the loss; 0 in the paper.
    beta_cap, anneal_steps
        KL schedule, see `recae.networks.losses.annealed_beta`.
    rng
        Draws the initial weights; None leaves them to be given (`load_state_dict`, ``assign``).
    """

    def __init__(
        self,
        n_items: int,
        *,
        hidden: tuple[int, ...],
        latent_dim: int,
        dropout: float,
        weight_decay: float,
        beta_cap: float,
        anneal_steps: int,
        rng: torch.Generator | None,
    ) -> None:
        super().__init__(
            n_items,
            [*hidden, 2 * latent_dim],
            [latent_dim, *reversed(hidden)],
            dropout=dropout,
            weight_decay=weight_decay,
            rng=rng,
        )
        self.latent_dim = latent_dim
        self.beta_cap = beta_cap
        self.anneal_steps = anneal_steps

    def encode(
        self, x: SparseBatch, keep: Bool[Tensor, " nnz"] | None = None
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and log-variance of each history's code, both ``(batch, latent)``."""
        h = self._bag(x, keep)
        for layer in self.encoder:
            h = layer(torch.tanh(h))
        return h[:, : self.latent_dim], h[:, self.latent_dim :]

    def loss_given(
        self,
        x: SparseBatch,
        *,
        keep: Bool[Tensor, " nnz"] | None,
        noise: Float[Tensor, "batch latent"],
        beta: float | Float[Tensor, ""],
    ) -> Loss:
        """Negative evidence bound of a batch for given mask, noise and KL weight (eq. 6).

        Parameters
        ----------
        noise
            Standard normal, shape ``(batch, latent)``; the code is ``mu + noise * sigma``.
        """
        mu, log_var = self.encode(x, keep)
        nll = self._nll(losses.sampled_code(mu, log_var, noise), x)
        kl = losses.gaussian_kl(mu, log_var).mean()
        return Loss(nll + beta * kl + self._penalty(), nll, kl)

    def loss(self, x: SparseBatch, *, step: int, rng: torch.Generator) -> Loss:
        """Loss of update `step` (counted from 0), mask and noise drawn from `rng` in that order."""
        keep = _draw_mask(x, self.dropout, rng)
        noise = x.normal(self.latent_dim, rng, self.dtype)
        return self.loss_given(x, keep=keep, noise=noise, beta=self.beta(step))

    def beta(self, step: int) -> float:
        """Weight of the KL term at update `step`, counted from 0."""
        return losses.annealed_beta(step, cap=self.beta_cap, anneal_steps=self.anneal_steps)

    def tower(self) -> Tower:
        """Return the network as used at prediction: the code is the mean, nothing is drawn."""
        return _tower(self, self.encoder, encoder_tanh=False, code_width=self.latent_dim)


def _tower(
    network: _Network,
    encoder: nn.ModuleList,
    *,
    encoder_tanh: bool,
    code_width: int | None = None,
) -> Tower:
    """Detached layers of `network`; the encoder's last one cut to `code_width` rows."""
    table = network.table.weight.detach()
    table_bias = network.table.bias.detach()
    layers = [_detached(layer, tanh=True) for layer in encoder]
    if layers:
        last = layers[-1]
        layers[-1] = Layer(last.weight[:code_width], last.bias[:code_width], tanh=encoder_tanh)
    elif code_width is not None:
        table, table_bias = table[:, :code_width], table_bias[:code_width]
    return Tower(
        table=table,
        table_bias=table_bias,
        table_tanh=encoder_tanh or bool(layers),
        encoder=tuple(layers),
        decoder=tuple(_detached(layer, tanh=True) for layer in network.decoder),
        output=_detached(network.output, tanh=False),
    )


def _detached(layer: nn.Module, *, tanh: bool) -> Layer:
    assert isinstance(layer, nn.Linear)
    return Layer(layer.weight.detach(), layer.bias.detach(), tanh)
