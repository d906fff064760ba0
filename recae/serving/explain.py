"""Why an item is in somebody's list."""

from collections.abc import Iterable

import numpy as np

from recae.data.ids import Id
from recae.serving.reasons import reasons_of
from recae.serving.recommendations import Explanation, Request
from recae.serving.snapshot import Snapshot


def explain(
    snapshot: Snapshot, item: Id, *, user: Id | None, history: Iterable[Id] | None
) -> Explanation:
    """Reasons of one score; see `recae.serving.RecommendationService.explain`."""
    target = snapshot.item_of(item)
    question = snapshot.question(Request(user=user, history=history))
    asking = snapshot.histories([question])
    reasons = reasons_of(snapshot.bundle, asking, np.array([target], dtype=np.int64))
    warnings = list(question.warnings)
    if target in asking.matrix.indices:
        warnings.append("the item is in the history itself")
    if reasons.warning is not None:
        warnings.append(reasons.warning)
    return Explanation(
        user=question.request.user,
        item=snapshot.bundle.items.ids_at([target])[0],
        title=snapshot.title(target),
        score=float(reasons.scores[0]),
        reasons=reasons.by_item[0],
        warnings=tuple(warnings),
        model_name=snapshot.bundle.model.name,
        model_version=snapshot.bundle.version,
    )
