"""`BPR`: matrix factorisation for ranking (Rendle et al., UAI 2009), fitted by `implicit`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.errors import BundleError, DivergedError
from recae.models.implicit_fit import binary_rows, one_blas_thread
from recae.models.pairwise import N_DRAWS, even_draws, pairwise_users
from recae.models.stored import check_arrays, check_shape
from recae.options import Options, Range, configured_by, option
from recae.ranking.fixed_point import weights_on_grid
from recae.ranking.recommender import Arrays, Recommender, TrainingShape, fitted
from recae.ranking.scorer import Scorer
from recae.ranking.scorers import LinearTable


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BPRConfig(Options):
    """Hyper-parameters of `BPR`."""

    factors: int = option(
        64,
        low=1,
        search=Range(32, 256, log=True),
        help="Length of the vectors, the item bias not counted.",
    )
    learning_rate: float = option(
        0.05,
        above=0,
        search=Range(0.005, 0.2, log=True),
        help="Step of the stochastic gradient descent.",
    )
    regularization: float = option(
        0.01,
        low=0,
        search=Range(0.001, 0.05, log=True),
        help="Weight decay of users, items and biases.",
    )
    iterations: int = option(
        100,
        low=1,
        search=Range(40, 200, log=True),
        help="Passes; each draws as many pairs as there are interactions.",
    )
    ridge: float = option(
        0.02,
        above=0,
        search=Range(0.003, 0.1, log=True),
        help="Weight of half the squared length of the vector found for a history.",
    )
    popularity: float = option(
        0.75,
        low=0,
        high=1,
        search=Range(0.25, 1.0),
        help="How much of the logarithm of an item's frequency is added to its scores.",
    )
    rng: int = option(0, low=0, help="Seed of the initial vectors and of the draws.")


@final
class BPR(Recommender):
    """Item vectors and biases learnt from pairs "liked above not liked", users folded in.

    BPR learns a vector a training user and says nothing about other people. Here every history, of
    training users too, gets the vector that minimises BPR's own loss given the items' vectors and
    biases: see `recae.models.pairwise.pairwise_users`. On a validation cut of Gowalla that ranked
    better than the vectors `implicit` had learnt for the same people.

    `implicit` draws the item that was not liked as often as people have it, not evenly as the paper
    does, so what it learns to rank by is how much more likely an item is for this person than for
    anyone: ``log p(i | u) - log p(i)`` at the minimum. Here `popularity` times ``log(1 + count)``
    is added to the bias, 1 for all of it. An empty history has the biases alone.

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.

    Attributes
    ----------
    note
        The same in one line, for the model card.

    Examples
    --------
    >>> BPR(factors=32).config.popularity
    0.75
    """

    name: ClassVar[str] = "bpr"
    users_per_pass: ClassVar[int] = 256
    note: ClassVar[str] = (
        "Users are folded in: each history gets the vector that minimises the loss of BPR given the"
        " item vectors; BPR itself would learn one for each training user."
    )
    Config: ClassVar[type[Options]] = BPRConfig
    config: BPRConfig

    @configured_by(BPRConfig)
    def __init__(self) -> None:
        self._factors: Float32[np.ndarray, "items factors"] | None = None
        self._bias: Float32[np.ndarray, " items"] | None = None
        self._counts: Int64[np.ndarray, " items"] | None = None
        self._table: LinearTable | None = None

    @property
    def n_items(self) -> int:
        """Number of items the model knows."""
        return len(fitted(self._factors, self.name))

    def fit(
        self,
        train: Interactions,
        *,
        validation: HeldOut | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
    ) -> "BPR":
        """Descend, on one thread: with more, `implicit` does not repeat itself.

        See `Recommender.fit`.

        Raises
        ------
        DataError
            If no training user has an interaction.
        DivergedError
            If a factor is not finite.
        """
        from implicit.cpu.bpr import BayesianPersonalizedRanking  # the factory looks for a GPU
        from implicit.recommender_base import ModelFitError

        config = self.config
        x = binary_rows(train)
        with one_blas_thread():
            bpr = BayesianPersonalizedRanking(
                factors=config.factors,
                learning_rate=config.learning_rate,
                regularization=config.regularization,
                iterations=config.iterations,
                num_threads=1,
                random_state=config.rng,
            )
            try:
                bpr.fit(x, show_progress=False)
            except ModelFitError as error:
                raise DivergedError(
                    f"a factor of bpr is not finite; learning_rate is {config.learning_rate}, try"
                    " a lower one"
                ) from error
        counts = np.bincount(x.indices, minlength=x.shape[1])
        # The last column is the bias of an item, and 1 for a user.
        popular = config.popularity * np.log1p(counts)
        bias = (bpr.item_factors[:, -1] + popular).astype(np.float32)
        self._keep(bpr.item_factors[:, :-1], bias, counts)
        return self

    def _keep(
        self,
        factors: Float32[np.ndarray, "items factors"],
        bias: Float32[np.ndarray, " items"],
        counts: Int64[np.ndarray, " items"],
    ) -> None:
        """Keep what is learnt, and what follows from it alone."""
        on_grid = weights_on_grid(torch.from_numpy(np.ascontiguousarray(factors)))
        self._factors = on_grid.numpy()
        self._bias = bias
        self._table = LinearTable.of(self._factors, bias)
        self._counts = counts
        self._disliked = even_draws(counts.astype(np.float64), N_DRAWS)
        popular = self.config.popularity * np.log1p(counts)
        self._learnt_bias = (bias - popular).astype(np.float32)

    def least_bytes(self, shape: TrainingShape) -> int:
        """Memory of the rows, by users and by items, and of all vectors; the items' in float64."""
        vectors = 4 * shape.n_users + 16 * shape.n_items
        return 32 * shape.n_interactions + self.config.factors * vectors

    def user_factors(self, histories: Histories) -> Float64[np.ndarray, "users factors"]:
        """Vector of each history, without the 1 of the bias.

        Returns
        -------
        Shape ``(len(histories), factors)``; 0 for an empty history.
        """
        factors = fitted(self._factors, self.name)
        ridge, bias = self.config.ridge, self._learnt_bias
        return pairwise_users(histories.matrix, factors, bias, self._disliked, ridge=ridge)

    def encode(self, histories: Histories) -> Float32[np.ndarray, "users factors"]:
        """`user_factors` in float32."""
        return self.user_factors(self._accepted(histories)).astype(np.float32)

    def item_vectors(self) -> Float32[np.ndarray, "items factors"]:
        """Factors of each item, shape ``(n_items, factors)``; biases left out."""
        factors: np.ndarray = fitted(self._factors, self.name)
        return factors

    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`."""
        table: LinearTable = fitted(self._table, self.name)
        return table.scorer(self.user_factors(histories))

    def arrays(self) -> Arrays:
        """``item_factors`` and ``item_bias``, float32, and ``counts``, int64.

        Shapes ``(items, factors)``, ``(items,)`` and ``(items,)``; the bias has its popularity
        added, and `counts` is how many training users have an item.
        """
        factors = fitted(self._factors, self.name)
        assert self._bias is not None
        assert self._counts is not None
        return {"item_factors": factors, "item_bias": self._bias, "counts": self._counts}

    @classmethod
    def from_arrays(cls, config: Any, arrays: Mapping[str, np.ndarray]) -> "BPR":
        """Fitted model; see `Recommender.from_arrays`."""
        model = cls.configured(config)
        expected = {"item_factors": (np.float32, 2), "item_bias": (np.float32, 1)}
        check_arrays(cls.name, arrays, {**expected, "counts": (np.int64, 1)})
        factors, bias, counts = arrays["item_factors"], arrays["item_bias"], arrays["counts"]
        check_shape("item_factors", factors, (len(factors), model.config.factors))
        check_shape("item_bias", bias, (len(factors),))
        check_shape("counts", counts, (len(factors),))
        if (counts < 0).any() or not counts.any():
            raise BundleError("array counts holds a number below 0 or nothing but 0")
        model._keep(factors, bias, counts)
        return model
