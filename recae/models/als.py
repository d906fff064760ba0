"""`ALS`: weighted matrix factorisation (Hu, Koren and Volinsky, ICDM 2008), by `implicit`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float32, Float64

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.errors import DivergedError
from recae.models.factors import solve_users
from recae.models.implicit_fit import binary_rows, one_blas_thread
from recae.models.stored import check_arrays, check_shape
from recae.options import Options, Range, configured_by, option
from recae.ranking.fixed_point import weights_on_grid
from recae.ranking.recommender import Arrays, Recommender, TrainingShape, fitted
from recae.ranking.scorer import Scorer
from recae.ranking.scorers import LinearTable


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ALSConfig(Options):
    """Hyper-parameters of `ALS`."""

    factors: int = option(
        128, low=1, search=Range(16, 512, log=True), help="Length of the vectors."
    )
    regularization: float = option(
        30.0,
        above=0,
        search=Range(0.01, 1000.0, log=True),
        help="Weight of their squared lengths, the same for frequent and rare users and items.",
    )
    alpha: float = option(
        10.0,
        above=0,
        search=Range(1.5, 100.0, log=True),
        help="Confidence of an observed item; one that was not observed has 1. This is the"
        " convention of implicit: the paper's 1 + alpha r is alpha = 1 + alpha_paper here.",
    )
    iterations: int = option(
        15, low=1, search=Range(5, 40), help="Sweeps over all users and all items."
    )
    rng: int = option(0, low=0, help="Seed of the initial vectors.")


@final
class ALS(Recommender):
    """Factors ``X``, ``Y`` that minimise the weighted squared error over all users and items.

    ``sum_ui c_ui (p_ui - x_u . y_i)**2 + regularization (|X|**2 + |Y|**2)`` with ``p_ui`` 1 and
    ``c_ui = alpha`` for an observed pair, 0 and 1 for any other. Only ``Y`` is kept: the vector of
    a history is the exact minimiser given ``Y``, for people of the training data too.

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.

    Examples
    --------
    >>> ALS(factors=64).config.iterations
    15
    """

    name: ClassVar[str] = "als"
    users_per_pass: ClassVar[int] = 256
    Config: ClassVar[type[Options]] = ALSConfig
    config: ALSConfig

    @configured_by(ALSConfig)
    def __init__(self) -> None:
        self._factors: Float32[np.ndarray, "items factors"] | None = None
        self._gram: Float64[np.ndarray, "factors factors"] | None = None
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
    ) -> "ALS":
        """Alternate; see `Recommender.fit`. The same bytes for any number of threads.

        Raises
        ------
        DataError
            If no training user has an interaction.
        DivergedError
            If a factor is not finite.
        """
        from implicit.cpu.als import AlternatingLeastSquares  # the factory in .als looks for a GPU
        from implicit.recommender_base import ModelFitError

        config = self.config
        with one_blas_thread():
            als = AlternatingLeastSquares(
                factors=config.factors,
                regularization=config.regularization,
                alpha=config.alpha,
                iterations=config.iterations,
                random_state=config.rng,
            )
            try:
                als.fit(binary_rows(train), show_progress=False)
            except ModelFitError as error:
                raise DivergedError(
                    "a factor of als is not finite; raise regularization"
                ) from error
        self._keep(als.item_factors)
        return self

    def _keep(self, factors: Float32[np.ndarray, "items factors"]) -> None:
        self._factors = weights_on_grid(torch.from_numpy(factors)).numpy()
        self._table = LinearTable.of(self._factors)
        y = self._factors.astype(np.float64)
        with one_blas_thread():
            self._gram = y.T @ y + self.config.regularization * np.eye(y.shape[1])

    def least_bytes(self, shape: TrainingShape) -> int:
        """Memory of the rows, by users and by items, and of all vectors; the items' in float64."""
        vectors = 4 * shape.n_users + 16 * shape.n_items
        return 32 * shape.n_interactions + self.config.factors * vectors

    def user_factors(self, histories: Histories) -> Float64[np.ndarray, "users factors"]:
        """Vector of each history: the minimiser of the loss given the item factors.

        Hu et al. 2008, eq. 4: ``(Y'Y + r I + (alpha - 1) Y_u' Y_u) x_u = alpha Y_u' 1``, with ``r``
        the regularization and ``Y_u`` the rows of the history's items.

        Returns
        -------
        Shape ``(len(histories), factors)``; 0 for an empty history.
        """
        factors = fitted(self._factors, self.name)
        assert self._gram is not None
        alpha = self.config.alpha
        return alpha * solve_users(histories.matrix, factors, self._gram, weight=alpha - 1.0)

    def encode(self, histories: Histories) -> Float32[np.ndarray, "users factors"]:
        """`user_factors` in float32."""
        return self.user_factors(self._accepted(histories)).astype(np.float32)

    def item_vectors(self) -> Float32[np.ndarray, "items factors"]:
        """Factors of each item, shape ``(n_items, factors)``."""
        factors: np.ndarray = fitted(self._factors, self.name)
        return factors

    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`."""
        table: LinearTable = fitted(self._table, self.name)
        return table.scorer(self.user_factors(histories))

    def arrays(self) -> Arrays:
        """``item_factors``, float32, shape ``(items, factors)``."""
        return {"item_factors": fitted(self._factors, self.name)}

    @classmethod
    def from_arrays(cls, config: Any, arrays: Mapping[str, np.ndarray]) -> "ALS":
        """Fitted model; see `Recommender.from_arrays`."""
        model = cls.configured(config)
        check_arrays(cls.name, arrays, {"item_factors": (np.float32, 2)})
        factors = arrays["item_factors"]
        check_shape("item_factors", factors, (len(factors), model.config.factors))
        model._keep(factors)
        return model
