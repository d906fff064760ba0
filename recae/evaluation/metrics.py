r"""Ranking metrics, one number a user, from where the hits are.

Every function takes the same three things:

``hits``
    Shape ``(users, k_max)``: whether the item at each rank, best first, is one of the user's
    targets. Places after the end of a short list are False.
``n_targets``
    Shape ``(users,)``: the number :math:`n` of the user's targets, found or not.
``k``
    Only the first `k` ranks count. Where `k` is above ``k_max`` the missing ranks hold no hits.

Common to all: a user without targets gets NaN, which no mean counts as a zero; a list shorter
than `k` is never excused, its missing places are misses; ties were settled before, by the order of
the list (score descending, item index ascending); :math:`h_i` is 1 where rank :math:`i` (from 1)
holds a target, else 0; every value lies in [0, 1], and a perfect list gets exactly 1, except by
``precision``, where 1 needs at least `k` targets.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

Hits = Bool[np.ndarray, "users k_max"] | Float64[np.ndarray, "users k_max"]
"""Hits, or their probabilities (`recae.evaluation.ties`), for metrics that are linear in them."""


def recall(
    hits: Hits, n_targets: Int64[np.ndarray, " users"], k: int
) -> Float64[np.ndarray, " users"]:
    r"""``recall@k``: hits among the first `k`, divided by min(k, targets).

    .. math:: \frac{\sum_{i \le k} h_i}{\min(k, n)}

    The denominator is the most hits a list of `k` can hold. `recall_all` divides by all targets.

    References
    ----------
    Liang et al., "Variational Autoencoders for Collaborative Filtering", WWW 2018, sec. 4.2.

    Examples
    --------
    One of two ranks hits; the user has three targets, of which two ranks can hold two.

    >>> recall(np.array([[True, False]]), np.array([3]), k=2).tolist()
    [0.5]
    """
    return _ratio(hits[:, :k].sum(axis=1), np.minimum(n_targets, k))


def recall_all(
    hits: Hits, n_targets: Int64[np.ndarray, " users"], k: int
) -> Float64[np.ndarray, " users"]:
    r"""``recall-all@k``: hits among the first `k`, divided by all targets.

    .. math:: \frac{\sum_{i \le k} h_i}{n}

    A perfect list gets ``k / n``, below 1, where there are more than `k` targets.

    References
    ----------
    He et al., "LightGCN", SIGIR 2020, and the BARS benchmarks, under the name recall.

    Examples
    --------
    >>> recall_all(np.array([[True, False]]), np.array([4]), k=2).tolist()
    [0.25]
    """
    return _ratio(hits[:, :k].sum(axis=1), n_targets)


def precision(
    hits: Hits, n_targets: Int64[np.ndarray, " users"], k: int
) -> Float64[np.ndarray, " users"]:
    r"""``precision@k``: hits among the first `k`, divided by `k`, however short the list.

    .. math:: \frac{\sum_{i \le k} h_i}{k}

    References
    ----------
    Manning et al., "Introduction to Information Retrieval", 2008, sec. 8.4.

    Examples
    --------
    >>> precision(np.array([[True, False]]), np.array([1]), k=4).tolist()
    [0.25]
    """
    return _ratio(hits[:, :k].sum(axis=1), np.where(n_targets > 0, k, 0))


def hit(
    hits: Bool[np.ndarray, "users k_max"], n_targets: Int64[np.ndarray, " users"], k: int
) -> Float64[np.ndarray, " users"]:
    r"""``hit@k``: 1 where the first `k` hold at least one target, else 0; no denominator.

    References
    ----------
    Deshpande and Karypis, "Item-based top-N recommendation algorithms", TOIS 2004, sec. 5.2.

    Examples
    --------
    >>> hit(np.array([[False, True], [False, False]]), np.array([3, 3]), k=2).tolist()
    [1.0, 0.0]
    """
    return _ratio(np.minimum(hits[:, :k].sum(axis=1), 1), np.minimum(n_targets, 1))


def mrr(
    hits: Bool[np.ndarray, "users k_max"], n_targets: Int64[np.ndarray, " users"], k: int
) -> Float64[np.ndarray, " users"]:
    r"""``mrr@k``: one over the rank of the first hit, 0 where the first `k` hold none.

    .. math:: \max_{i \le k} \frac{h_i}{i}

    References
    ----------
    Voorhees, "The TREC-8 Question Answering Track Report", 1999.

    Examples
    --------
    >>> mrr(np.array([[False, True]]), np.array([1]), k=2).tolist()
    [0.5]
    """
    shown = hits[:, :k]
    best = (shown / np.arange(1, shown.shape[1] + 1)).max(axis=1, initial=0.0)
    return _ratio(best, np.minimum(n_targets, 1))


def average_precision(
    hits: Bool[np.ndarray, "users k_max"], n_targets: Int64[np.ndarray, " users"], k: int
) -> Float64[np.ndarray, " users"]:
    r"""``map@k``: precision at the rank of each hit, summed, divided by min(k, targets).

    .. math:: \frac{1}{\min(k, n)} \sum_{i \le k} h_i \frac{\sum_{j \le i} h_j}{i}

    trec_eval and ir-measures divide by all targets instead; libraries differ in five ways.

    References
    ----------
    Kaggle's MAP@K ("Million Song Dataset Challenge"); the variants: Tamm et al., "Quality Metrics
    in Recommender Systems: Do We Calculate Metrics Consistently?", RecSys 2021.

    Examples
    --------
    Hits at ranks 1 and 3 of 3, two targets: (1/1 + 2/3) / 2.

    >>> average_precision(np.array([[True, False, True]]), np.array([2]), k=3).round(6).tolist()
    [0.833333]
    """
    shown = hits[:, :k]
    precisions = np.cumsum(shown, axis=1) / np.arange(1, shown.shape[1] + 1)
    return _ratio(_total(np.where(shown, precisions, 0.0)), np.minimum(n_targets, k))


def r_precision(
    hits: Bool[np.ndarray, "users k_max"], n_targets: Int64[np.ndarray, " users"]
) -> Float64[np.ndarray, " users"]:
    r"""``r-precision``: hits among the first n ranks, divided by n, with n the user's targets.

    .. math:: \frac{\sum_{i \le n} h_i}{n}

    Needs lists of at least as many places as the user has targets; missing places are misses.

    References
    ----------
    Manning et al., "Introduction to Information Retrieval", 2008, sec. 8.4.

    Examples
    --------
    >>> r_precision(np.array([[True, False, True]]), np.array([2])).tolist()
    [0.5]
    """
    ranks = np.arange(hits.shape[1])
    return _ratio((hits & (ranks < n_targets[:, None])).sum(axis=1), n_targets)


def ndcg(
    hits: Hits, n_targets: Int64[np.ndarray, " users"], k: int
) -> Float64[np.ndarray, " users"]:
    r"""``ndcg@k``: discounted hits, divided by those of a list that begins with all targets.

    .. math::

       \frac{\sum_{i \le k} h_i / \log_2(i + 1)}{\sum_{i \le \min(k, n)} 1 / \log_2(i + 1)}

    The ideal list is min(k, targets) long, not `k` and not as long as the list returned.

    References
    ----------
    Järvelin and Kekäläinen, TOIS 2002; with this truncation Liang et al., WWW 2018, sec. 4.2.

    Examples
    --------
    One target, found at rank 3: (1 / log2(4)) / (1 / log2(2)).

    >>> ndcg(np.array([[False, False, True]]), np.array([1]), k=3).tolist()
    [0.5]
    """
    shown = hits[:, :k]
    ideal = np.concatenate(([0.0], np.cumsum(_discounts(k))))
    gained = _total(shown * _discounts(shown.shape[1]))
    return _ratio(gained, ideal[np.minimum(n_targets, k)])


def ndcg_graded(
    gains: Float[np.ndarray, "users k_max"], ideal: Float[np.ndarray, "users best"], k: int
) -> Float64[np.ndarray, " users"]:
    r"""``ndcg-graded@k``: as `ndcg`, with the targets' values as linear gains.

    .. math:: \frac{\sum_{i \le k} g_i / \log_2(i + 1)}{\sum_{i \le k} g^*_i / \log_2(i + 1)}

    Equal to `ndcg` where all values are the same.

    Parameters
    ----------
    gains
        Value of the target at each rank, 0 where the item is none; shape ``(users, k_max)``.
    ideal
        The user's target values, largest first, then zeros; at least the `k` largest, if there are
        as many. A row of zeros is a user without targets.
    k
        Only the first `k` ranks count.

    References
    ----------
    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002.

    Examples
    --------
    >>> ndcg_graded(np.array([[1.0, 3.0]]), np.array([[3.0, 1.0]]), k=1).round(6).tolist()
    [0.333333]
    """
    gained, best = (
        _total(np.float64(part) * _discounts(part.shape[1]))
        for part in (gains[:, :k], ideal[:, :k])
    )
    return _ratio(gained, best)


def _discounts(k: int) -> Float64[np.ndarray, " k"]:
    return 1.0 / np.log2(np.arange(2, k + 2, dtype=np.float64))


def _total(values: Float64[np.ndarray, "users k"]) -> Float64[np.ndarray, " users"]:
    """Row sums from left to right: rows do not mix, and a perfect list is exactly ideal."""
    if not values.shape[1]:
        return np.zeros(len(values))
    totals: np.ndarray = np.cumsum(values, axis=1)[:, -1]
    return totals


def _ratio(
    found: Float64[np.ndarray, " users"] | Int64[np.ndarray, " users"],
    possible: Float64[np.ndarray, " users"] | Int64[np.ndarray, " users"],
) -> Float64[np.ndarray, " users"]:
    """``found / possible``, NaN where nothing was possible."""
    out = np.full(len(found), np.nan)
    np.divide(found, possible, out=out, where=possible > 0)
    return out
