"""Factor models at prediction: solve for the vector of a history."""

import numpy as np
from jaxtyping import Float32, Float64
from scipy.linalg import lapack
from scipy.sparse import csr_array

from recae.models.implicit_fit import one_blas_thread


def solve_users(
    x: csr_array,
    items: Float32[np.ndarray, "items factors"],
    gram: Float64[np.ndarray, "factors factors"],
    *,
    weight: float,
) -> Float64[np.ndarray, "users factors"]:
    """Solve ``(gram + weight Y_u' Y_u) v_u = Y_u' 1`` for each row ``u`` of `x`, by Cholesky.

    ``Y_u`` are the rows of `items` at the entries of the row. One user at a time, in float64, on
    one thread: the bits of a row's vector depend on that row alone.

    Parameters
    ----------
    x
        Histories; values are ignored.
    items
        Item vectors.
    gram
        Symmetric; the sum must be positive definite for every row.
    weight
        Of the history's own items.

    Returns
    -------
    Shape ``(users, factors)``; 0 for an empty history.
    """
    out = np.zeros((x.shape[0], items.shape[1]))
    with one_blas_thread():
        for row in range(len(out)):
            history = x.indices[x.indptr[row] : x.indptr[row + 1]]
            if not len(history):
                continue
            y = items[history].astype(np.float64)
            _, solution, failed = lapack.dposv(gram + weight * (y.T @ y), y.sum(axis=0))
            assert not failed, "the sum is positive definite"
            out[row] = solution
    return out
