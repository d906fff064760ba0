"""`MultDAE` and `MultVAE` (Liang et al., WWW 2018) as recommenders."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float32

from recae.data.histories import Histories
from recae.errors import ConfigError
from recae.models.autoencoder import Autoencoder
from recae.models.options import configured
from recae.networks.batch import SparseBatch
from recae.networks.mult_vae import MultDAENetwork, MultVAENetwork
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


def _check_shape(hidden: tuple[int, ...] | Auto, latent_dim: int | Auto, dropout: float) -> None:
    widths = (*(() if hidden == "auto" else hidden), 1 if latent_dim == "auto" else latent_dim)
    if any(width < 1 for width in widths):
        raise ConfigError(f"widths are {widths}; each must be at least 1")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout}; 0 to below 1 is accepted")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MultDAEConfig(TrainingConfig):
    """Hyper-parameters of `MultDAE`.

    Attributes
    ----------
    hidden
        Widths between items and code, outermost first; ``"auto"``: see `planned_widths`.
    latent_dim
        Width of the code; ``"auto"``: see `planned_widths`.
    dropout
        Share of a history dropped in training.
    weight_decay
        Factor of the squared weights in the loss. The authors use 0.01 / 500.
    """

    hidden: tuple[int, ...] | Auto = "auto"
    latent_dim: int | Auto = "auto"
    dropout: float = 0.5
    weight_decay: float = 0.01 / 500

    def __post_init__(self) -> None:
        TrainingConfig.__post_init__(self)
        _check_shape(self.hidden, self.latent_dim, self.dropout)
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay is {self.weight_decay}; 0 or above is accepted")

    def widths(self, n_items: int) -> Widths:
        """Widths of a network for `n_items` items; see `planned_widths`."""
        return planned_widths(self.hidden, self.latent_dim, n_items=n_items, usual=((), 200))

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
    """Hyper-parameters of `MultVAE`.

    Attributes
    ----------
    hidden
        Widths between items and code, outermost first; ``"auto"``: see `planned_widths`.
    latent_dim
        Width of the code; ``"auto"``: see `planned_widths`.
    dropout
        Share of a history dropped in training.
    weight_decay
        Factor of the squared weights in the loss; 0 in the paper.
    beta_cap
        Final weight of the KL term.
    anneal_steps
        Updates until the cap is reached. ``"auto"``: three quarters of the planned updates.
    anneal_epochs
        The same in epochs; at most one of the two is set.
    """

    hidden: tuple[int, ...] | Auto = "auto"
    latent_dim: int | Auto = "auto"
    dropout: float = 0.5
    weight_decay: float = 0.0
    beta_cap: float = 0.2
    anneal_steps: int | Auto = "auto"
    anneal_epochs: float | None = None

    def __post_init__(self) -> None:
        TrainingConfig.__post_init__(self)
        _check_shape(self.hidden, self.latent_dim, self.dropout)
        if self.weight_decay < 0 or self.beta_cap < 0:
            raise ConfigError(
                f"weight_decay is {self.weight_decay} and beta_cap is {self.beta_cap};"
                " 0 or above is accepted"
            )
        if self.anneal_steps != "auto" and self.anneal_epochs is not None:
            raise ConfigError("anneal_steps and anneal_epochs were both given; one is accepted")
        if self.anneal_steps != "auto" and self.anneal_steps < 0:
            raise ConfigError(f"anneal_steps is {self.anneal_steps}; 0 or above is accepted")
        if self.anneal_epochs is not None and self.anneal_epochs < 0:
            raise ConfigError(f"anneal_epochs is {self.anneal_epochs}; 0 or above is accepted")

    def widths(self, n_items: int) -> Widths:
        """Widths of a network for `n_items` items; see `planned_widths`."""
        return planned_widths(self.hidden, self.latent_dim, n_items=n_items, usual=((600,), 200))

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
    config: MultDAEConfig

    def __init__(self, config: MultDAEConfig | None = None, **options: object) -> None:
        super().__init__(configured(MultDAEConfig, config, options))

    def build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> MultDAENetwork:
        """Network of the widths of `config`; see `Autoencoder.build`."""
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
    config: MultVAEConfig

    def __init__(self, config: MultVAEConfig | None = None, **options: object) -> None:
        super().__init__(configured(MultVAEConfig, config, options))

    def build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> MultVAENetwork:
        """Network of the widths of `config`; see `Autoencoder.build`."""
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
        device = self._fitted_tower().device
        x = SparseBatch.from_csr(self._accepted(histories).matrix, device=device)
        mu, log_var = network.encode(x)
        generator = torch.Generator(device).manual_seed(rng)
        shape = (n_samples, *mu.shape)
        noise = torch.randn(shape, generator=generator, device=device)
        return (mu + noise * (0.5 * log_var).exp()).cpu().numpy()
