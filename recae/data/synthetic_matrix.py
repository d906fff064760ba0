"""Matrices of the size of public data sets, for measurements of speed and memory."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array

from recae.errors import ConfigError

SPREAD = 1.15  # of the logarithm of a user's activity


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixShape:
    """Sizes of a made-up matrix.

    Attributes
    ----------
    n_users, n_items, n_interactions
        Its sizes.
    popularity_exponent, popularity_shift
        The item of rank r draws ``(r + shift) ** -exponent`` (Zipf-Mandelbrot).
    n_tastes
        Groups of items; 0 for none. Half of a user's draws come from all items, the others from
        three groups of the user's own.

    Raises
    ------
    ConfigError
        If the interactions are none, or more than a quarter of the cells.
    """

    n_users: int
    n_items: int
    n_interactions: int
    popularity_exponent: float = 1.4
    popularity_shift: float = 60.0
    n_tastes: int = 64

    def __post_init__(self) -> None:
        most = self.n_users * self.n_items // 4
        if not 1 <= self.n_interactions <= most:
            raise ConfigError(
                f"{self.n_interactions} interactions for {self.n_users} users and {self.n_items}"
                f" items; from 1 to {most} fit"
            )


ML_20M = MatrixShape(n_users=136_677, n_items=20_108, n_interactions=9_990_682)


def ml20m_shape(rng: int = 0, shape: MatrixShape = ML_20M) -> csr_array:
    """Made-up matrix of the sizes of MovieLens 20M after the Mult-VAE preprocessing.

    Histories are about log-normal (median 46, mean 73), items follow a power law, and users have
    tastes. About 10 s and 1 GB for the default shape.

    Parameters
    ----------
    rng
        Seed.
    shape
        Other sizes.

    Returns
    -------
    Canonical float32 matrix of ones, ``(users, items)``, with exactly the interactions asked for.

    Examples
    --------
    >>> ml20m_shape(0, MatrixShape(n_users=50, n_items=80, n_interactions=500)).nnz
    500
    """
    random = np.random.default_rng((rng, 20))
    activity = np.exp(SPREAD * random.standard_normal(shape.n_users))
    chance = np.cumsum(activity) / activity.sum()
    items = _Draws(shape, random)
    found = np.zeros(0, dtype=np.int64)  # user * n_items + item, sorted, distinct
    while (missing := shape.n_interactions - len(found)) > 0:
        points = np.sort(random.random(missing + missing // 3 + 1000))
        users = np.minimum(np.searchsorted(chance, points, side="right"), shape.n_users - 1)
        found = _merged(found, users * shape.n_items + items.draw(users))
    surplus = random.permutation(len(found))[: len(found) - shape.n_interactions]
    found = np.delete(found, surplus)
    counts = np.bincount(found // shape.n_items, minlength=shape.n_users)
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    ones = np.ones(len(found), dtype=np.float32)
    matrix = csr_array((ones, found % shape.n_items, indptr), shape=(shape.n_users, shape.n_items))
    matrix.has_canonical_format = True
    return matrix


@final
class _Draws:
    """Items drawn with replacement: from all, or from one of the user's groups."""

    def __init__(self, shape: MatrixShape, random: np.random.Generator) -> None:
        ranks = 1 + random.permutation(shape.n_items)
        weights = (ranks + shape.popularity_shift) ** -shape.popularity_exponent
        # Items are numbered group after group, so that a group is an interval of `_ceiling`.
        self._ceiling: Float64[np.ndarray, " items"] = np.cumsum(weights) / weights.sum()
        self._n_tastes = shape.n_tastes
        if shape.n_tastes:
            bounds = np.linspace(0, shape.n_items, shape.n_tastes + 1).astype(np.int64)
            self._edges = np.concatenate(([0.0], self._ceiling))[bounds]
            self._tastes = random.integers(0, shape.n_tastes, (shape.n_users, 3))
        self._random = random

    def draw(self, users: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """One item for each entry of `users`."""
        low, high = np.zeros(len(users)), np.ones(len(users))
        if self._n_tastes:
            # Of six sides of a die, three are "any item" and one is each taste.
            side = self._random.integers(0, 6, len(users))
            own = side < 3
            taste = self._tastes[users[own], side[own]]
            low[own], high[own] = self._edges[taste], self._edges[taste + 1]
        point = low + (high - low) * self._random.random(len(users))
        return np.minimum(
            np.searchsorted(self._ceiling, point, side="right"), len(self._ceiling) - 1
        )


def _merged(
    found: Int64[np.ndarray, " found"], more: Int64[np.ndarray, " more"]
) -> Int64[np.ndarray, " both"]:
    # Sorted and distinct; much faster here than np.union1d, which hashes.
    both = np.concatenate((found, more))
    both.sort()
    distinct: Int64[np.ndarray, " both"] = both[np.append(True, both[1:] != both[:-1])]
    return distinct
