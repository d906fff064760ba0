"""The best items of one history, by NumPy: what a request waits for.

The rule is that of `recae.ranking.propose`. Only the tools differ: for one row a tensor call takes
longer than what it does, and hands the interpreter to the other threads of a server.
"""

import math

import numpy as np
from jaxtyping import Bool, Float32
from scipy.sparse import csr_array

from recae.errors import RecaeError
from recae.ranking.scorer import Scorer, lacking_of, proposals_of
from recae.ranking.topk import BestOfRow, TopK

_GROUP = 16  # items whose largest score is looked at first
_FEW = 8192  # scores that are sorted as they are
_LEAST = float(np.finfo(np.float32).min)


def recommend_row(
    scorer: Scorer, k: int, hidden: list[csr_array], allowed: Bool[np.ndarray, " items"] | None
) -> TopK:
    """Exact top `k` of the one history that `scorer` is about; see `recommend_chunk`.

    Raises
    ------
    RecaeError
        If a score is not finite.
    """
    proposals = proposals_of(scorer)
    error = float(proposals.error[0])  # up and down from it as `Proposals` rounds
    best = BestOfRow(k)
    for block, scores in proposals.blocks:
        row = np.ascontiguousarray(scores[0].float().cpu().numpy())
        for matrix in hidden:
            items = matrix.indices
            if len(row) != matrix.shape[1]:
                items = items[(items >= block.start) & (items < block.stop)] - block.start
            row[items] = -np.inf
        if allowed is not None:
            row[~allowed[block]] = -np.inf
        lacking = lacking_of(scorer)
        if lacking is not None:
            row[lacking[0].cpu().numpy()] = -np.inf
        if not row.max(initial=-np.inf) < np.inf:  # nor where one is NaN
            raise RecaeError("a model gave scores that are not finite")
        kth = math.nextafter(_reached(row, k) - error, -math.inf)
        least = _float32_below(math.nextafter(max(best.kth(), kth) - error, -math.inf))
        items = np.flatnonzero(row >= least) + block.start
        if not len(items):
            continue
        exact = scorer.exact(np.zeros(len(items), dtype=np.int64), items)
        if not np.isfinite(exact).all():
            raise RecaeError("a model gave scores that are not finite")
        best.add(items, exact)
    return best.lists()


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
