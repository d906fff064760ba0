"""`Popularity`: the most interacted items, the same for everybody."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float32

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.models.stored import check_arrays
from recae.options import configured_by
from recae.ranking.recommender import Arrays, NoOptions, Recommender, fitted
from recae.ranking.scorer import Scorer
from recae.ranking.scorers import DenseScorer


@final
class Popularity(Recommender):
    """Score of an item: the number of training users who touched it."""

    name: ClassVar[str] = "popular"
    config: NoOptions

    @configured_by(NoOptions)
    def __init__(self) -> None:
        self._counts: Float32[np.ndarray, " items"] | None = None

    @property
    def n_items(self) -> int:
        """Number of items the model knows."""
        return len(fitted(self._counts, self.name))

    def fit(
        self,
        train: Interactions,
        *,
        validation: HeldOut | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
    ) -> "Popularity":
        """Count; see `Recommender.fit`."""
        counts = np.bincount(train.matrix.indices, minlength=train.n_items)
        self._counts = counts.astype(np.float32)
        return self

    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`, all the same."""
        counts = fitted(self._counts, self.name)
        return DenseScorer(np.broadcast_to(counts, (len(histories), len(counts))), histories)

    def arrays(self) -> Arrays:
        """``counts``, float32, shape ``(items,)``."""
        return {"counts": fitted(self._counts, self.name)}

    @classmethod
    def from_arrays(cls, config: Any, arrays: Mapping[str, np.ndarray]) -> "Popularity":
        """Fitted model; see `Recommender.from_arrays`."""
        model = cls.configured(config)
        check_arrays(cls.name, arrays, {"counts": (np.float32, 1)})
        model._counts = arrays["counts"]
        return model
