"""What a metric would be on average, were equal scores ordered by chance instead of by index."""

import numpy as np
from jaxtyping import Bool, Float32, Float64

from recae.errors import DataError


def expected_hits(
    scores: Float32[np.ndarray, "users items"],
    targets: Bool[np.ndarray, "users items"],
    k: int,
) -> Float64[np.ndarray, "users k"]:
    r"""Probability that each rank holds a target when ties are broken at random.

    Inside a group of :math:`m` equal scores with :math:`t` targets every rank holds one with
    probability :math:`t / m`. `recall`, `recall_all`, `precision` and `ndcg` of
    `recae.evaluation.metrics` are linear in the hits: given these in place of hits they return
    their expected values. The other metrics are not linear.

    Dense: for a few thousand users at once, or a small catalogue.

    Parameters
    ----------
    scores
        Scores, ``-inf`` for items that may not be listed (a rank that holds none is no hit).
    targets
        Whether each item is one of the user's targets, same shape.
    k
        Ranks wanted; those beyond the catalogue hold nothing.

    Raises
    ------
    DataError
        If a score is NaN.

    References
    ----------
    McSherry and Najork, "Computing information retrieval performance measures efficiently in the
    presence of tied scores", ECIR 2008.

    Examples
    --------
    The first rank is sure, the next two share one target.

    >>> expected_hits(np.float32([[1, 3, 1]]), np.array([[True, True, False]]), k=3).tolist()
    [[1.0, 0.5, 0.5]]
    """
    if np.isnan(scores).any():
        raise DataError("scores hold NaN; finite scores, and -inf for excluded items, are accepted")
    n_users, n_items = scores.shape
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    found = np.take_along_axis(targets, order, axis=1) & ~np.isneginf(ranked)
    starts = np.ones((n_users, n_items), dtype=bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    group = np.cumsum(starts.ravel()) - 1  # every row starts a group, so rows do not mix
    share = np.bincount(group, weights=found.ravel()) / np.maximum(np.bincount(group), 1)
    out = np.zeros((n_users, k))
    shown = min(k, n_items)
    out[:, :shown] = share[group].reshape(n_users, n_items)[:, :shown]
    return out
