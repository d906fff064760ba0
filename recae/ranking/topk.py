"""`TopK`: ranked lists, and the one rule that orders them."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float32, Int64


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


def best_first(
    items: Int64[np.ndarray, "users m"], scores: Float32[np.ndarray, "users m"], k: int
) -> TopK:
    """Order candidates by (score descending, item index ascending) and keep `k` of them.

    Parameters
    ----------
    items
        Candidate indices, each at most once a row; ``-1`` marks an empty place.
    scores
        Their scores; ``-inf`` in empty places.
    k
        Places in the result; missing ones are padded with ``-1`` and ``-inf``.
    """
    beyond_all = np.iinfo(np.int64).max
    order = np.lexsort((np.where(items < 0, beyond_all, items), -scores), axis=1)[:, :k]
    out_items = np.full((len(items), k), -1, dtype=np.int64)
    out_scores = np.full((len(items), k), -np.inf, dtype=np.float32)
    out_items[:, : order.shape[1]] = np.take_along_axis(items, order, axis=1)
    out_scores[:, : order.shape[1]] = np.take_along_axis(scores, order, axis=1)
    out_items[np.isneginf(out_scores)] = -1
    return TopK(out_items, out_scores)
