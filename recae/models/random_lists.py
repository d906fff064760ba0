"""`Random`: lists drawn by lot, the floor under every comparison."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from jaxtyping import Float32, Int64, UInt64

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.errors import BundleError
from recae.models.stored import check_arrays, check_shape
from recae.options import Options, configured_by, option
from recae.ranking.recommender import Arrays, Recommender, fitted
from recae.ranking.scorer import Scorer
from recae.ranking.scorers import DenseScorer


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RandomConfig(Options):
    """Hyper-parameters of `Random`."""

    rng: int = option(0, low=0, high=2**63 - 1, help="Seed.")


@final
class Random(Recommender):
    """Uniform scores in [0, 1) that are a function of seed, history and item.

    The score is a counter-based hash (SplitMix64) of the seed, the set of the history's items and
    the item's index. So the lists of two people are independent draws unless their histories are
    the same, and asking again gives the same list.

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.
    """

    name: ClassVar[str] = "random"
    Config: ClassVar[type[Options]] = RandomConfig
    config: RandomConfig

    @configured_by(RandomConfig)
    def __init__(self) -> None:
        self._n_items: int | None = None

    @property
    def n_items(self) -> int:
        """Number of items the model knows."""
        return int(fitted(self._n_items, self.name))

    def fit(
        self,
        train: Interactions,
        *,
        validation: HeldOut | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
    ) -> "Random":
        """Learn how many items there are; see `Recommender.fit`."""
        self._n_items = train.n_items
        return self

    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`."""
        return DenseScorer(partial(_uniform, self.config.rng, self.n_items), histories)

    def arrays(self) -> Arrays:
        """``n_items``: int64, shape ``(1,)``."""
        return {"n_items": np.array([self.n_items], dtype=np.int64)}

    @classmethod
    def from_arrays(cls, config: Any, arrays: Mapping[str, np.ndarray]) -> "Random":
        """Fitted model; see `Recommender.from_arrays`."""
        model = cls.configured(config)
        check_arrays(cls.name, arrays, {"n_items": (np.int64, 1)})
        check_shape("n_items", arrays["n_items"], (1,))
        model._n_items = int(arrays["n_items"][0])
        if model._n_items < 0:
            raise BundleError(f"array n_items holds {model._n_items}; 0 or above is expected")
        return model


def _uniform(seed: int, n_items: int, histories: Histories) -> Float32[np.ndarray, "users items"]:
    """24 random bits for each history and item, as a float32 in [0, 1)."""
    x = histories.matrix
    seeded = _mixed(np.full(len(histories), seed, dtype=np.uint64))
    hashed = _mixed(_mixed(np.full(1, seed, dtype=np.uint64)) + _counter(x.indices))
    before = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(hashed, dtype=np.uint64)))
    # A sum modulo 2**64 does not depend on the order of the items, nor on rows before it.
    keys = _mixed(seeded + before[x.indptr[1:]] - before[x.indptr[:-1]])
    bits = _mixed(keys[:, None] + _counter(np.arange(n_items))) >> np.uint64(40)
    uniform: np.ndarray = bits.astype(np.float32) * np.float32(2.0**-24)
    return uniform


def _counter(items: Int64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    steps: np.ndarray = (items.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return steps


def _mixed(z: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """Finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014); arithmetic modulo 2**64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed
