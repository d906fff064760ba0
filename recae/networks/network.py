"""`Network`: what the equations of a model are to the rest of the package."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from recae.networks import losses
from recae.networks.batch import Batch

Optimiser = Literal["adam", "nadam", "sgd"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What one pass over the training users updates.

    Attributes
    ----------
    parameters
        Parameters, or groups of them with a rate each, as ``torch.optim`` takes them:
        ``{"params": [...], "lr": 1e-4}``. Others keep their values in this pass.
    optimiser
        Each optimiser keeps its own moments of a parameter, from pass to pass.
    learning_rate
        Of parameters without a rate of their own; None is that of the training.
    options
        Passed to `Network.loss` by name.
    before
        Called before the first step.
    """

    parameters: Sequence[nn.Parameter] | Sequence[Mapping[str, Any]]
    optimiser: Optimiser = "adam"
    learning_rate: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    before: Callable[[], None] | None = None


class Network(nn.Module, ABC):
    """Equations of an autoencoder: history to code, code to what the output layer reads.

    The output layer comes apart from the rest, because scores of a million items are never held at
    once for many users: ``scores = output(hidden(encode(x)))``. The same methods serve training and
    prediction; for exact scores the modules below are swapped (`recae.networks.exact`).

    Attributes
    ----------
    output
        Last layer, hidden to items; may be a property over weights that another layer holds.
    sliceable
        Whether the loss of a batch is the mean over its users. False where a part of it is about
        the whole batch; then a step is never cut into slices.
    training_only
        Names (or beginnings of names) in `state_dict` that training needs and prediction does not:
        state of checkpoints that is not stored with the model.
    """

    output: nn.Linear
    sliceable: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def encode(
        self, x: Batch, *, keep: Bool[Tensor, " nnz"] | None = None
    ) -> Float[Tensor, "batch latent"]:
        """Code of each history, the mean where it is a distribution.

        `keep` masks the entries that the encoder may see; all where it is None.
        """

    @abstractmethod
    def hidden(self, code: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch width"]:
        """What the output layer reads for each code."""

    @abstractmethod
    def loss(
        self, x: Batch, *, step: int, rng: torch.Generator, **options: Any
    ) -> dict[str, Float[Tensor, ""]]:
        """Loss of update `step` (counted from 0), all draws from `rng`.

        Returns
        -------
        ``"loss"`` first, which is minimised; every other part is logged by its name. Means over the
        users of `x`.
        """

    def passes(self, epoch: int) -> Sequence[Pass]:
        """Passes over the users in `epoch` (counted from 0): one, over all parameters."""
        return [Pass(tuple(self.parameters()))]

    def at_prediction(self) -> "Network":
        """Network that predicts: this one, or one without what only training needs."""
        return self

    def reconstruction(
        self, scores: Float[Tensor, "batch items"], x: Batch
    ) -> Float[Tensor, " batch"]:
        """What each history loses by `scores`: its negative multinomial log-likelihood, in nats."""
        return losses.multinomial_nll(scores, x)

    def decode(self, code: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch items"]:
        """Unnormalised scores of all items for each code."""
        scores: Tensor = self.output(self.hidden(code))
        return scores
