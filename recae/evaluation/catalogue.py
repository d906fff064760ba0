r"""What the lists look like, whatever the targets: coverage, inequality, novelty, popularity.

Targets play no part, so users without targets count too. `listed` has shape ``(users, k)``: item
indices, best first, ``-1`` after the end of a short list; empty places are left out of every sum
and every denominator. A user whose list is empty gets NaN.
"""

import numpy as np
from jaxtyping import Float64, Int64

from recae.errors import DataError


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
