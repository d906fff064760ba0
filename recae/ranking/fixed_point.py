"""Fixed-point arithmetic: sums that do not depend on the order of their terms.

A float64 adds integers up to 2**53 without rounding. So when the factors of a sum of ``n`` products
are rounded beforehand to multiples of a power of two, with ``b`` and ``c`` bits each and ``b + c +
log2(n) <= 53``, every partial sum is exact, and the result is the same in any order: for one row or
a thousand, on one thread or many, by any library, on any device. Weights get 22 bits, hidden
vectors what is left (21 for 600 terms), 24 at most; both fit into a float32, and the rounding costs
about as much as computing in float32 does. Elementwise steps (tanh) may differ in the last bit of a
float64 between devices; the grid that follows is at least 2**29 times coarser and absorbs it.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from scipy.sparse import csr_array
from torch import Tensor

WEIGHT_BITS = 22
EXACT_BITS = 53
FLOAT32_BITS = 24
_EXACT_ROWS = 1 << (FLOAT32_BITS - WEIGHT_BITS)  # that a float32 adds without rounding
_FEW_ROWS = 16  # whose steps take a tensor call longer than NumPy
_SUMMED = 1 << 18  # numbers of them at once: 3 MiB that stay in the cache


def weights_on_grid(
    weights: Float[Tensor, "*shape"],
    bits: int = WEIGHT_BITS,
    *,
    out: Float32[Tensor, "*shape"] | None = None,
) -> Float32[Tensor, "*shape"]:
    """Round a whole table to multiples of one power of two, `bits` below its largest entry.

    Parameters
    ----------
    weights
        The table.
    bits
        Of an entry, at most.
    out
        Where to write; `weights` itself, to hold the table once.

    Returns
    -------
    Float32 tensor of the same shape; the error of an entry is at most ``2**-bits`` of the largest.
    Rounding the result again changes nothing.
    """
    out = torch.empty_like(weights, dtype=torch.float32) if out is None else out
    if not weights.numel():
        return out
    lowest, highest = (float(end) for end in torch.aminmax(weights))
    largest = max(-lowest, highest)
    step = 2.0 ** (math.frexp(largest)[1] - bits) if largest else 1.0
    if round(largest / step) == 2**bits:  # the largest entry rounds up to a power of two
        step *= 2
    for given, rounded in zip(_row_blocks(weights), _row_blocks(out), strict=True):
        rounded.copy_((given.to(torch.float64) / step).round_().mul_(step))
    return out


def _row_blocks(table: Tensor) -> tuple[Tensor, ...]:
    """A few million entries at a time, so that a float64 copy stays small."""
    if table.ndim < 2 or not table.numel():
        return (table,)
    return torch.split(table, max(1, 4_194_304 // max(1, table[0].numel())))


def columns_on_grid(table: csr_array) -> csr_array:
    """Round each column to multiples of a power of two, 24 bits below its largest entry.

    Up to 2**29 entries of a column then add in float64 without rounding, and each fits into a
    float32.

    Returns
    -------
    Sorted copy: float64, int32 indices where they suffice, without stored zeros.
    """
    out: csr_array = table.astype(np.float64, copy=True)
    out.sum_duplicates()
    largest = np.zeros(out.shape[1])
    np.maximum.at(largest, out.indices, np.abs(out.data))
    exponent = np.frexp(largest)[1]
    # The largest entry may round up to a power of two.
    exponent += np.round(np.ldexp(largest, FLOAT32_BITS - exponent)) == 2**FLOAT32_BITS
    steps = exponent[out.indices] - FLOAT32_BITS
    out.data = np.ldexp(np.round(np.ldexp(out.data, -steps)), steps)
    out.eliminate_zeros()
    if out.nnz < np.iinfo(np.int32).max:
        out.indices, out.indptr = out.indices.astype(np.int32), out.indptr.astype(np.int32)
    return out


def rows_on_grid(x: Float64[Tensor, "rows n"], *, n_terms: int) -> Float64[Tensor, "rows n"]:
    """Round each row so that sums of `n_terms` products with gridded weights are exact.

    The grid of a row depends on that row alone: on the power of two above its largest entry. What
    comes out is exact in float32 as well.
    """
    bits = min(FLOAT32_BITS, EXACT_BITS - WEIGHT_BITS - math.ceil(math.log2(max(2, n_terms))))
    if x.shape[1] == 0:
        return x
    if len(x) <= _FEW_ROWS and x.device.type == "cpu":  # of a request: the same by NumPy
        rows = x.detach().numpy()
        exponents = np.frexp(np.abs(rows).max(axis=1, keepdims=True))[1] - bits
        steps = np.ldexp(1.0, exponents)
        return torch.from_numpy(np.rint(rows / steps) * steps)
    exponent = torch.frexp(x.abs().amax(dim=1, keepdim=True)).exponent
    step = torch.ldexp(torch.ones_like(x[:, :1]), exponent - bits)
    return (x / step).round() * step


def exact_linear(
    x: Float64[Tensor, "rows n"], weight: Float64[Tensor, "n out"], bias: Float64[Tensor, " out"]
) -> Float64[Tensor, "rows out"]:
    """``x @ weight + bias`` for gridded `x` and `weight`, the sum exact, then one rounding."""
    return x @ weight + bias


def exact_row_sums(
    table: Float32[Tensor, "items n"],
    items: Int64[Tensor, " nnz"],
    offsets: Int64[Tensor, " rows"],
) -> Float64[Tensor, "rows n"]:
    """Sum of the gridded `table` rows of each bag of `items`, exact.

    Four rows at a time in float32, which has two bits more than the grid, then their sums in
    float64.

    Parameters
    ----------
    table
        A table from `weights_on_grid`; up to ``2**31`` of its rows add without rounding.
    items
        Row numbers, bag after bag.
    offsets
        Where each bag starts in `items`.
    """
    if 0 < len(offsets) <= _FEW_ROWS and table.device.type == "cpu":  # the same by fewer calls
        each = []
        for begin, end in pairwise([*offsets.tolist(), len(items)]):
            groups = torch.arange(0, end - begin, _EXACT_ROWS)
            fours = torch.nn.functional.embedding_bag(items[begin:end], table, groups, mode="sum")
            each.append(fours.sum(dim=0, dtype=torch.float64))
        return torch.stack(each)
    lengths = torch.cat([offsets[1:], offsets.new_tensor([len(items)])]) - offsets
    groups = (lengths + _EXACT_ROWS - 1) // _EXACT_ROWS
    last = groups.cumsum(0)
    n_groups = int(last[-1]) if len(last) else 0
    bags = torch.arange(len(offsets), device=table.device)
    owner = torch.repeat_interleave(bags, groups, output_size=n_groups)
    place = torch.arange(n_groups, device=table.device) - (last - groups)[owner]
    starts = offsets[owner] + _EXACT_ROWS * place
    sums = torch.zeros(len(offsets), table.shape[1], dtype=torch.float64, device=table.device)
    cells = _SUMMED if table.device.type == "cpu" else 64 * _SUMMED
    at_once = max(1, cells // max(1, table.shape[1]))
    edges = [*starts[::at_once].tolist(), len(items)]
    for part, (begin, end) in enumerate(pairwise(edges)):
        some = slice(part * at_once, (part + 1) * at_once)
        added = torch.nn.functional.embedding_bag(
            items[begin:end], table, starts[some] - begin, mode="sum"
        )
        sums.index_add_(0, owner[some], added.to(torch.float64))
    return sums


def float32_error(
    lengths: Float64[np.ndarray, " rows"],
    width: int,
    norm: float,
    largest_bias: float,
    *,
    cuda: bool = False,
) -> Float64[np.ndarray, " rows"]:
    """Bound of the error of ``hidden @ weight.T + bias`` when computed in float32, any order.

    For gridded, float32-representable factors only the additions round: at most ``n`` of them,
    each by ``2**-24`` of a partial sum no larger than ``|h| |w|`` (Cauchy-Schwarz), plus the bias
    and the rounding of the exact result to float32 (Higham 2002, sec. 3.1). Where the user let
    CUDA multiply in TF32, both factors round by ``2**-11`` (``2**-10`` where they are cut) before.

    Parameters
    ----------
    lengths
        Norm of each row of `hidden`, rows that are on their grid.
    width
        ``n``, the columns of `hidden`.
    norm, largest_bias
        Largest norm of a row of `weight` and largest absolute bias. Norms are not rounded up: they
        may be too small by a millionth or so, which the bound has room for.
    cuda
        Whether CUDA multiplies.
    """
    product = lengths * norm
    bound: np.ndarray = 2.0**-24 * 1.01 * ((width + 4) * product + 4 * largest_bias)
    if cuda and tf32_allowed():
        bound += 2.0**-9 * 1.01 * product
    return bound


def tf32_allowed() -> bool:
    """Whether float32 products on CUDA may round their factors to TF32."""
    chosen = torch.backends.cuda.matmul.fp32_precision
    if chosen == "none":
        chosen = getattr(torch.backends, "fp32_precision", "none")
    return bool(chosen == "tf32")
