"""First right singular vectors of a sparse matrix, the same at every call."""

import numpy as np
from jaxtyping import Float64
from scipy.linalg import eigh
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

_DENSE_UP_TO = 1024  # rows or columns; above, the iteration needs less time and memory
_ZERO = 1e-6  # singular values below this share of the largest are rounding errors


def right_singular_vectors(
    matrix: csr_array, n_vectors: int, *, rng: int = 0
) -> Float64[np.ndarray, "columns vectors"]:
    """Right singular vectors of the largest singular values, largest first.

    Parameters
    ----------
    matrix
        Any shape.
    n_vectors
        How many; fewer are returned where fewer singular values are not 0.
    rng
        Seed of the first vector of the iteration.

    Returns
    -------
    Orthonormal columns; the entry of largest size in each is positive. Of vectors with equal
    singular values only the span is determined.
    """
    smaller = min(matrix.shape)
    if smaller <= max(_DENSE_UP_TO, n_vectors):
        values, v = _by_eigenvectors(matrix)
    else:
        start = np.random.default_rng(rng).standard_normal(smaller)
        _, values, transposed = svds(matrix, k=n_vectors, v0=start)
        v = transposed.T
    largest_first = np.argsort(-values, kind="stable")[:n_vectors]
    kept = largest_first[values[largest_first] > _ZERO * values.max(initial=0.0)]
    v = v[:, kept]
    signs = np.sign(v[np.abs(v).argmax(axis=0), np.arange(v.shape[1])])
    signed: np.ndarray = v * signs
    return signed


def _by_eigenvectors(matrix: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """All singular values and right vectors, by the Gram matrix of the shorter side."""
    wide = matrix.shape[0] < matrix.shape[1]
    gram = (matrix @ matrix.T if wide else matrix.T @ matrix).toarray()
    squares, vectors = eigh(gram)
    values = np.sqrt(np.maximum(squares, 0.0))
    if wide:
        inverse = np.where(values > _ZERO * values.max(initial=0.0), values, np.inf) ** -1.0
        vectors = (matrix.T @ vectors) * inverse
    return values, vectors
