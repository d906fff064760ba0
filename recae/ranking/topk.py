"""`TopK`: ranked lists, and the one rule that orders them."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float32, Float64, Int64


@final
@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """Best items of each user, best first.

    Attributes
    ----------
    items
        Item indices, shape ``(users, k)``; ``-1`` after the last eligible item.
    scores
        Their scores, same shape; ``-inf`` after the last eligible item. Equal scores are ordered
        by ascending item index.
    """

    items: Int64[np.ndarray, "users k"]
    scores: Float32[np.ndarray, "users k"]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def k(self) -> int:
        """Length of the lists, padding included."""
        return int(self.items.shape[1])

    def padded(self, k: int) -> "TopK":
        """Return the lists at length `k`, at least theirs, empty after the last item."""
        if k == self.k:
            return self
        missing = ((0, 0), (0, k - self.k))
        return TopK(
            np.pad(self.items, missing, constant_values=-1),
            np.pad(self.scores, missing, constant_values=-np.inf),
        )


@final
class BestLists:
    """The best `k` items of each user so far, of candidates that come in any order.

    An item is one integer: its score, larger ones smaller, above its index. Then the rule that
    orders lists is the order of integers.

    Parameters
    ----------
    n_users, k
        How many lists, and their length.
    """

    def __init__(self, n_users: int, k: int) -> None:
        self._keys = np.full((n_users, k), _EMPTY, dtype=np.int64)

    def kth(self) -> Float64[np.ndarray, " users"]:
        """Score of the last place of each list; ``-inf`` where it is empty."""
        last = self._keys[:, -1]
        kth: np.ndarray = np.where(last == _EMPTY, -np.inf, _scores(last).astype(np.float64))
        return kth

    def add(
        self,
        rows: Int64[np.ndarray, " pairs"],
        items: Int64[np.ndarray, " pairs"],
        scores: Float32[np.ndarray, " pairs"],
    ) -> None:
        """Consider candidates, each item at most once a row.

        Parameters
        ----------
        rows
            Whose list, in ascending order, at least one.
        items
            Their indices, below ``2**32``.
        scores
            Finite.
        """
        k = self._keys.shape[1]
        first, last = rows[0], rows[-1] + 1
        counts = np.bincount(rows - first)
        starts = np.cumsum(counts) - counts
        keys = np.full((last - first, k + counts.max()), _EMPTY, dtype=np.int64)
        keys[:, :k] = self._keys[first:last]
        keys[rows - first, k + np.arange(len(rows)) - starts[rows - first]] = _keys(items, scores)
        keys.sort(axis=1)
        self._keys[first:last] = keys[:, :k]

    def lists(self) -> TopK:
        """Return the lists."""
        empty = self._keys == _EMPTY
        items = np.where(empty, np.int64(-1), self._keys & _ITEM)
        return TopK(items, np.where(empty, np.float32(-np.inf), _scores(self._keys)))


@final
class BestOfRow:
    """The same for one user, by fewer steps.

    Parameters
    ----------
    k
        Length of the list.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._items = np.empty(0, dtype=np.int64)
        self._scores = np.empty(0, dtype=np.float32)

    def kth(self) -> float:
        """Score of the last place; ``-inf`` where it is empty."""
        return float(self._scores[-1]) if len(self._scores) == self._k else -np.inf

    def add(self, items: Int64[np.ndarray, " n"], scores: Float32[np.ndarray, " n"]) -> None:
        """Consider candidates; see `BestLists.add`."""
        items, scores = np.append(self._items, items), np.append(self._scores, scores)
        best = np.lexsort((items, -scores))[: self._k]
        self._items, self._scores = items[best], scores[best]

    def lists(self) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
        """Return items and scores as a row of a `TopK` has them."""
        items, scores = np.full(self._k, -1), np.full(self._k, -np.inf, dtype=np.float32)
        items[: len(self._items)] = self._items
        scores[: len(self._items)] = self._scores + np.float32(0)  # makes -0 and 0 the same
        return items, scores


_EMPTY = np.iinfo(np.int64).max
_ITEM = (1 << 32) - 1


def _keys(
    items: Int64[np.ndarray, " n"], scores: Float32[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    bits = (scores + np.float32(0)).view(np.int32)  # adding 0 makes -0 and 0 the same
    ascending = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))  # in the order of the numbers
    keys: np.ndarray = (~ascending).astype(np.int64) << 32 | items
    return keys


def _scores(keys: Int64[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    ascending = ~(keys >> 32).astype(np.int32)
    scores: np.ndarray = (ascending ^ ((ascending >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
    return scores
