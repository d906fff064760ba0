"""`BPR`: matrix factorisation for ranking (Rendle et al., UAI 2009), fitted by `implicit`."""

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
from recae.errors import BundleError, ConfigError, DivergedError
from recae.models.factors import factor_scorer, solve_users
from recae.models.implicit_fit import binary_rows, one_blas_thread
from recae.models.options import configured
from recae.models.stored import check_arrays, check_shape
from recae.ranking.fixed_point import weights_on_grid
from recae.ranking.recommender import Arrays, Recommender, Scorer, fitted


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BPRConfig:
    """Hyper-parameters of `BPR`.

    Attributes
    ----------
    factors
        Length of the vectors, the item bias not counted.
    learning_rate
        Step of the stochastic gradient descent.
    regularization
        Weight decay of users, items and biases.
    iterations
        Passes; each draws as many pairs as there are interactions.
    ridge
        Weight of the squared length of the vector found for a history.
    rng
        Seed of the initial vectors and of the draws.
    """

    factors: int = 64
    learning_rate: float = 0.01
    regularization: float = 0.01
    iterations: int = 100
    ridge: float = 10.0
    rng: int = 0

    def __post_init__(self) -> None:
        if self.factors < 1 or self.iterations < 1:
            raise ConfigError(
                f"factors is {self.factors} and iterations is {self.iterations};"
                " at least 1 is accepted"
            )
        if not (0 < self.learning_rate < float("inf") and 0 < self.ridge < float("inf")):
            raise ConfigError(
                f"learning_rate is {self.learning_rate} and ridge is {self.ridge};"
                " above 0 is accepted"
            )
        if not 0 <= self.regularization < float("inf"):
            raise ConfigError(f"regularization is {self.regularization}; 0 or above is accepted")
        if self.rng < 0:
            raise ConfigError(f"rng is {self.rng}; 0 or above is accepted")


@final
class BPR(Recommender):
    """Item vectors and biases learnt from pairs "liked above not liked", folded in by ridge.

    BPR learns a vector a training user and says nothing about other people. Here every history, of
    training users too, gets the vector ``w`` that minimises ``|1 - Y_h w|**2 + ridge |w|**2`` over
    its own items, stretched to the mean length of the training users' vectors, so that it stands
    against the item biases as theirs did. So figures of this model are not those of BPR with learnt
    users. An empty history has the biases alone.

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
    >>> BPR(factors=32).config.ridge
    10.0
    """

    name: ClassVar[str] = "bpr"
    users_per_pass: ClassVar[int] = 256
    note: ClassVar[str] = (
        "Users are folded in by a ridge solve onto the frozen item factors; BPR itself would learn"
        " a vector for each training user."
    )
    config: BPRConfig

    def __init__(self, config: BPRConfig | None = None, **options: object) -> None:
        self.config = configured(BPRConfig, config, options)
        self._factors: Float32[np.ndarray, "items factors"] | None = None
        self._bias: Float32[np.ndarray, " items"] | None = None
        self._user_length = 0.0

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
        # The last column is the bias of an item, and 1 for a user.
        lengths = np.linalg.norm(bpr.user_factors[np.diff(x.indptr) > 0, :-1], axis=1)
        self._keep(bpr.item_factors[:, :-1], bpr.item_factors[:, -1], np.float32(lengths.mean()))
        return self

    def _keep(
        self,
        factors: Float32[np.ndarray, "items factors"],
        bias: Float32[np.ndarray, " items"],
        user_length: np.float32,
    ) -> None:
        on_grid = weights_on_grid(torch.from_numpy(np.ascontiguousarray(factors)))
        self._factors = on_grid.numpy()
        self._bias = np.ascontiguousarray(bias)
        self._user_length = float(user_length)

    def user_factors(self, histories: Histories) -> Float64[np.ndarray, "users factors"]:
        """Vector of each history, without the 1 of the bias.

        Returns
        -------
        Shape ``(len(histories), factors)``; 0 for an empty history.
        """
        factors = fitted(self._factors, self.name)
        ridge = self.config.ridge * np.eye(factors.shape[1])
        found = solve_users(histories.matrix, factors, ridge, weight=1.0)
        lengths = np.sqrt((found**2).sum(axis=1, keepdims=True))
        return found * (self._user_length / np.where(lengths > 0, lengths, 1.0))

    def encode(self, histories: Histories) -> Float32[np.ndarray, "users factors"]:
        """`user_factors` in float32."""
        return self.user_factors(self._accepted(histories)).astype(np.float32)

    def item_vectors(self) -> Float32[np.ndarray, "items factors"]:
        """Factors of each item, shape ``(n_items, factors)``; biases left out."""
        factors: np.ndarray = fitted(self._factors, self.name)
        return factors

    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`."""
        users = self.user_factors(histories)
        return factor_scorer(users, fitted(self._factors, self.name), self._bias)

    def arrays(self) -> Arrays:
        """``item_factors``, ``item_bias`` and ``user_length``, float32.

        Shapes ``(items, factors)``, ``(items,)`` and ``(1,)``; the last is the mean length of the
        training users' vectors.
        """
        factors = fitted(self._factors, self.name)
        assert self._bias is not None
        length = np.array([self._user_length], dtype=np.float32)
        return {"item_factors": factors, "item_bias": self._bias, "user_length": length}

    @classmethod
    def from_arrays(cls, config: Any, arrays: Mapping[str, np.ndarray]) -> "BPR":
        """Fitted model; see `Recommender.from_arrays`."""
        model = cls(config)
        names = {"item_factors": 2, "item_bias": 1, "user_length": 1}
        check_arrays(cls.name, arrays, {name: (np.float32, n) for name, n in names.items()})
        factors, bias, length = (arrays[name] for name in names)
        check_shape("item_factors", factors, (len(factors), model.config.factors))
        check_shape("item_bias", bias, (len(factors),))
        check_shape("user_length", length, (1,))
        if length[0] < 0:
            raise BundleError(f"array user_length holds {length[0]}; 0 or above is expected")
        model._keep(factors, bias, length[0])
        return model
