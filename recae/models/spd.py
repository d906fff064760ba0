"""Inverse of a symmetric positive definite matrix, in its own memory."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import lapack
from torch import Tensor

from recae.errors import DataError

BLOCK = 1024
_LAPACK_UP_TO = 16_384  # LAPACK builds with 32-bit indices have crashed at 30,000


def spd_inverse(
    matrix: Float[np.ndarray, "n n"], *, block: int = BLOCK, lapack_up_to: int = _LAPACK_UP_TO
) -> Float[np.ndarray, "n n"]:
    """Overwrite `matrix` by its inverse and return it.

    Up to `lapack_up_to` rows by LAPACK's Cholesky factorisation, above by sweeping blocks, whose
    work is matrix products of any size.

    Parameters
    ----------
    matrix
        Symmetric positive definite, float64 or float32; only its lower triangle is read.
    block
        Rows of a sweep.

    Raises
    ------
    DataError
        If it is not positive definite.
    """
    if len(matrix) <= lapack_up_to:
        return _mirrored(_by_cholesky(matrix))
    whole = torch.from_numpy(matrix)
    invert_panels([whole[at, : at.stop] for at in blocks_of(len(matrix), block)])
    return _mirrored(matrix)


def blocks_of(n: int, block: int = BLOCK) -> list[slice]:
    """Slices of `block` that cover ``range(n)``; the last may be short."""
    return [slice(start, min(n, start + block)) for start in range(0, n, block)]


def invert_panels(panels: Sequence[Float[Tensor, "_ _"]]) -> None:
    """Overwrite a symmetric positive definite matrix, given by its lower triangle, by its inverse.

    Parameters
    ----------
    panels
        Rows of the matrix, a block in each, up to the block's last column: panel after panel the
        lower triangle, and of the blocks on the diagonal both triangles when done.

    Raises
    ------
    DataError
        If it is not positive definite.

    Notes
    -----
    Sweeping block k with pivot P = A_kk^-1 replaces A_ij by A_ij - A_ik P A_kj, A_ik by A_ik P and
    A_kk by -P, and keeps the matrix symmetric; sweeping all blocks leaves minus the inverse.

    References
    ----------
    Goodnight, "A tutorial on the SWEEP operator", The American Statistician 33(3), 1979.
    """
    for k, pivot_rows in enumerate(panels):
        stop = pivot_rows.shape[1]
        start = stop - len(pivot_rows)
        corner = pivot_rows[:, start:].tril().double()
        corner += corner.tril(-1).T
        factor, failed = torch.linalg.cholesky_ex(corner)
        if int(failed):
            raise DataError(f"a matrix is not positive definite near row {start}; raise l2")
        pivot = torch.cholesky_inverse(factor).to(pivot_rows.dtype)
        below = [panel[:, start:stop] for panel in panels[k + 1 :]]
        column = torch.cat([pivot_rows[:, :start].T, corner.to(pivot_rows.dtype), *below])
        scaled = column @ pivot  # (n, block)
        for i, panel in enumerate(panels):
            last = panel.shape[1]
            rows = slice(last - len(panel), last)
            if i != k:
                panel.addmm_(scaled[rows], column[:last].T, alpha=-1)
            if i > k:
                panel[:, start:stop] = scaled[rows]
        pivot_rows[:, :start] = scaled[:start].T
        pivot_rows[:, start:] = -pivot
    for panel in panels:
        panel.neg_()


def _by_cholesky(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    double = matrix.dtype == np.float64
    # LAPACK counts columns first: the lower triangle of the transpose is our upper one
    factor, failed = (lapack.dpotrf if double else lapack.spotrf)(matrix.T, lower=0, overwrite_a=1)
    if failed:
        raise DataError(f"a matrix is not positive definite at row {failed}; raise l2")
    inverse: np.ndarray
    inverse, _ = (lapack.dpotri if double else lapack.spotri)(factor, lower=0, overwrite_c=1)
    return inverse.T


def _mirrored(lower: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Copy the lower triangle over the upper one, in place."""
    for at in blocks_of(len(lower)):
        square = np.tril(lower[at, at])
        lower[at, at] = square + np.tril(square, -1).T
        lower[at, at.stop :] = lower[at.stop :, at].T
    return lower
