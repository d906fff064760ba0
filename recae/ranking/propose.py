"""Propose fast, rank exactly: the streamed top-k under every list the package makes.

Fast scores (float32 or less, any device) propose `k` items and a margin for each history. The
scorer's exact routine scores the proposals again and alone decides their order. A list is final
only when it is proved: every item not proposed has a fast score of at most the lowest proposed
one, so an exact score of at most that plus the error bound; if the k-th exact score is not above
that, the history is asked again with a larger margin, at last with all items. So lists do not
depend on batch, device or precision, ties included.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.sparse import csr_array
from torch import Tensor

from recae.data.histories import Histories
from recae.errors import RecaeError
from recae.ranking.topk import TopK, best_first

if TYPE_CHECKING:
    from recae.ranking.recommender import Scorer

MAX_CELLS = 8_388_608  # scores held at once by the caller's chunk of rows: 32 MiB of float32
_MARGIN = 16


def rows_at_once(n_items: int) -> int:
    """Users whose scores of all items may be held at once."""
    return max(1, min(1024, MAX_CELLS // max(1, n_items)))


def recommend_chunk(
    scorer: "Scorer",
    histories: Histories,
    k: int,
    hidden: list[csr_array],
    allowed: Bool[np.ndarray, " items"] | None,
) -> TopK:
    """Exact top `k` of every row of `histories`, items of `hidden` and disallowed ones left out."""
    n_users, n_items = histories.matrix.shape
    masks = [_mask_positions(matrix) for matrix in hidden]
    rows = np.arange(n_users, dtype=np.int64)
    items = np.full((n_users, k), -1, dtype=np.int64)
    scores = np.full((n_users, k), -np.inf, dtype=np.float32)
    width = min(n_items, k + max(_MARGIN, k // 4))
    error = scorer.error_bound()
    while len(rows):
        proposed, lowest = _propose(scorer, rows, n_users, width, masks, allowed)
        exact = scorer.exact(rows, np.maximum(proposed, 0))
        exact = np.where(proposed < 0, np.float32(-np.inf), exact)
        if not np.isfinite(exact[proposed >= 0]).all():
            raise RecaeError("a model gave scores that are not finite")
        ranked = best_first(proposed, exact, k)
        complete = np.isneginf(lowest)  # fewer eligible items than were asked for: all are here
        kth = ranked.scores[:, -1].astype(np.float64)
        done = complete | (kth > lowest + error[rows]) | (width == n_items)
        items[rows[done]], scores[rows[done]] = ranked.items[done], ranked.scores[done]
        rows = rows[~done]
        width = min(n_items, width * 8)
    return TopK(items, scores)


def _propose(
    scorer: "Scorer",
    rows: Int64[np.ndarray, " r"],
    n_users: int,
    width: int,
    masks: list[tuple[np.ndarray, np.ndarray]],
    allowed: Bool[np.ndarray, " items"] | None,
) -> tuple[Int64[np.ndarray, "r width"], Float64[np.ndarray, " r"]]:
    """Best `width` items of each of `rows` by fast score, and the lowest fast score among them."""
    best_scores: Tensor | None = None
    best_items: Tensor | None = None
    for block, scores in scorer.blocks():
        _mask_block(scores, block, masks, allowed)
        if len(rows) < n_users:
            scores = scores[torch.from_numpy(rows).to(scores.device)]
        top = torch.topk(scores, min(width, scores.shape[1]), dim=1, sorted=False)
        found = top.indices + block.start
        if best_scores is None or best_items is None:
            best_scores, best_items = top.values, found
            continue
        merged = torch.cat([best_scores, top.values], dim=1)
        top = torch.topk(merged, min(width, merged.shape[1]), dim=1, sorted=False)
        best_scores = top.values
        best_items = torch.cat([best_items, found], dim=1).gather(1, top.indices)
    assert best_scores is not None
    assert best_items is not None
    values = best_scores.cpu().numpy().astype(np.float64)
    if np.isnan(values).any() or np.isposinf(values).any():
        raise RecaeError("a model gave scores that are not finite")
    proposed = best_items.cpu().numpy().astype(np.int64)
    return np.where(np.isneginf(values), -1, proposed), values.min(axis=1)


def _mask_positions(matrix: csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the stored entries, ordered by column, to be cut by blocks."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    by_column = np.argsort(matrix.indices, kind="stable")
    return rows[by_column], matrix.indices[by_column]


def _mask_block(
    scores: Float32[Tensor, "users block"],
    block: slice,
    masks: list[tuple[np.ndarray, np.ndarray]],
    allowed: Bool[np.ndarray, " items"] | None,
) -> None:
    """Set the scores of items that may not be listed to minus infinity, in place."""
    for rows, columns in masks:
        start, stop = np.searchsorted(columns, [block.start, block.stop])
        scores[
            _on(scores, rows[start:stop]), _on(scores, columns[start:stop] - block.start)
        ] = -torch.inf
    if allowed is not None:
        scores[:, ~_on(scores, allowed[block])] = -torch.inf


def _on(like: Tensor, array: Any) -> Tensor:
    return torch.from_numpy(array).to(like.device)
