"""`Judged`: ranked lists beside what their users were looking for."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Float32, Int64
from scipy.sparse import csr_array

from recae.errors import DataError


@final
@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Lists of a batch of users and which of their places are hits.

    Attributes
    ----------
    listed
        Item indices, best first, ``-1`` after the last; shape ``(users, k_max)``.
    target
        What the users were looking for, canonical, shape ``(users, items)``.
    hits
        Whether each listed item is a target, shape ``(users, k_max)``.
    gains
        Value of the target at each place, 0 where there is none; same shape.
    """

    listed: Int64[np.ndarray, "users k_max"]
    target: csr_array
    hits: Bool[np.ndarray, "users k_max"]
    gains: Float32[np.ndarray, "users k_max"]

    @property
    def n_targets(self) -> Int64[np.ndarray, " users"]:
        """Number of targets of each user."""
        return np.diff(self.target.indptr).astype(np.int64)


def judge(listed: Int64[np.ndarray, "users k_max"], target: csr_array) -> Judged:
    """Look every listed item up among its user's targets.

    One binary search a place in the sorted entries of `target`: nothing dense is made.

    Parameters
    ----------
    listed
        Item indices, each at most once a row; ``-1`` in empty places.
    target
        Canonical matrix of the same users.

    Raises
    ------
    DataError
        If the numbers of rows differ.
    """
    n_users, n_items = target.shape
    if len(listed) != n_users:
        raise DataError(f"{len(listed)} lists for {n_users} rows of targets")
    rows = np.arange(n_users, dtype=np.int64)
    keys = np.repeat(rows, np.diff(target.indptr)) * n_items + target.indices  # ascending
    wanted = rows[:, None] * n_items + listed
    if not len(keys):
        nothing = np.zeros(listed.shape, dtype=np.float32)
        return Judged(listed, target, nothing > 0, nothing)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    hits = (keys[places] == wanted) & (listed >= 0)
    return Judged(listed, target, hits, np.where(hits, target.data[places], np.float32(0)))


def ideal_gains(target: csr_array, k: int) -> Float32[np.ndarray, "users k"]:
    """Target values of each user, largest first, cut or zero-padded to `k`.

    Raises
    ------
    DataError
        If a value is negative: a gain cannot be.
    """
    if target.nnz and target.data.min() < 0:
        raise DataError(
            f"graded gains hold {target.data.min():g}; target values of at least 0 are accepted"
        )
    lengths = np.diff(target.indptr)
    rows = np.repeat(np.arange(target.shape[0]), lengths)
    by_value = np.lexsort((-target.data, rows))
    ranks = np.arange(target.nnz) - np.repeat(target.indptr[:-1], lengths)
    out = np.zeros((target.shape[0], k), dtype=np.float32)
    kept = ranks < k
    out[rows[kept], ranks[kept]] = target.data[by_value][kept]
    return out
