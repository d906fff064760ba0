"""Reasons of scores: the items of a history, by what the score loses without each."""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from jaxtyping import Float32, Int64

from recae.data.histories import Histories
from recae.ranking.leave_one_out import score_changes
from recae.serving.bundle import Bundle
from recae.serving.recommendations import Reason

MAX_LEFT_OUT: Final = 100


@final
@dataclass(frozen=True, slots=True, eq=False)
class Reasons:
    """Reasons of the scores of some items.

    Attributes
    ----------
    scores
        Exact scores of the items for the whole history.
    by_item
        For each item every reason that was looked at, the one that weighs most first; equal ones
        by item index.
    warning
        What was not looked at, or None.
    """

    scores: Float32[np.ndarray, " targets"]
    by_item: list[tuple[Reason, ...]]
    warning: str | None


def reasons_of(
    bundle: Bundle, history: Histories, targets: Int64[np.ndarray, " targets"]
) -> Reasons:
    """Reasons of the scores of `targets` for one history, by one call of the model.

    Of a history of more than `MAX_LEFT_OUT` items only the most recent ones are left out in turn.
    """
    n_entries = int(history.matrix.nnz)
    by_time = np.arange(n_entries) if history.order is None else np.argsort(history.order)
    places = by_time[-MAX_LEFT_OUT:].astype(np.int64)
    warning = None
    if n_entries > MAX_LEFT_OUT:
        which = "last" if history.order is None else "most recent"
        warning = f"reasons are looked for among the {which} {MAX_LEFT_OUT} of {n_entries} items"
    scores, changes = score_changes(bundle.model, history, targets, places)
    items = history.matrix.indices[places]
    ids = bundle.items.ids_at(items)
    titles = [None if bundle.titles is None else bundle.titles[item] for item in items.tolist()]
    by_item = []
    for change in changes.T:
        order = np.lexsort((items, -change))
        weights = change.tolist()
        by_item.append(tuple(Reason(ids[i], weights[i], titles[i]) for i in order.tolist()))
    return Reasons(scores, by_item, warning)
