"""Groups of users and of items that a report is broken down by."""

import numpy as np
from jaxtyping import Int64

from recae.data.split import HeldOut

_LENGTHS = ((0, "0"), (1, "1-4"), (5, "5-9"), (10, "10-19"), (20, "20-49"), (50, "50-99"))
_LAST_LENGTH = (100, "100+")

SEGMENTS = ("history", "popularity")
"""What every report can be broken down by."""

POPULARITY_GROUPS = ("head", "middle", "tail")
"""Items in falling popularity, cut so that each group has a third of the training interactions."""


def history_lengths(held_out: HeldOut) -> list[str]:
    """Return the group of each user by the number of fold-in items: 0, 1-4, 5-9, ..., 100+."""
    edges, names = zip(*_LENGTHS, _LAST_LENGTH, strict=True)
    lengths = np.diff(held_out.fold_in.matrix.indptr)
    return [names[i] for i in np.searchsorted(edges, lengths, side="right") - 1]


def popularity_groups(popularity: Int64[np.ndarray, " items"]) -> Int64[np.ndarray, " items"]:
    """Position in `POPULARITY_GROUPS` of each item.

    Items are taken by falling training count, equal counts by index. An item belongs to the third
    of all training interactions in which its own begin, so a group holds about a third of them.
    """
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    total = max(1, int(popularity.sum()))
    groups = np.empty(len(popularity), dtype=np.int64)
    groups[order] = np.minimum(before * 3 // total, len(POPULARITY_GROUPS) - 1)
    return groups
