"""`FastPath`: the two wide layers of a network, computed by blocks while it trains."""

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from jaxtyping import Float, Float32
from torch import Tensor

from recae.networks.batch import SparseBatch
from recae.networks.fused_softmax import FusedSoftmax, RowUpdates
from recae.networks.item_bags import item_bags
from recae.networks.losses import sampled_code


@runtime_checkable
class WidePath(Protocol):
    """Computes the first and the last layer of a network while it trains."""

    @property
    def updates(self) -> bool:
        """Whether the tables are updated during the backward pass, weight decay included."""
        ...

    def bag(self, table: Tensor, x: SparseBatch, values: Tensor) -> Tensor:
        """Sum of the table rows of each history, weighted by `values`."""
        ...

    def code(self, mu: Tensor, log_var: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Code ``mu + noise * sigma`` of each history, and its divergence `gaussian_kl`."""
        ...

    def nll(self, hidden: Tensor, weight: Tensor, bias: Tensor, x: SparseBatch) -> Tensor:
        """Negative log-likelihood of each history, given the last hidden layer."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FastPath:
    """How a network's `loss_given` treats its first and its last layer.

    Attributes
    ----------
    softmax
        The likelihood through the output layer.
    table
        Who updates the encoder table while its gradient appears; None leaves that to autograd.
        Given if and only if `softmax` has its own for the output table.
    touched_only
        Hand `table` only the rows that the batch holds.
    """

    softmax: FusedSoftmax
    table: RowUpdates | None = None
    touched_only: bool = False

    @property
    def updates(self) -> bool:
        """Whether the tables are updated during the backward pass, weight decay included."""
        return self.table is not None

    def bag(
        self,
        table: Float32[Tensor, "items width"],
        x: SparseBatch,
        values: Float32[Tensor, " nnz"],
    ) -> Float32[Tensor, "batch width"]:
        """Sum of the table rows of each history, weighted by `values`."""
        return item_bags(table, x, values, self.table, touched_only=self.touched_only)

    def code(
        self,
        mu: Float[Tensor, "batch latent"],
        log_var: Float[Tensor, "batch latent"],
        noise: Float[Tensor, "batch latent"],
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, " batch"]]:
        """Code ``mu + noise * sigma`` of each history, and its divergence."""
        return sampled_code(mu, log_var, noise)

    def nll(
        self,
        hidden: Float[Tensor, "batch width"],
        weight: Float32[Tensor, "items width"],
        bias: Float32[Tensor, " items"],
        x: SparseBatch,
    ) -> Float32[Tensor, " batch"]:
        """Negative log-likelihood of each history, given the last hidden layer."""
        return self.softmax(hidden, weight, bias, x)
