"""Mult-VAE and Mult-DAE as one writes them after reading the paper: dense histories, plain torch.

For weights, masks and noise of a network of the package; at sizes where the loops of
`mult_vae_numpy` take too long, and in the precisions of torch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from recae.networks.batch import Batch


def dense(x: Batch, values: Tensor) -> Tensor:
    """Rows of `x` with all their zeros, `values` at the entries."""
    rows = values.new_zeros(len(x), x.n_items)
    rows[x.rows(), x.items] = values
    return rows


def loss(
    network: Any,
    x: Batch,
    *,
    keep: Tensor | None,
    noise: Tensor | None = None,
    beta: float = 0.0,
) -> Tensor:
    """Mean loss of the rows of `x`; with `noise` of a Mult-VAE, else of a Mult-DAE."""
    dtype = network.output.weight.dtype
    history = dense(x, torch.ones(len(x.items), dtype=dtype))
    h = torch.nn.functional.normalize(history)
    if keep is not None:
        h = h * dense(x, keep.to(dtype)) / (1.0 - network.dropout)
    layers = [(network.table.weight.T, network.table.bias)]
    layers += [(layer.weight, layer.bias) for layer in network.encoder]
    for weight, bias in layers[:-1]:
        h = torch.tanh(linear(h, weight, bias))
    h = linear(h, *layers[-1])
    kl = torch.zeros(())
    if noise is None:
        h = torch.tanh(h)
    else:
        mu, log_var = h.chunk(2, dim=1)
        kl = -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum(1).mean()
        h = mu + noise * (log_var / 2).exp()
    for layer in network.decoder:
        h = torch.tanh(linear(h, layer.weight, layer.bias))
    logits = linear(h, network.output.weight, network.output.bias)
    log_likelihood = torch.log_softmax(logits, dim=1, dtype=torch.promote_types(dtype, torch.float))
    nll = -(log_likelihood * history).sum(1).mean()
    squares = sum(p.square().sum() for p in network.parameters() if p.ndim == 2)
    return nll + beta * kl + network.weight_decay * squares
