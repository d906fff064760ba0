"""RecVAE: a variational autoencoder whose prior remembers the encoder of the epoch before.

Shenbin, Alekseev, Tutubalina, Malykh, Nikolenko: "RecVAE: a New Variational Autoencoder for Top-N
Recommendations with Implicit Feedback", WSDM 2020.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from recae.models.autoencoder import Autoencoder
from recae.networks import losses
from recae.networks.batch import Batch
from recae.networks.layers import ItemTable, linear
from recae.networks.network import Network, Pass
from recae.options import Options, Range, configured_by, option
from recae.training.config import TrainingConfig

# Standard normal, the posterior of the old encoder, a normal of log-variance 10.
PRIOR_WEIGHTS = (3 / 20, 3 / 4, 1 / 10)
WIDE_LOG_VAR = 10.0

Gaussian = tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]


@final
class DenseEncoder(nn.Module):
    """Layers of one width, each of which also adds all outputs before it (sec. 3.2).

    ``h_1 = LN(swish(W_1 x))``, ``h_k = LN(swish(W_k h_{k-1} + h_1 + ... + h_{k-1}))``, then a
    linear layer each for mean and log-variance.
    """

    def __init__(
        self,
        n_items: int,
        *,
        width: int,
        depth: int,
        latent_dim: int,
        norm_eps: float,
        rng: torch.Generator | None,
    ) -> None:
        super().__init__()
        device = "meta" if rng is None else None
        self.table = ItemTable(n_items, width, rng)
        self.layers = nn.ModuleList(linear(width, width, rng) for _ in range(depth - 1))
        self.norms = nn.ModuleList(
            nn.LayerNorm(width, eps=norm_eps, device=device) for _ in range(depth)
        )
        self.mean = linear(width, latent_dim, rng)
        self.log_var = linear(width, latent_dim, rng)

    def forward(
        self, x: Batch, keep: Bool[Tensor, " nnz"] | None = None, dropout: float = 0.0
    ) -> Gaussian:
        """Mean and log-variance of each history's code, both ``(batch, latent)``."""
        h = self.last(x, keep, dropout)
        return self.mean(h), self.log_var(h)

    def last(
        self, x: Batch, keep: Bool[Tensor, " nnz"] | None, dropout: float
    ) -> Float[Tensor, "batch width"]:
        """Output of the last layer of the common width."""
        first = self.table(x, x.inverse_norms(self.table.dtype), keep=keep, dropout=dropout)
        h: Tensor = self.norms[0](nn.functional.silu(first))
        added = h
        for layer, norm in zip(self.layers, list(self.norms)[1:], strict=True):
            h = norm(nn.functional.silu(layer(h) + added))
            added = added + h
        return h


def composite_log_prior(
    z: Float[Tensor, "batch latent"], old: Gaussian
) -> Float[Tensor, "batch latent"]:
    """Log-density of each number of a code under the composite prior (eq. 10).

    Parameters
    ----------
    z
        Codes.
    old
        Mean and log-variance that the encoder of the epoch before gives each history.
    """
    parts = (
        (torch.zeros_like(z), torch.zeros_like(z)),
        old,
        (torch.zeros_like(z), torch.full_like(z, WIDE_LOG_VAR)),
    )
    logs = [
        math.log(weight) + log_normal(z, mu, log_var)
        for weight, (mu, log_var) in zip(PRIOR_WEIGHTS, parts, strict=True)
    ]
    return torch.logsumexp(torch.stack(logs), dim=0)


def log_normal(z: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    """Log-density of each number of `z` under ``N(mu, exp(log_var))``."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (z - mu).square() * (-log_var).exp())


@final
class RecVAENetwork(Network):
    """`DenseEncoder`, a sampled code, one linear layer.

    Parameters
    ----------
    gamma
        The KL term of a user weighs ``gamma`` times the length of the history (sec. 3.4).
    encoder_passes
        Passes over the users that update the encoder, before one that updates the decoder.
    dropout
        Share of a history that is dropped where the encoder is updated; none is where the decoder
        is.
    """

    training_only = ("old_",)

    def __init__(
        self,
        n_items: int,
        *,
        latent_dim: int,
        dropout: float,
        gamma: float,
        encoder_passes: int,
        rng: torch.Generator | None,
        **shape: Any,
    ) -> None:
        super().__init__()
        self.latent_dim, self.dropout = latent_dim, dropout
        self.gamma, self.encoder_passes = gamma, encoder_passes
        self.encoder = DenseEncoder(n_items, latent_dim=latent_dim, rng=rng, **shape)
        self.output = linear(latent_dim, n_items, rng)
        if rng is not None:  # the first epoch's old encoder is the one that training begins with
            for name, weight in self.encoder.named_parameters():
                self.register_buffer(_old(name), weight.detach().clone())

    def encode(
        self, x: Batch, *, keep: Bool[Tensor, " nnz"] | None = None
    ) -> Float[Tensor, "batch latent"]:
        """Mean of each history's code."""
        mean: Tensor = self.encoder.mean(self.encoder.last(x, keep, self.dropout))
        return mean

    def hidden(self, code: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch latent"]:
        """The code itself: the decoder is linear."""
        return code

    def at_prediction(self) -> Network:
        """Return the network without the old encoder, which only training needs."""
        out = copy.copy(self)
        out._buffers = {}
        return out

    def passes(self, epoch: int) -> Sequence[Pass]:
        """Some passes for the encoder; then it becomes the old one, and the decoder has its own."""
        encoder, decoder = tuple(self.encoder.parameters()), tuple(self.output.parameters())
        first = [Pass(encoder, options={"decoding": False})] * self.encoder_passes
        return [*first, Pass(decoder, options={"decoding": True}, before=self.remember)]

    @torch.no_grad()
    def remember(self) -> None:
        """Make the encoder as it is the old one."""
        for name, weight in self.encoder.named_parameters():
            self.get_buffer(_old(name)).copy_(weight)

    @torch.no_grad()
    def old_posterior(self, x: Batch) -> Gaussian:
        """Mean and log-variance by the old encoder, nothing dropped."""
        old = {name: self.get_buffer(_old(name)) for name, _ in self.encoder.named_parameters()}
        found: Gaussian = torch.func.functional_call(self.encoder, old, (x,))
        return found

    def loss_given(
        self,
        x: Batch,
        *,
        keep: Bool[Tensor, " nnz"] | None,
        noise: Float[Tensor, "batch latent"],
        decoding: bool,
    ) -> dict[str, Tensor]:
        """Loss of a batch for given mask and noise (eq. 13): of the decoder, or of the encoder.

        The KL term, by the one sampled code, does not depend on the decoder: it is left out where
        only that is updated.
        """
        mu, log_var = self.encoder(x, keep, self.dropout)
        z = losses.sampled_code(mu, log_var, noise)
        nll = losses.multinomial_nll(self.decode(z), x)
        if decoding:
            return {"loss": nll.mean(), "nll": nll.mean()}
        log_prior = composite_log_prior(z, self.old_posterior(x))
        kl = (log_normal(z, mu, log_var) - log_prior).sum(dim=1)
        loss = (nll + self.gamma * x.lengths.to(kl.dtype) * kl).mean()
        return {"loss": loss, "nll": nll.mean(), "kl": kl.mean()}

    def loss(
        self, x: Batch, *, step: int, rng: torch.Generator, decoding: bool = False, **options: Any
    ) -> dict[str, Tensor]:
        """Loss of an update; mask, where the encoder is updated, and noise drawn from `rng`."""
        keep = None if decoding or not self.dropout else x.uniform(rng) >= self.dropout
        noise = x.normal(self.latent_dim, rng, self.output.weight.dtype)
        return self.loss_given(x, keep=keep, noise=noise, decoding=decoding)


def _old(name: str) -> str:
    return f"old_{name.replace('.', '_')}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RecVAEConfig(TrainingConfig):
    """Hyper-parameters of `RecVAE`. An epoch is `encoder_passes` and one passes over the users."""

    learning_rate: float = option(
        5e-4,
        above=0,
        search=Range(2e-4, 5e-3, log=True),
        help="Of Adam (beta 0.9 and 0.999, epsilon 1e-8).",
    )
    width: int = option(
        600, low=1, search=Range(200, 1000, log=True), help="Width of the layers of the encoder."
    )
    depth: int = option(5, low=1, help="Layers of the encoder that have this width.")
    latent_dim: int = option(200, low=1, search=Range(50, 400, log=True), help="Width of the code.")
    dropout: float = option(
        0.5,
        low=0,
        below=1,
        search=Range(0.1, 0.8),
        help="Share of a history dropped where the encoder is updated.",
    )
    gamma: float = option(
        0.005,
        low=0,
        search=Range(5e-4, 0.02, log=True),
        help="Weight of the KL term, a unit of the length of the history.",
    )
    encoder_passes: int = option(
        3, low=1, help="Passes over the users for the encoder, before one for the decoder."
    )
    norm_eps: float = option(
        0.1,
        above=0,
        help="Added to the variance in the layer normalisations, as by the authors.",
    )

    @classmethod
    def paper(cls) -> "RecVAEConfig":
        """Return the authors' setting for ML-20M: 50 epochs of 500 users a step."""
        return cls(epochs=50, batch_size=500, patience=None, precision="float32")


@final
class RecVAE(Autoencoder):
    """Variational autoencoder with a composite prior and alternating updates (WSDM 2020).

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.

    Examples
    --------
    >>> RecVAE(width=64, latent_dim=16).config.gamma
    0.005
    """

    name: ClassVar[str] = "recvae"
    Config: ClassVar[type[Options]] = RecVAEConfig
    config: RecVAEConfig

    @configured_by(RecVAEConfig)
    def __init__(self) -> None:
        super().__init__(self.config)

    def build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> RecVAENetwork:
        """Network of the config; see `Autoencoder.build`."""
        config = self.config
        return RecVAENetwork(
            n_items,
            width=config.width,
            depth=config.depth,
            latent_dim=config.latent_dim,
            dropout=config.dropout,
            gamma=config.gamma,
            encoder_passes=config.encoder_passes,
            norm_eps=config.norm_eps,
            rng=rng,
        )
