"""`EASE` (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.errors import BundleError, ConfigError
from recae.models.item_weights import ItemWeightScorer
from recae.models.options import configured
from recae.models.spd import spd_inverse
from recae.ranking.fixed_point import weights_on_grid
from recae.ranking.recommender import Arrays, Recommender, Scorer, fitted

_FLOAT64_UP_TO = 16_384  # unknowns of a float64 solve; above, float32 halves its memory


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EASEConfig:
    """Hyper-parameters of `EASE`.

    Attributes
    ----------
    l2
        Weight of the squared entries of the item-item table; grows with the number of users.
    """

    l2: float = 500.0

    def __post_init__(self) -> None:
        if not 0 < self.l2 < float("inf"):
            raise ConfigError(f"l2 is {self.l2}; above 0 is accepted")


@final
class EASE(Recommender):
    """Linear autoencoder with a zero diagonal, in closed form.

    ``B = I - P diag(P)^-1`` with ``P = (X'X + l2 I)^-1`` (Steck, eq. 8), for binary ``X``. Where
    users are fewer than items the inverse is taken in the users' dimension instead: by the Woodbury
    identity ``l2 P = I - X' K^-1 X`` with ``K = X X' + l2 I``.

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.
    """

    name: ClassVar[str] = "ease"
    config: EASEConfig

    def __init__(self, config: EASEConfig | None = None, **options: object) -> None:
        self.config = configured(EASEConfig, config, options)
        self._weights: torch.Tensor | None = None
        self._row_bounds: np.ndarray | None = None

    @property
    def n_items(self) -> int:
        """Number of items the model knows."""
        return len(fitted(self._weights, self.name))

    def fit(
        self,
        train: Interactions,
        *,
        validation: HeldOut | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
    ) -> "EASE":
        """Solve; see `Recommender.fit`. Takes ``min(users, items)**3`` operations."""
        x = csr_array(train.matrix, copy=True)
        x.data = np.ones_like(x.data)
        solve = item_weights if x.shape[1] <= x.shape[0] else item_weights_dual
        self._keep(solve(x, self.config.l2))
        return self

    def _keep(self, weights: Float[np.ndarray, "items items"]) -> None:
        self._weights = weights_on_grid(torch.from_numpy(weights))
        self._row_bounds = self._weights.abs().amax(dim=1).numpy()

    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`."""
        weights = fitted(self._weights, self.name)
        assert self._row_bounds is not None
        return ItemWeightScorer(weights, self._row_bounds, histories)

    def item_scorer(self, items: Histories) -> Scorer:
        """Scores of histories of one item: that item's row of the table."""
        return self.scorer(items)

    def arrays(self) -> Arrays:
        """``weights``: float32, shape ``(items, items)``, row = item of the history."""
        return {"weights": fitted(self._weights, self.name).numpy()}

    @classmethod
    def from_arrays(cls, config: Any, arrays: Mapping[str, np.ndarray]) -> "EASE":
        """Fitted model; see `Recommender.from_arrays`."""
        model = cls(config)
        weights = arrays.get("weights")
        if set(arrays) != {"weights"} or weights is None or weights.ndim != 2:
            raise BundleError(f"a {cls.name} model has the array weights; found {sorted(arrays)}")
        if weights.shape[0] != weights.shape[1]:
            raise BundleError(f"array weights has shape {weights.shape}; a square is expected")
        if weights.dtype != np.float32 or not np.isfinite(weights).all():
            raise BundleError("array weights is not finite float32")
        model._keep(weights)
        return model


def item_weights(x: csr_array, l2: float) -> Float[np.ndarray, "items items"]:
    """Table ``B`` of EASE by inverting ``X'X + l2 I`` (items x items)."""
    gram = _dense(x.T.tocsr() @ x, l2)
    inverse = spd_inverse(gram)
    diagonal = inverse.diagonal().copy()
    inverse /= -diagonal[None, :]
    np.fill_diagonal(inverse, 0.0)
    return inverse


def item_weights_dual(x: csr_array, l2: float) -> Float[np.ndarray, "items items"]:
    """The same table by inverting ``X X' + l2 I`` (users x users).

    ``B_ij = c_ij / (1 - c_jj)`` for ``i != j``, with ``C = X' K^-1 X``, made in blocks of columns.
    """
    n_items = int(x.shape[1])
    inverse = spd_inverse(_dense(x @ x.T.tocsr(), l2))
    columns = x.tocsc()
    rows = x.T.tocsr()
    weights = np.empty((n_items, n_items), dtype=np.float32)
    for start in range(0, n_items, 1024):
        block = slice(start, min(n_items, start + 1024))
        # K^-1 is symmetric: (X_block' K^-1)' = K^-1 X_block, with the sparse factor on the left
        solved = (columns[:, block].T.tocsr() @ inverse).T  # (users, block)
        weights[:, block] = rows @ solved
    diagonal = weights.diagonal().copy()
    weights /= (1.0 - diagonal)[None, :]
    np.fill_diagonal(weights, 0.0)
    return weights


def _dense(gram: csr_array, l2: float) -> Float[np.ndarray, "n n"]:
    dtype = np.float64 if gram.shape[0] <= _FLOAT64_UP_TO else np.float32
    dense = gram.astype(dtype).toarray()
    dense[np.diag_indices_from(dense)] += l2
    return dense
