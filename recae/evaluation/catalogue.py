r"""What the lists look like, whatever the targets: coverage, inequality, novelty, popularity.

Targets play no part, so users without targets count too. `listed` has shape ``(users, k)``: item
indices, best first, ``-1`` after the end of a short list; empty places are left out of every sum
and every denominator. A user whose list is empty gets NaN.
"""

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array

from recae.errors import DataError

_LISTS = 4  # whose items' users are counted at once


def list_counts(
    listed: Int64[np.ndarray, "users k"], n_items: int
) -> Int64[np.ndarray, " n_items"]:
    """In how many lists each item stands."""
    return np.bincount(listed[listed >= 0], minlength=n_items).astype(np.int64)


def coverage(counts: Int64[np.ndarray, " items"]) -> float:
    r"""``coverage@k``: share of all items that stand in at least one list of `k`.

    Parameters
    ----------
    counts
        In how many lists each item of the catalogue stands.

    References
    ----------
    Ge, Delgado-Battenfeld and Jannach, "Beyond accuracy", RecSys 2010 (catalogue coverage).

    Examples
    --------
    >>> coverage(np.array([2, 0, 1, 0]))
    0.5
    """
    return float(np.count_nonzero(counts) / len(counts))


def gini(counts: Int64[np.ndarray, " items"]) -> float:
    r"""``gini@k``: inequality of how often items are listed, over all items of the catalogue.

    With the :math:`m` counts in ascending order, :math:`\sum_i (2i - m - 1) c_i / (m \sum_i c_i)`:
    0 where all items are listed equally often, ``(m - 1) / m`` where one item fills every list, NaN
    where all lists are empty.

    References
    ----------
    Fleder and Hosanagar, "Blockbuster culture's next rise or fall", Management Science 2009.

    Examples
    --------
    >>> gini(np.array([3, 3])), gini(np.array([0, 0, 0, 9]))
    (0.0, 0.75)
    """
    m, total = len(counts), int(counts.sum())
    if not total:
        return float("nan")
    weights = 2 * np.arange(1, m + 1) - m - 1
    return float((weights * np.sort(counts)).sum() / (m * total))


def novelty(
    listed: Int64[np.ndarray, "users k"], popularity: Int64[np.ndarray, " items"]
) -> Float64[np.ndarray, " users"]:
    r"""``novelty@k``: mean self-information of a user's listed items, in bits.

    :math:`-\log_2 (c_i / \sum_j c_j)` with :math:`c` the training counts: the surprise of drawing
    the item from the training interactions. An item never trained on counts as trained on once.

    Raises
    ------
    DataError
        If no item has a training interaction.

    References
    ----------
    Zhou et al., "Solving the apparent diversity-accuracy dilemma", PNAS 2010, who divide by users
    instead of interactions: the same up to a constant of the data set.

    Examples
    --------
    >>> novelty(np.array([[0, 1], [2, -1]]), np.array([4, 2, 2])).tolist()
    [1.5, 2.0]
    """
    bits = np.log2(_trained(popularity)) - np.log2(np.maximum(popularity, 1))
    return _mean_of_listed(listed, bits)


def popularity_bias(
    listed: Int64[np.ndarray, "users k"], popularity: Int64[np.ndarray, " items"]
) -> Float64[np.ndarray, " users"]:
    r"""``popularity-bias@k``: mean training count of a user's listed items, relative to training.

    Divided by the mean training count of the item of a training interaction,
    :math:`\sum_j c_j^2 / \sum_j c_j`: 1 says that lists are as popular as what people did, above 1
    that they are more popular.

    Raises
    ------
    DataError
        If no item has a training interaction.

    References
    ----------
    Abdollahpouri et al., "The unfairness of popularity bias in recommendation", 2019, whose group
    average popularity is taken here over all training interactions.

    Examples
    --------
    >>> popularity_bias(np.array([[0, -1], [1, 2]]), np.array([4, 2, 2])).round(6).tolist()
    [1.333333, 0.666667]
    """
    usual = float((popularity.astype(np.float64) ** 2).sum()) / _trained(popularity)
    return _mean_of_listed(listed, popularity / usual)


def users_of_items(train: csr_array) -> csr_array:
    """Who touched each item: ones of 8 bits, shape ``(items, train users)``."""
    kind = np.dtype(np.int32 if max(*train.shape, train.nnz) < 2**31 else np.int64)
    # bytes instead of values, and short indices: this copy of the training part stays
    parts = (
        np.ones(train.nnz, dtype=np.int8),
        train.indices.astype(kind, copy=False),
        train.indptr.astype(kind, copy=False),
    )
    users: csr_array = csr_array(parts, shape=train.shape).T.tocsr()
    return users


def diversity(
    listed: Int64[np.ndarray, "users k"], users: csr_array
) -> Float64[np.ndarray, " users"]:
    r"""``diversity@k``: mean distance between two different items of a user's list.

    The distance of two items is one minus the cosine of their training columns,
    :math:`1 - c_{ij} / \sqrt{c_i c_j}` with :math:`c_{ij}` the training users who touched both:
    0 for items touched by the same users, 1 where no user touched both. An item never trained on is
    at distance 1 from all. A list of fewer than two items gets NaN. The order inside the list does
    not matter.

    Parameters
    ----------
    listed
        Item indices, each at most once a row.
    users
        From `users_of_items`.

    Notes
    -----
    With unit vectors :math:`x_i` the cosines of all :math:`m (m - 1)` ordered pairs sum to
    :math:`\lVert \sum_i x_i \rVert^2 - \sum_i \lVert x_i \rVert^2`, so no pair is formed.

    References
    ----------
    Smyth and McClave, "Similarity vs. diversity", ICCBR 2001; Ziegler et al., "Improving
    recommendation lists through topic diversification", WWW 2005, whose intra-list similarity this
    is one minus, with the cosine of Vargas and Castells, "Rank and relevance in novelty and
    diversity metrics", RecSys 2011.

    Examples
    --------
    Items 0 and 1 were touched by the same user, item 2 by another.

    >>> users = users_of_items(csr_array(np.array([[1.0, 1, 0], [0, 0, 1]])))
    >>> diversity(np.array([[0, 1], [0, 2], [2, -1]]), users).tolist()
    [0.0, 1.0, nan]
    """
    out = [_distances(listed[s : s + _LISTS], users) for s in range(0, len(listed), _LISTS)]
    return np.concatenate(out) if out else np.empty(0)


def _distances(
    listed: Int64[np.ndarray, "users k"], users: csr_array
) -> Float64[np.ndarray, " users"]:
    there = listed >= 0
    counts = there.sum(axis=1)
    # ascending items, so that a sum does not depend on the order of the list
    items = np.concatenate([np.sort(row[kept]) for row, kept in zip(listed, there, strict=True)])
    used, places = np.unique(items, return_inverse=True)
    unit = users[used]  # (used, train users)
    lengths = np.diff(unit.indptr)
    unit.data = np.repeat(1.0 / np.sqrt(np.maximum(lengths, 1)), lengths)
    # indices of the same type: scipy would copy those of all the users to make them alike
    kind = unit.indices.dtype
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(kind)
    shape = (len(listed), len(used))
    lists = csr_array((np.ones(len(items)), places.astype(kind), indptr), shape=shape)
    together = lists @ unit  # (users, train users)
    together.data **= 2
    cosines = together.sum(axis=1) - lists @ (lengths > 0).astype(np.float64)
    pairs = counts * (counts - 1)
    out = np.full(len(listed), np.nan)
    np.divide(cosines, pairs, out=out, where=pairs > 0)
    return np.clip(1.0 - out, 0.0, 1.0)  # rounding may leave the range


def _trained(popularity: Int64[np.ndarray, " items"]) -> int:
    total = int(popularity.sum())
    if total < 1 or popularity.min() < 0:
        raise DataError("popularity holds no training interactions; counts of each item are needed")
    return total


def _mean_of_listed(
    listed: Int64[np.ndarray, "users k"], values: Float64[np.ndarray, " items"]
) -> Float64[np.ndarray, " users"]:
    there = listed >= 0
    totals = np.cumsum(np.where(there, values[listed], 0.0), axis=1)[:, -1]
    out = np.full(len(listed), np.nan)
    np.divide(totals, there.sum(axis=1), out=out, where=there.any(axis=1))
    return out
