"""Inverse of a symmetric positive definite matrix, in its own memory."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import lapack

from recae.errors import DataError

_LAPACK_UP_TO = 16_384  # LAPACK builds with 32-bit indices have crashed at 30,000


def spd_inverse(
    matrix: Float[np.ndarray, "n n"], *, block: int = 1024, lapack_up_to: int = _LAPACK_UP_TO
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

    References
    ----------
    Goodnight, "A tutorial on the SWEEP operator", The American Statistician 33(3), 1979.
    """
    if len(matrix) <= lapack_up_to:
        return _mirrored(_by_cholesky(matrix))
    return _mirrored(_by_sweeps(matrix, block))


def _by_cholesky(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    double = matrix.dtype == np.float64
    # LAPACK counts columns first: the lower triangle of the transpose is our upper one
    factor, failed = (lapack.dpotrf if double else lapack.spotrf)(matrix.T, lower=0, overwrite_a=1)
    if failed:
        raise DataError(f"a matrix is not positive definite at row {failed}; raise l2")
    inverse: np.ndarray
    inverse, _ = (lapack.dpotri if double else lapack.spotri)(factor, lower=0, overwrite_c=1)
    return inverse.T


def _by_sweeps(matrix: Float[np.ndarray, "n n"], block: int) -> Float[np.ndarray, "n n"]:
    """Lower triangle of the inverse: sweeping all blocks turns a matrix into minus its inverse.

    Sweeping block k with pivot P = A_kk^-1 replaces A_ij by A_ij - A_ik P A_kj, A_ik by A_ik P and
    A_kk by -P; the matrix stays symmetric, so one triangle is enough.
    """
    a = torch.from_numpy(matrix)
    n = len(a)
    for start in range(0, n, block):
        stop = min(n, start + block)
        corner = a[start:stop, start:stop].tril().double()
        corner += corner.tril(-1).T
        factor, failed = torch.linalg.cholesky_ex(corner)
        if int(failed):
            raise DataError(f"a matrix is not positive definite near row {start}; raise l2")
        pivot = torch.cholesky_inverse(factor).to(a.dtype)
        panel = torch.cat([a[start:stop, :start].T, corner.to(a.dtype), a[stop:, start:stop]])
        scaled = panel @ pivot  # (n, block)
        for first in range(0, n, block):
            last = min(n, first + block)
            if first != start:
                a[first:last, :last].addmm_(scaled[first:last], panel[:last].T, alpha=-1)
        a[start:stop, :start] = scaled[:start].T
        a[stop:, start:stop] = scaled[stop:]
        a[start:stop, start:stop] = -pivot
    a.neg_()
    return matrix


def _mirrored(lower: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Copy the lower triangle over the upper one, in place."""
    n = len(lower)
    for start in range(0, n, 1024):
        stop = min(n, start + 1024)
        square = np.tril(lower[start:stop, start:stop])
        lower[start:stop, start:stop] = square + np.tril(square, -1).T
        lower[start:stop, stop:] = lower[stop:, start:stop].T
    return lower
