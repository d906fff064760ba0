"""The plain autoencoder: a history through a narrow code and back, in squared error.

Rumelhart, Hinton, Williams: "Learning internal representations by error propagation", 1986; for
histories of users as in Sedhain et al., "AutoRec", WWW 2015, over all items of a binary history.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from recae.models.autoencoder import Autoencoder
from recae.networks import losses
from recae.networks.batch import Batch
from recae.networks.layers import ItemTable, linear
from recae.networks.network import Network
from recae.options import Choice, Options, Range, configured_by, option
from recae.training.config import TrainingConfig

ACTIVATIONS = {
    "linear": nn.Identity(),
    "relu": nn.ReLU(),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
}


@final
class VanillaAENetwork(Network):
    """``items - hidden - latent - hidden - items``, an activation after every layer but the last.

    A history is divided by its L2 norm before the first layer; the target is the binary history.
    The output is linear.
    """

    def __init__(
        self,
        n_items: int,
        *,
        hidden: tuple[int, ...],
        latent_dim: int,
        activation: str,
        weight_decay: float,
        rng: torch.Generator | None,
    ) -> None:
        super().__init__()
        widths = [*hidden, latent_dim]
        self.weight_decay = weight_decay
        self.activation = ACTIVATIONS[activation]
        self.table = ItemTable(n_items, widths[0], rng)
        self.encoder = nn.ModuleList(linear(a, b, rng) for a, b in pairwise(widths))
        self.decoder = nn.ModuleList(linear(a, b, rng) for a, b in pairwise(widths[::-1]))
        self.output = linear(widths[0], n_items, rng)

    def encode(
        self, x: Batch, *, keep: Bool[Tensor, " nnz"] | None = None
    ) -> Float[Tensor, "batch latent"]:
        """Code of each history."""
        h = self.activation(self.table(x, x.inverse_norms(self.table.dtype), keep=keep))
        for layer in self.encoder:
            h = self.activation(layer(h))
        code: Tensor = h
        return code

    def hidden(self, code: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch width"]:
        """What the output layer reads."""
        for layer in self.decoder:
            code = self.activation(layer(code))
        return code

    def loss(
        self, x: Batch, *, step: int, rng: torch.Generator, **options: Any
    ) -> dict[str, Tensor]:
        """Squared error over all items, summed for a user, and the penalty; nothing is drawn."""
        error = losses.linear_squared_error(self.hidden(self.encode(x)), self.output, x).mean()
        if self.weight_decay == 0.0:
            return {"loss": error, "error": error}
        layers = [self.table, *self.encoder, *self.decoder, self.output]
        return {"loss": error + losses.weight_penalty(layers, self.weight_decay), "error": error}

    def reconstruction(
        self, scores: Float[Tensor, "batch items"], x: Batch
    ) -> Float[Tensor, " batch"]:
        """Squared error over all items of each history."""
        return losses.squared_error(scores, x)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class VanillaAEConfig(TrainingConfig):
    """Hyper-parameters of `VanillaAE`."""

    hidden: tuple[int, ...] = option(
        (),
        low=1,
        search=Choice(((), (200,), (600,))),
        help="Widths between items and code, outermost first.",
    )
    latent_dim: int = option(200, low=1, search=Range(50, 400, log=True), help="Width of the code.")
    activation: Literal["linear", "relu", "sigmoid", "tanh"] = option(
        "tanh",
        search=Choice(("linear", "relu", "sigmoid", "tanh")),
        help="After every layer but the last.",
    )
    weight_decay: float = option(
        1e-5,
        low=0,
        search=Range(1e-7, 1e-2, log=True),
        help="Factor of the squared weights in the loss.",
    )


@final
class VanillaAE(Autoencoder):
    """Plain autoencoder with squared error over all items.

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.

    Examples
    --------
    >>> VanillaAE(activation="relu").config.latent_dim
    200
    """

    name: ClassVar[str] = "vanilla-ae"
    Config: ClassVar[type[Options]] = VanillaAEConfig
    config: VanillaAEConfig

    @configured_by(VanillaAEConfig)
    def __init__(self) -> None:
        super().__init__(self.config)

    def build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> VanillaAENetwork:
        """Network of the config; see `Autoencoder.build`."""
        config = self.config
        return VanillaAENetwork(
            n_items,
            hidden=config.hidden,
            latent_dim=config.latent_dim,
            activation=config.activation,
            weight_decay=config.weight_decay,
            rng=rng,
        )
