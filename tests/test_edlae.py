"""EDLAE is the minimum of its loss, and the mean over dropout masks is that loss."""

import numpy as np
import pytest
from scipy.sparse import csr_array

import recae
from recae.data.histories import canonical_csr
from recae.models.edlae import EDLAE


def plain(x: np.ndarray, p: float, l2: float) -> np.ndarray:
    """Steck 2020: ``C = (X'X + Lambda)^-1``, ``B = I - C diag(C)^-1``, in plain NumPy."""
    gram = x.T @ x
    inverse = np.linalg.inv(gram + np.diag(l2 + p / (1 - p) * np.diag(gram)))
    table = np.eye(len(gram)) - inverse / np.diag(inverse)
    np.fill_diagonal(table, 0.0)
    return table


@pytest.mark.parametrize("shape", [(40, 12), (9, 30)], ids=["more users", "more items"])
@pytest.mark.parametrize("p", [0.0, 0.4])
def test_the_table_is_that_of_the_paper(shape: tuple[int, int], p: float) -> None:
    x = (np.random.default_rng(1).random(shape) < 0.3).astype(np.float64)
    rows = canonical_csr(csr_array(x))
    found = EDLAE(dropout=p, l2=2.0).solve(csr_array(rows, copy=True))
    # histories are float32 once they are scaled, and the dual form solves for a float32 table
    np.testing.assert_allclose(found, plain(x, p, 2.0), rtol=0, atol=2e-6)
    if p == 0.0:
        ease = recae.EASE(l2=2.0).solve(csr_array(rows, copy=True))
        np.testing.assert_allclose(found, ease, rtol=0, atol=2e-6)


def test_the_penalty_is_the_mean_over_dropout_masks() -> None:
    """For any table: E |X - (X * mask / (1 - p)) B|^2 = |X - X B|^2 + p/(1-p) sum_i n_i |B_i|^2."""
    rng = np.random.default_rng(0)
    x, p = (rng.random((6, 5)) < 0.5).astype(np.float64), 0.3
    table = rng.normal(size=(5, 5))
    draws = [
        ((x - (x * (rng.random(x.shape) >= p) / (1 - p)) @ table) ** 2).sum() for _ in range(40_000)
    ]
    counts = x.sum(axis=0)
    expected = ((x - x @ table) ** 2).sum() + p / (1 - p) * (counts[:, None] * table**2).sum()
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(np.mean(draws) - expected) < 5 * error
