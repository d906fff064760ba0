"""Checks of the arrays that a model directory holds, before a model is made of them."""

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array

from recae.errors import BundleError


def check_arrays(
    model: str, arrays: Mapping[str, np.ndarray], expected: Mapping[str, tuple[type, int]]
) -> None:
    """Refuse `arrays` unless they are the `expected` ones: name to (dtype, number of axes).

    Raises
    ------
    BundleError
        If an array is missing or unknown, has another dtype or number of axes, or is not finite.
    """
    if set(arrays) != set(expected):
        raise BundleError(
            f"the {model} model has the arrays {', '.join(sorted(expected))};"
            f" found {sorted(arrays)}"
        )
    for name, (dtype, n_axes) in expected.items():
        array = arrays[name]
        if array.dtype != np.dtype(dtype) or array.ndim != n_axes:
            raise BundleError(
                f"array {name} is {array.dtype} of shape {array.shape};"
                f" {np.dtype(dtype)} with {n_axes} axes is expected"
            )
        if not np.isfinite(array).all():
            raise BundleError(f"array {name} is not finite")


def check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Refuse an array of another shape.

    Raises
    ------
    BundleError
        If the shape differs.
    """
    if array.shape != shape:
        raise BundleError(f"array {name} has shape {array.shape}; {shape} is expected")


def square_csr(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, *, prefix: str
) -> csr_array:
    """Items x items table of a stored CSR triple.

    Raises
    ------
    BundleError
        If the triple is no sorted CSR matrix with as many columns as rows.
    """
    n_items = len(indptr) - 1
    sound = (
        n_items >= 0
        and indptr[0] == 0
        and indptr[-1] == len(indices) == len(data)
        and (np.diff(indptr) >= 0).all()
        and (not len(indices) or (indices.min() >= 0 and indices.max() < n_items))
    )
    if sound:
        table = csr_array((data, indices, indptr), shape=(n_items, n_items))
        if table.has_canonical_format:
            return table
    raise BundleError(f"arrays {prefix}* are not a sorted sparse matrix of items x items")
