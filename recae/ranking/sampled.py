"""Chosen entries of a product of two matrices, without gathering their rows."""

import functools
import warnings

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor


def sampled_products(
    hidden: Float64[Tensor, "users width"],
    weight: Float64[Tensor, "items width"],
    bias: Float64[Tensor, " items"],
    rows: Int64[np.ndarray, " pairs"],
    items: Int64[np.ndarray, " pairs"],
) -> Float64[np.ndarray, " pairs"]:
    """``hidden[rows] @ weight[items] + bias[items]`` pair by pair, on the CPU.

    Parameters
    ----------
    hidden, weight
        On grids of `recae.ranking.fixed_point` where the result shall be exact.
    bias
        Added last.
    rows, items
        The pairs.
    """
    _warn_now()
    # By item: a row of the large matrix is then read once, and the small one stays in the cache.
    small = items.astype(np.uint16) if len(weight) <= 1 << 16 else items  # sorted by radix
    order = np.argsort(small, kind="stable")
    ends = np.cumsum(np.bincount(items, minlength=len(weight)))
    pattern = torch.sparse_csr_tensor(
        torch.from_numpy(np.concatenate(([0], ends))),
        torch.from_numpy(rows[order]),
        torch.zeros(len(items), dtype=torch.float64),
        size=(len(weight), len(hidden)),
        check_invariants=False,
    )
    products = torch.sparse.sampled_addmm(pattern, weight, hidden.T, beta=0.0).values()
    sums = np.empty(len(items))
    sums[order] = products.numpy()
    sums += bias.numpy()[items]
    return sums


@functools.cache
def _warn_now() -> None:
    # torch says once in a process that sparse tensors are young; people need not hear that.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        none = torch.zeros(0)
        torch.sparse_csr_tensor(torch.zeros(1).long(), none.long(), none, size=(0, 0))
