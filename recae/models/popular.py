"""`Popularity`: the most interacted items, the same for everybody."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.models.stored import check_arrays
from recae.options import Options, configured_by
from recae.ranking.recommender import Arrays, Recommender, fitted
from recae.ranking.scorer import Scorer


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PopularityConfig(Options):
    """Hyper-parameters of `Popularity`."""


@final
class Popularity(Recommender):
    """Score of an item: the number of training users who touched it."""

    name: ClassVar[str] = "popular"
    Config: ClassVar[type[Options]] = PopularityConfig
    config: PopularityConfig

    @configured_by(PopularityConfig)
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
        return SameForAll(fitted(self._counts, self.name), len(histories))

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


@final
class SameForAll:
    """`Scorer` of a model whose scores do not depend on the history."""

    def __init__(self, scores: Float32[np.ndarray, " items"], n_users: int) -> None:
        self._scores = scores
        self._n_users = n_users

    def blocks(self) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """All items at once."""
        scores = torch.from_numpy(self._scores)
        yield slice(0, len(scores)), scores.repeat(self._n_users, 1)

    def exact(
        self, rows: Int64[np.ndarray, " pairs"], items: Int64[np.ndarray, " pairs"]
    ) -> Float32[np.ndarray, " pairs"]:
        """Return the scores themselves."""
        scores: np.ndarray = self._scores[items]
        return scores

    def error_bound(self) -> Float64[np.ndarray, " users"]:
        """Both are equal."""
        return np.zeros(self._n_users)
