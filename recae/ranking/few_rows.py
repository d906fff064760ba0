"""The best items of a few histories, by NumPy: what a request waits for.

The rule is that of `recae.ranking.propose`. Only the tools differ: for a few rows a tensor call
takes longer than what it does, and hands the interpreter to the other threads of a server.
"""

import math

import numpy as np
from jaxtyping import Bool, Float32
from scipy.sparse import csr_array

from recae.errors import RecaeError
from recae.ranking.scorer import Scorer, lacking_of, proposals_of
from recae.ranking.topk import BestOfRow, TopK

FEW_ROWS = 16
_GROUP = 16  # items whose largest score is looked at first
_FEW = 8192  # scores that are sorted as they are
_LEAST = float(np.finfo(np.float32).min)


def recommend_few(
    scorer: Scorer, k: int, hidden: list[csr_array], allowed: Bool[np.ndarray, " items"] | None
) -> TopK:
    """Exact top `k` of each history that `scorer` is about; see `recommend_chunk`.

    Raises
    ------
    RecaeError
        If a score is not finite.
    """
    proposals = proposals_of(scorer)
    errors = proposals.error.tolist()
    best = [BestOfRow(k) for _ in errors]
    for block, scores in proposals.blocks:
        fast = np.ascontiguousarray(scores.float().cpu().numpy())
        if allowed is not None:
            fast[:, ~allowed[block]] = -np.inf
        lacking = lacking_of(scorer)
        if lacking is not None:
            fast[lacking.cpu().numpy()] = -np.inf
        found = []
        for row, (of_row, error) in enumerate(zip(fast, errors, strict=True)):
            for matrix in hidden:
                items = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
                if len(of_row) != matrix.shape[1]:
                    items = items[(items >= block.start) & (items < block.stop)] - block.start
                of_row[items] = -np.inf
            if not of_row.max(initial=-np.inf) < np.inf:  # nor where one is NaN
                raise RecaeError("a model gave scores that are not finite")
            certain = _below(_reached(of_row, k) - error)  # both as `Proposals` has them
            needed = _below(max(best[row].kth(), certain) - error)
            found.append(np.flatnonzero(of_row >= _float32_below(needed)) + block.start)
        counts = [len(items) for items in found]
        if not any(counts):
            continue
        rows = np.repeat(np.arange(len(found)), counts)
        exact = scorer.exact(rows, np.concatenate(found))
        if not np.isfinite(exact).all():
            raise RecaeError("a model gave scores that are not finite")
        parts = np.split(exact, np.cumsum(counts)[:-1])
        for list_, items, ranking in zip(best, found, parts, strict=True):
            list_.add(items, ranking)
    lists = [list_.lists() for list_ in best]
    return TopK(np.stack([items for items, _ in lists]), np.stack([s for _, s in lists]))


def _below(value: float) -> float:
    return math.nextafter(value, -math.inf)


def _reached(row: Float32[np.ndarray, " block"], k: int) -> float:
    """Return a number that at least `k` scores reach, near the largest such; ``-inf`` if none."""
    if len(row) > max(_FEW, 4 * _GROUP * k):  # k maxima of groups are reached by k scores
        whole = len(row) // _GROUP * _GROUP
        row = row[:whole].reshape(_GROUP, -1).max(axis=0)
    place = len(row) - k
    return float(np.partition(row, place)[place]) if place >= 0 else -math.inf


def _float32_below(value: float) -> np.float32:
    """Largest finite float32 that is at most `value`; the least one where none is."""
    if value <= _LEAST:
        return np.float32(_LEAST)
    near = np.float32(value)
    return np.nextafter(near, np.float32(-np.inf)) if float(near) > value else near
