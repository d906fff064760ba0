"""Propose fast, rank exactly: the streamed top-k under every list the package makes.

Fast scores (float32 or from 8-bit integers; any device) tell which items can be listed, the
scorer's exact routine alone decides their order. With ``|exact - fast| <= e`` for a history,
and the k-th largest fast score being ``f``, at least `k` exact scores reach ``f - e``; an item
whose fast score is below ``f - 2 e`` has an exact one below that, and cannot be listed. All others
are scored exactly: usually a few more than `k`, in the worst case all. So lists do not depend on
batch, device or precision, ties included. Blocks of items come one after another; from the second
on, the k-th best exact score so far is another floor, and few items reach it.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.sparse import csr_array
from torch import Tensor

from recae.data.histories import Histories
from recae.errors import RecaeError
from recae.ranking.few_rows import FEW_ROWS, recommend_few
from recae.ranking.scorer import Scorer, lacking_of, proposals_of
from recae.ranking.select import Groups
from recae.ranking.topk import BestLists, TopK


def recommend_chunk(
    scorer: Scorer,
    histories: Histories,
    k: int,
    hidden: list[csr_array],
    allowed: Bool[np.ndarray, " items"] | None,
) -> TopK:
    """Exact top `k` of every row of `histories`.

    Without items of `hidden`, disallowed ones and those that nothing in the history speaks for.

    Raises
    ------
    RecaeError
        If a score is not finite.
    """
    if 0 < len(histories) <= FEW_ROWS and not _autocast():
        return recommend_few(scorer, k, hidden, allowed)
    # A caller's autocast ends here: the bounds are those of the products that are asked for.
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        masks = [_mask_positions(matrix) for matrix in hidden]
        proposals = proposals_of(scorer)
        best = BestLists(len(histories), k)
        for block, scores in proposals.blocks:
            _mask_block(scores, block, masks, allowed, histories.n_items)
            lacking = lacking_of(scorer)
            if lacking is not None:
                scores[lacking] = -torch.inf
            groups = Groups.of(scores, k)
            floor = np.maximum(best.kth(), proposals.certain(groups.kth(k)))
            for rows, columns in groups.reaching(proposals.needed(floor)):
                items = columns + block.start
                exact = scorer.exact(rows, items)
                if not np.isfinite(exact).all():
                    raise RecaeError("a model gave scores that are not finite")
                best.add(rows, items, exact)
        return best.lists()


def _autocast() -> bool:
    return any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))


def _mask_positions(
    matrix: csr_array,
) -> tuple[Int64[np.ndarray, " nnz"], Int64[np.ndarray, " nnz"]]:
    """Rows and columns of the stored entries."""
    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return rows, matrix.indices.astype(np.int64, copy=False)


def _mask_block(
    scores: Float[Tensor, "users block"],
    block: slice,
    masks: list[tuple[np.ndarray, np.ndarray]],
    allowed: Bool[np.ndarray, " items"] | None,
    n_items: int,
) -> None:
    """Set the scores of items that may not be listed to minus infinity, in place."""
    for rows, columns in masks:
        if block != slice(0, n_items):
            inside = (columns >= block.start) & (columns < block.stop)
            rows, columns = rows[inside], columns[inside] - block.start
        scores[_on(scores, rows), _on(scores, columns)] = -torch.inf
    if allowed is not None:
        scores[:, ~_on(scores, allowed[block])] = -torch.inf


def _on(like: Tensor, array: Any) -> Tensor:
    return torch.from_numpy(array).to(like.device)
