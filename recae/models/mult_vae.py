"""Mult-DAE and Mult-VAE, as in the paper and the authors' notebook.

Liang, Krishnan, Hoffman, Jebara: "Variational autoencoders for collaborative filtering", WWW 2018.

A history ``x`` (binary) is divided by its L2 norm, then dropped out (inverted, the norm is not
restored). Layers are linear with tanh between them; none follows the encoder's last layer in the
VAE, nor the decoder's last layer. The likelihood is multinomial over all items.
"""

import copy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from recae.data.histories import Histories
from recae.errors import ConfigError
from recae.models.autoencoder import Autoencoder
from recae.networks import losses
from recae.networks.batch import Batch
from recae.networks.layers import ItemTable, cut, linear
from recae.networks.network import Network
from recae.options import Choice, Options, Range, configured_by, option
from recae.training.config import Auto, TrainingConfig, planned_epochs, steps_per_epoch

Widths = tuple[tuple[int, ...], int]
_NARROW_FROM = 300_000  # items


def planned_widths(
    hidden: tuple[int, ...] | Auto, latent_dim: int | Auto, *, n_items: int, usual: Widths
) -> Widths:
    """Widths of the hidden layers and of the code, `"auto"` resolved for `n_items` items.

    `usual` below 300,000 items, whatever the number of users: on 600 and on 6,000 users narrower
    networks were worse (benchmarks/sizes.py). From there on one hidden layer of 200 and a code of
    100, for the two tables and their moments take 32 bytes a width and item.
    """
    planned = usual if n_items < _NARROW_FROM else ((200,), 100)
    return (
        planned[0] if hidden == "auto" else hidden,
        planned[1] if latent_dim == "auto" else latent_dim,
    )


class _Mult(Network):
    """What both networks share: the item table, the dense layers, the output layer.

    Parameters
    ----------
    n_items
        Width of a history.
    encoder_widths, decoder_widths
        From the item table to the code, and from the code to the output layer.
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
        encoder_widths: list[int],
        decoder_widths: list[int],
        *,
        dropout: float,
        weight_decay: float,
        rng: torch.Generator | None,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight_decay = weight_decay
        self.table = ItemTable(n_items, encoder_widths[0], rng)
        self.encoder = nn.ModuleList(linear(a, b, rng) for a, b in pairwise(encoder_widths))
        self.decoder = nn.ModuleList(linear(a, b, rng) for a, b in pairwise(decoder_widths))
        self.output = linear(decoder_widths[-1], n_items, rng)

    def first(self, x: Batch, keep: Bool[Tensor, " nnz"] | None) -> Float[Tensor, "batch width"]:
        """First layer, over histories that are normalised and then dropped out."""
        norms = x.inverse_norms(self.table.dtype)
        first: Tensor = self.table(x, norms, keep=keep, dropout=self.dropout)
        return first

    def hidden(self, code: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch width"]:
        """What the output layer reads: a tanh after each layer of the decoder."""
        for layer in self.decoder:
            code = torch.tanh(layer(code))
        return code

    def nll(self, code: Float[Tensor, "batch latent"], x: Batch) -> Float[Tensor, ""]:
        """Negative log-likelihood of the histories given their codes, averaged."""
        return losses.multinomial_nll(self.decode(code), x).mean()

    def penalty(self) -> Float[Tensor, ""]:
        """``weight_decay`` times the squares of all weights; biases are left out."""
        if self.weight_decay == 0.0:
            return self.output.weight.new_zeros(())
        layers = [*self.encoder, *self.decoder, self.table, self.output]
        return losses.weight_penalty(layers, self.weight_decay)

    def drawn_mask(self, x: Batch, rng: torch.Generator) -> Bool[Tensor, " nnz"] | None:
        """Entries that dropout keeps; None where it drops none."""
        return None if self.dropout == 0.0 else x.uniform(rng) >= self.dropout


@final
class MultDAENetwork(_Mult):
    """Mult-DAE: ``items - hidden - latent - hidden - items``, tanh after every layer but the last.

    Parameters
    ----------
    hidden
        Widths between items and code, outermost first; none in the paper's best model.
    latent_dim
        Width of the code.
    """

    def __init__(
        self, n_items: int, *, hidden: tuple[int, ...], latent_dim: int, **options: Any
    ) -> None:
        super().__init__(n_items, [*hidden, latent_dim], [latent_dim, *hidden[::-1]], **options)

    def encode(
        self, x: Batch, *, keep: Bool[Tensor, " nnz"] | None = None
    ) -> Float[Tensor, "batch latent"]:
        """Code of each history."""
        h = torch.tanh(self.first(x, keep))
        for layer in self.encoder:
            h = torch.tanh(layer(h))
        return h

    def loss_given(self, x: Batch, *, keep: Bool[Tensor, " nnz"] | None) -> dict[str, Tensor]:
        """Loss of a batch for a given dropout mask (Liang et al., sec. 2.3)."""
        nll = self.nll(self.encode(x, keep=keep), x)
        return {"loss": nll + self.penalty(), "nll": nll}

    def loss(
        self, x: Batch, *, step: int, rng: torch.Generator, **options: Any
    ) -> dict[str, Tensor]:
        """Loss of an update, its dropout mask drawn from `rng`."""
        return self.loss_given(x, keep=self.drawn_mask(x, rng))


@final
class MultVAENetwork(_Mult):
    """Mult-VAE: ``items - hidden - 2 x latent``, a sample, ``latent - hidden - items``.

    Parameters
    ----------
    hidden
        Widths between items and code, outermost first; ``(600,)`` in the paper.
    latent_dim
        Width of the code.
    beta_cap, anneal_steps
        KL schedule, see `recae.networks.losses.annealed_beta`.
    """

    def __init__(
        self,
        n_items: int,
        *,
        hidden: tuple[int, ...],
        latent_dim: int,
        beta_cap: float,
        anneal_steps: int,
        **options: Any,
    ) -> None:
        super().__init__(n_items, [*hidden, 2 * latent_dim], [latent_dim, *hidden[::-1]], **options)
        self.latent_dim = latent_dim
        self.beta_cap = beta_cap
        self.anneal_steps = anneal_steps

    def _encoded(
        self, x: Batch, keep: Bool[Tensor, " nnz"] | None
    ) -> Float[Tensor, "batch encoded"]:
        h = self.first(x, keep)
        for layer in self.encoder:
            h = layer(torch.tanh(h))
        return h

    def posterior(
        self, x: Batch, keep: Bool[Tensor, " nnz"] | None = None
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and log-variance of each history's code, both ``(batch, latent)``."""
        mu, log_var = self._encoded(x, keep).chunk(2, dim=1)
        return mu, log_var

    def encode(
        self, x: Batch, *, keep: Bool[Tensor, " nnz"] | None = None
    ) -> Float[Tensor, "batch latent"]:
        """Mean of each history's code."""
        return self._encoded(x, keep)[:, : self.latent_dim]

    def at_prediction(self) -> Network:
        """Return the network without the log-variances, which only training needs."""
        out = copy.copy(self)
        out._modules = dict(self._modules)
        if len(self.encoder):
            layers = list(self.encoder)
            assert isinstance(layers[-1], nn.Linear)
            out.encoder = nn.ModuleList([*layers[:-1], cut(layers[-1], self.latent_dim)])
        else:
            out.table = self.table.cut(self.latent_dim)
        return out

    def loss_given(
        self,
        x: Batch,
        *,
        keep: Bool[Tensor, " nnz"] | None,
        noise: Float[Tensor, "batch latent"],
        beta: float | Float[Tensor, ""],
    ) -> dict[str, Tensor]:
        """Negative evidence bound of a batch for given mask, noise and KL weight (eq. 6).

        Parameters
        ----------
        noise
            Standard normal, shape ``(batch, latent)``; the code is ``mu + noise * sigma``.
        """
        mu, log_var = self.posterior(x, keep)
        nll = self.nll(losses.sampled_code(mu, log_var, noise), x)
        kl = losses.gaussian_kl(mu, log_var).mean()
        return {"loss": nll + beta * kl + self.penalty(), "nll": nll, "kl": kl}

    def loss(
        self, x: Batch, *, step: int, rng: torch.Generator, **options: Any
    ) -> dict[str, Tensor]:
        """Loss of update `step`, mask and noise drawn from `rng` in that order."""
        keep = self.drawn_mask(x, rng)
        noise = x.normal(self.latent_dim, rng, self.output.weight.dtype)
        return self.loss_given(x, keep=keep, noise=noise, beta=self.beta(step))

    def beta(self, step: int) -> float:
        """Weight of the KL term at update `step`, counted from 0."""
        return losses.annealed_beta(step, cap=self.beta_cap, anneal_steps=self.anneal_steps)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MultDAEConfig(TrainingConfig):
    """Hyper-parameters of `MultDAE`."""

    hidden: tuple[int, ...] | Auto = option(
        "auto",
        low=1,
        search=Choice(((), (200,), (600,), (1000,))),
        help="Widths between items and code, outermost first; auto: [] below 300,000 items, [200]"
        " from there on.",
    )
    latent_dim: int | Auto = option(
        "auto",
        low=1,
        search=Range(50, 400, log=True),
        help="Width of the code; auto: 200 below 300,000 items, 100 from there on.",
    )
    dropout: float = option(
        0.5,
        low=0,
        below=1,
        search=Range(0.1, 0.8),
        help="Share of a history dropped in training.",
    )
    weight_decay: float = option(
        0.01 / 500,
        low=0,
        search=Range(1e-7, 1e-3, log=True),
        help="Factor of the squared weights in the loss; the authors use 0.01 / 500.",
    )

    def widths(self, n_items: int) -> Widths:
        """Widths of a network for `n_items` items; see `planned_widths`."""
        return planned_widths(self.hidden, self.latent_dim, n_items=n_items, usual=((), 200))

    def for_items(self, n_items: int) -> "MultDAEConfig":
        """Config with `widths` in place of ``"auto"``."""
        hidden, latent_dim = self.widths(n_items)
        return replace(self, hidden=hidden, latent_dim=latent_dim)

    @classmethod
    def paper(cls) -> "MultDAEConfig":
        """Return the authors' setting for ML-20M: 200 epochs of 500 users a step."""
        return cls(
            hidden=(),
            latent_dim=200,
            epochs=200,
            batch_size=500,
            patience=None,
            precision="float32",
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MultVAEConfig(TrainingConfig):
    """Hyper-parameters of `MultVAE`."""

    hidden: tuple[int, ...] | Auto = option(
        "auto",
        low=1,
        search=Choice(((), (200,), (600,), (1000,))),
        help="Widths between items and code, outermost first; auto: [600] below 300,000 items,"
        " [200] from there on.",
    )
    latent_dim: int | Auto = option(
        "auto",
        low=1,
        search=Range(50, 400, log=True),
        help="Width of the code; auto: 200 below 300,000 items, 100 from there on.",
    )
    dropout: float = option(
        0.5,
        low=0,
        below=1,
        search=Range(0.1, 0.8),
        help="Share of a history dropped in training.",
    )
    weight_decay: float = option(
        0.0, low=0, help="Factor of the squared weights in the loss; 0 in the paper."
    )
    beta_cap: float = option(
        0.2, low=0, search=Range(0.02, 1.0, log=True), help="Final weight of the KL term."
    )
    anneal_steps: int | Auto = option(
        "auto",
        low=0,
        help="Updates until the cap is reached; auto: three quarters of the planned updates.",
    )
    anneal_epochs: float | None = option(
        None, low=0, help="The same in epochs; at most one of the two is set."
    )

    def schedule(self, n_users: int) -> dict[str, object]:
        """Length of the annealing in epochs."""
        steps = planned_anneal_steps(self, n_users)
        return {"anneal_epochs": steps / steps_per_epoch(self, n_users)}

    def check(self) -> None:
        """Refuse two lengths of the annealing."""
        TrainingConfig.check(self)
        if self.anneal_steps != "auto" and self.anneal_epochs is not None:
            raise ConfigError("anneal_steps and anneal_epochs were both given; one is accepted")

    def widths(self, n_items: int) -> Widths:
        """Widths of a network for `n_items` items; see `planned_widths`."""
        return planned_widths(self.hidden, self.latent_dim, n_items=n_items, usual=((600,), 200))

    def for_items(self, n_items: int) -> "MultVAEConfig":
        """Config with `widths` in place of ``"auto"``."""
        hidden, latent_dim = self.widths(n_items)
        return replace(self, hidden=hidden, latent_dim=latent_dim)

    @classmethod
    def paper(cls) -> "MultVAEConfig":
        """Return the authors' setting for ML-20M: the cap of 0.2 at update 40,000 of 46,800."""
        return cls(
            hidden=(600,),
            latent_dim=200,
            epochs=200,
            batch_size=500,
            patience=None,
            precision="float32",
            anneal_steps=40_000,
        )


def planned_anneal_steps(config: MultVAEConfig, n_users: int) -> int:
    """Updates until the KL weight reaches its cap, for `n_users` training users."""
    if config.anneal_epochs is not None:
        return round(config.anneal_epochs * steps_per_epoch(config, n_users))
    if config.anneal_steps != "auto":
        return config.anneal_steps
    return 3 * planned_epochs(config, n_users) * steps_per_epoch(config, n_users) // 4


@final
class MultDAE(Autoencoder):
    """Denoising autoencoder with a multinomial likelihood (Liang et al., WWW 2018).

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.

    Examples
    --------
    >>> MultDAE(latent_dim=64).config.latent_dim
    64
    """

    name: ClassVar[str] = "mult-dae"
    Config: ClassVar[type[Options]] = MultDAEConfig
    config: MultDAEConfig

    @configured_by(MultDAEConfig)
    def __init__(self) -> None:
        super().__init__(self.config)

    def build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> MultDAENetwork:
        """Network with the widths of the config; see `Autoencoder.build`."""
        hidden, latent_dim = self.config.widths(n_items)
        return MultDAENetwork(
            n_items,
            hidden=hidden,
            latent_dim=latent_dim,
            dropout=self.config.dropout,
            weight_decay=self.config.weight_decay,
            rng=rng,
        )


@final
class MultVAE(Autoencoder):
    """Variational autoencoder with a multinomial likelihood (Liang et al., WWW 2018).

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.

    Examples
    --------
    >>> MultVAE(latent_dim=64, epochs=3).config.beta_cap
    0.2
    """

    name: ClassVar[str] = "mult-vae"
    Config: ClassVar[type[Options]] = MultVAEConfig
    config: MultVAEConfig

    @configured_by(MultVAEConfig)
    def __init__(self) -> None:
        super().__init__(self.config)

    def build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> MultVAENetwork:
        """Network with the widths of the config; see `Autoencoder.build`."""
        hidden, latent_dim = self.config.widths(n_items)
        return MultVAENetwork(
            n_items,
            hidden=hidden,
            latent_dim=latent_dim,
            dropout=self.config.dropout,
            weight_decay=self.config.weight_decay,
            beta_cap=self.config.beta_cap,
            anneal_steps=planned_anneal_steps(self.config, n_users),
            rng=rng,
        )

    @torch.no_grad()
    def sample(
        self, histories: Histories, *, n_samples: int, rng: int = 0
    ) -> Float32[np.ndarray, "samples users latent"]:
        """Codes drawn from each history's posterior ``N(mu, exp(log_var))``.

        Parameters
        ----------
        histories
            Whose posteriors.
        n_samples
            Draws for each.
        rng
            Seed.

        Returns
        -------
        Shape ``(n_samples, len(histories), latent_dim)``; `decode` turns codes into scores.
        """
        network = self.network
        assert isinstance(network, MultVAENetwork)
        device = network.output.weight.device
        mu, log_var = network.posterior(Batch.of(self._accepted(histories), device=device))
        generator = torch.Generator(device).manual_seed(rng)
        shape = (n_samples, *mu.shape)
        noise = torch.randn(shape, generator=generator, device=device)
        return (mu + noise * (0.5 * log_var).exp()).cpu().numpy()
