"""The inverse under EASE, by both of its ways."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recae.errors import DataError
from recae.models.item_item import item_weights, item_weights_dual
from recae.models.spd import spd_inverse


def positive_definite(n: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n + 3, n))
    return x.T @ x + 2.0 * np.eye(n)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), block=st.integers(1, 45), seed=st.integers(0, 99))
def test_both_ways_are_the_inverse_and_work_in_place(n: int, block: int, seed: int) -> None:
    matrix = positive_definite(n, seed)
    expected = np.linalg.inv(matrix)
    for lapack_up_to in (0, 100):
        given_matrix = np.tril(matrix)  # the upper triangle is not read
        found = spd_inverse(given_matrix, block=block, lapack_up_to=lapack_up_to)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert np.shares_memory(found, given_matrix)
        np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("lapack_up_to", [0, 1000])
def test_float32_is_as_good_as_float32_can_be(lapack_up_to: int) -> None:
    matrix = positive_definite(300, 0)
    single = matrix.astype(np.float32)
    found = spd_inverse(single, block=64, lapack_up_to=lapack_up_to)
    assert found.dtype == np.float32
    scale = np.abs(np.linalg.inv(matrix)).max()  # float32 rounds in proportion to the largest entry
    np.testing.assert_allclose(found, np.linalg.inv(matrix), atol=1e-4 * scale)


@pytest.mark.parametrize("lapack_up_to", [0, 100])
def test_what_is_not_positive_definite_is_refused(lapack_up_to: int) -> None:
    matrix = positive_definite(10, 0)
    matrix[7, 7] = -1.0
    with pytest.raises(DataError, match="not positive definite"):
        spd_inverse(matrix, block=4, lapack_up_to=lapack_up_to)


@pytest.mark.parametrize("block", [7, 16, 64])
def test_both_dimensions_of_ease_give_one_table(block: int) -> None:
    rng = np.random.default_rng(3)
    dense = (rng.random((41, 60)) < 0.15).astype(np.float32)
    inverse = np.linalg.inv(dense.T.astype(np.float64) @ dense + 3.0 * np.eye(60))
    expected = -inverse / inverse.diagonal()[None, :]  # Steck 2019, eq. 8
    np.fill_diagonal(expected, 0.0)
    x = csr_array(dense)
    np.testing.assert_allclose(item_weights(x, 3.0), expected, atol=1e-12)
    np.testing.assert_allclose(item_weights_dual(x, 3.0, block=block), expected, atol=1e-6)


def test_an_l2_that_float32_loses_is_refused() -> None:
    x = csr_array(np.float32([[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]))
    with pytest.raises(DataError, match="raise l2"):
        item_weights_dual(x, 1e-9)
