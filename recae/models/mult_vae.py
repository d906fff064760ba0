"""`MultDAE` and `MultVAE` (Liang et al., WWW 2018) as recommenders."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import Float32

from recae.data.histories import Histories
from recae.errors import ConfigError
from recae.models.autoencoder import Autoencoder
from recae.networks.batch import SparseBatch
from recae.networks.mult_vae import MultDAENetwork, MultVAENetwork
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


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MultDAEConfig(TrainingConfig):
    """Hyper-parameters of `MultDAE`."""

    hidden: tuple[int, ...] | Auto = option(
        "auto",
        low=1,
        search=Choice(((), (200,), (600,), (1000,))),
        first=(),
        help="Widths between items and code, outermost first; auto: [] below 300,000 items, [200]"
        " from there on.",
    )
    latent_dim: int | Auto = option(
        "auto",
        low=1,
        search=Range(50, 400, log=True),
        first=200,
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
        first=(600,),
        help="Widths between items and code, outermost first; auto: [600] below 300,000 items,"
        " [200] from there on.",
    )
    latent_dim: int | Auto = option(
        "auto",
        low=1,
        search=Range(50, 400, log=True),
        first=200,
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

    def check(self) -> None:
        """Refuse two lengths of the annealing."""
        TrainingConfig.check(self)
        if self.anneal_steps != "auto" and self.anneal_epochs is not None:
            raise ConfigError("anneal_steps and anneal_epochs were both given; one is accepted")

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
    Config: ClassVar[type[Options]] = MultDAEConfig
    config: MultDAEConfig

    @configured_by(MultDAEConfig)
    def __init__(self) -> None:
        super().__init__(self.config)

    def _build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> MultDAENetwork:
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

    def _build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> MultVAENetwork:
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
