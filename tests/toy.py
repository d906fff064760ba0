"""A network that is nothing like Mult-VAE: what a model in a file of its own can be.

Two passes with rates of their own, a tied output, a skip over a LayerNorm, a part of the loss about
the whole batch, state that only training needs, and the order of a history matters.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from recae.models.autoencoder import Autoencoder
from recae.models.registry import register, unregister
from recae.networks import losses
from recae.networks.batch import Batch
from recae.networks.layers import ItemTable, linear
from recae.networks.network import Network, Pass
from recae.options import Options, Range, option
from recae.training.config import TrainingConfig


@final
class ToyNetwork(Network):
    sliceable = False
    training_only = ("centre",)

    def __init__(self, n_items: int, width: int, rng: torch.Generator | None) -> None:
        super().__init__()
        self.table = ItemTable(n_items, width, rng)
        self.last = ItemTable(n_items, width, rng)  # what a history ends with
        self.norm = nn.LayerNorm(width, device="meta" if rng is None else None)
        self.middle = linear(width, width, rng)
        self.bias = nn.Parameter(torch.zeros(n_items, device="meta" if rng is None else "cpu"))
        self.register_buffer("centre", torch.zeros(width))

    @property
    def output(self) -> Any:  # tied to the first layer
        layer = nn.Linear(self.table.weight.shape[1], len(self.bias), device="meta")
        layer.weight, layer.bias = nn.Parameter(self.table.weight), nn.Parameter(self.bias)
        return layer

    def encode(self, x: Batch, *, keep: Tensor | None = None) -> Tensor:
        h = self.table(x, x.inverse_norms(self.table.dtype), keep=keep, dropout=0.3)
        h = h + self.last(x.newest())
        return h + torch.relu(self.middle(self.norm(h)))

    def hidden(self, code: Tensor) -> Tensor:
        return torch.tanh(code)

    def loss(
        self, x: Batch, *, step: int, rng: torch.Generator, spread: float = 0.1, **options: Any
    ) -> dict[str, Tensor]:
        code = self.encode(x, keep=x.uniform(rng) >= 0.3)
        with torch.no_grad():
            self.centre.lerp_(code.mean(0), 0.1)
        scores = self.hidden(code) @ self.table.weight.T + self.bias
        nll = losses.multinomial_nll(scores, x).mean()
        apart = (code.mean(0) - self.centre).square().sum() + code.var(0, correction=0).mean()
        return {"loss": nll - spread * torch.log1p(apart), "nll": nll, "apart": apart}

    def passes(self, epoch: int) -> Sequence[Pass]:
        inner = [*self.norm.parameters(), *self.middle.parameters()]
        outer = [p for p in self.parameters() if all(p is not q for q in inner)]
        return [
            Pass([{"params": outer, "lr": 0.02}]),
            Pass(inner, "sgd", learning_rate=0.05, options={"spread": 0.0}),
        ]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig(TrainingConfig):
    width: int = option(8, low=1, search=Range(4, 16), help="Width of everything.")


@final
class Toy(Autoencoder):
    name: ClassVar[str] = "toy"
    ordered: ClassVar[bool] = True
    Config: ClassVar[type[Options]] = ToyConfig
    config: ToyConfig

    def build(self, n_items: int, n_users: int, rng: torch.Generator | None) -> ToyNetwork:
        return ToyNetwork(n_items, self.config.width, rng)


@contextmanager
def known() -> Iterator[None]:
    """Let the registry know the toy inside."""
    register(Toy)
    try:
        yield
    finally:
        unregister("toy")
