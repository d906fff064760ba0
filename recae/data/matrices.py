"""What callers hold as a matrix of people x items, made interactions or histories."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array, sparray, spmatrix

from recae.arguments import refuse_other
from recae.data.histories import Histories, canonical_csr
from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.errors import DataError

Matrix = sparray | spmatrix | np.ndarray
"""A matrix of scipy in any format, or an array: people x items, above 0 where one has the other."""


def interactions_of(name: str, given: Interactions | Matrix) -> Interactions:
    """`given`, or the interactions of a matrix, whose ids are the numbers of its rows and columns.

    Parameters
    ----------
    name
        What it is called, for errors.
    given
        Interactions, or a matrix of people x items.

    Raises
    ------
    ConfigError
        If it is neither.
    DataError
        If the matrix holds what is no number, is not finite or below 0.

    Examples
    --------
    >>> interactions_of("train", csr_array([[0, 1], [1, 1]]))
    Interactions(2 users x 2 items, 3 interactions, density 75.00%)
    """
    if isinstance(given, Interactions):
        return given
    refuse_other(
        name,
        given,
        Matrix,
        "Interactions, as read_interactions returns, or a sparse matrix of people x items",
    )
    matrix = _csr(name, given)
    users, items = (IdMap(map(str, range(n))) for n in matrix.shape)
    return Interactions(matrix, users, items, np.arange(matrix.nnz, dtype=np.int64))


def histories_of(name: str, given: Histories | Matrix) -> Histories:
    """`given`, or the rows of a matrix as histories; errors as of `interactions_of`."""
    if isinstance(given, Histories):
        return given
    refuse_other(
        name,
        given,
        Matrix,
        "Histories, a matrix of people x items, or a row of one; for lists of item indices"
        " Histories.from_lists(lists, n_items=...)",
    )
    return Histories(_csr(name, given))


def _csr(name: str, given: Any) -> csr_array:
    if given.dtype.kind not in "biuf":
        raise DataError(f"{name} holds values of type {given.dtype}; numbers are accepted")
    if given.ndim == 1:
        given = given.reshape(1, -1)
    if given.ndim != 2:
        raise DataError(f"{name} has {given.ndim} dimensions; people x items are accepted")
    matrix = canonical_csr(csr_array(given))
    if matrix.nnz and matrix.data.min() < 0:
        raise DataError(
            f"{name} holds {matrix.data.min():g}; values above 0, and 0 for no interaction, are"
            " accepted"
        )
    return matrix
