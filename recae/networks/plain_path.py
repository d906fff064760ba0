"""`PlainPath`: the two wide layers of a network as in a textbook, on dense histories."""

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear

from recae.networks.batch import SparseBatch
from recae.networks.losses import sampled_code


@final
class PlainPath:
    """The paper's equations in dense PyTorch: slow, large, and what the other paths must equal."""

    updates = False

    def bag(
        self, table: Float[Tensor, "items width"], x: SparseBatch, values: Float[Tensor, " nnz"]
    ) -> Float[Tensor, "batch width"]:
        """Histories with `values` at their entries, times the table."""
        return x.dense(values) @ table

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
        weight: Float[Tensor, "items width"],
        bias: Float[Tensor, " items"],
        x: SparseBatch,
    ) -> Float[Tensor, " batch"]:
        """``-sum_i x_i log softmax(W h + b)_i`` of each history ``x``."""
        logits = linear(hidden, weight, bias)
        # Sums over all items need float32, which autocast on the CPU does not see to.
        dtype = torch.promote_types(logits.dtype, torch.float32)
        log_likelihood = torch.log_softmax(logits, dim=1, dtype=dtype)
        return -(log_likelihood * x.dense(bias.new_ones(len(x.items)))).sum(dim=1)
