"""`ItemItem`: linear models that are one dense table of weights between items, in closed form."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.errors import DataError
from recae.models.spd import BLOCK, blocks_of, invert_panels, spd_inverse
from recae.models.stored import check_arrays, check_shape
from recae.ranking.fixed_point import weights_on_grid
from recae.ranking.recommender import Arrays, Recommender, TrainingShape, fitted
from recae.ranking.scorer import Scorer
from recae.ranking.scorers import TableScorer

FLOAT64_UP_TO = 16_384  # unknowns of a float64 solve; above, float32 halves its memory
M = TypeVar("M", bound="ItemItem")


class ItemItem(Recommender):
    """Scores ``x @ B`` of a binary history ``x``, with a table ``B`` of items x items.

    A model says how `solve` finds the table, and has a config and a name.
    """

    _weights: torch.Tensor | None = None
    _row_bounds: np.ndarray | None = None

    @abstractmethod
    def solve(self, x: csr_array) -> Float[np.ndarray, "items items"]:
        """Table for binary rows ``x``, ``(users, items)``; float32 or float64, not kept by others.

        `x` may be overwritten.
        """

    @property
    def n_items(self) -> int:
        """Number of items the model knows."""
        return len(fitted(self._weights, self.name))

    def fit(
        self: M,
        train: Interactions,
        *,
        validation: HeldOut | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
    ) -> M:
        """Solve; see `Recommender.fit`. Takes ``min(users, items)**3`` operations."""
        x = csr_array(train.matrix, copy=True)
        x.data = np.ones_like(x.data)
        weights = self.solve(x)
        self._keep(weights, overwrite=weights.dtype == np.float32)
        return self

    def least_bytes(self, shape: TrainingShape) -> int:
        """Memory of the solve: the items' table and, where users are fewer, half of theirs."""
        n_users, n_items = shape.n_users, shape.n_items
        unknowns = min(n_users, n_items)
        itemsize = 8 if unknowns <= FLOAT64_UP_TO else 4
        rows = 12 * shape.n_interactions
        if n_users < n_items:
            blocks = 6 * itemsize * min(BLOCK, n_users) * n_items
            return rows + 4 * n_items**2 + itemsize * n_users**2 // 2 + blocks
        rounded = 0 if itemsize == 4 else 4 * n_items**2
        return rows + itemsize * n_items**2 + rounded

    def _keep(self, weights: Float[np.ndarray, "items items"], *, overwrite: bool = False) -> None:
        table = torch.from_numpy(weights)
        self._weights = weights_on_grid(table, out=table if overwrite else None)
        self._row_bounds = torch.maximum(self._weights.amax(1), -self._weights.amin(1)).numpy()

    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`."""
        weights = fitted(self._weights, self.name)
        assert self._row_bounds is not None
        return TableScorer(weights, self._row_bounds, histories)

    def item_scorer(self, items: Histories) -> Scorer:
        """Scores of histories of one item: that item's row of the table."""
        return self.scorer(items)

    def arrays(self) -> Arrays:
        """``weights``: float32, shape ``(items, items)``, row = item of the history."""
        return {"weights": fitted(self._weights, self.name).numpy()}

    @classmethod
    def from_arrays(cls: type[M], config: Any, arrays: Mapping[str, np.ndarray]) -> M:
        """Fitted model; see `Recommender.from_arrays`."""
        model = cls.configured(config)
        check_arrays(cls.name, arrays, {"weights": (np.float32, 2)})
        weights = arrays["weights"]
        check_shape("weights", weights, (len(weights), len(weights)))
        model._keep(weights)
        return model


def zero_diagonal_weights(x: csr_array, l2: float) -> Float[np.ndarray, "items items"]:
    """Table ``B`` that minimises ``|X - X B|**2 + l2 |B|**2`` with a zero diagonal.

    ``B = I - P diag(P)^-1`` with ``P = (X'X + l2 I)^-1`` (Steck, WWW 2019, eq. 8). Where users are
    fewer than items the inverse is taken in the users' dimension instead: by the Woodbury identity
    ``l2 P = I - X' K^-1 X`` with ``K = X X' + l2 I``.
    """
    solve = item_weights if x.shape[1] <= x.shape[0] else item_weights_dual
    return solve(x, l2)


def item_weights(x: csr_array, l2: float) -> Float[np.ndarray, "items items"]:
    """Table ``B`` of EASE by inverting ``X'X + l2 I`` (items x items)."""
    n_items = int(x.shape[1])
    dtype = np.float64 if n_items <= FLOAT64_UP_TO else np.float32
    gram = np.empty((n_items, n_items), dtype=dtype)
    columns = x.T.tocsr()
    for at in blocks_of(n_items):
        gram[at, : at.stop] = _gram_rows(columns, at, l2, dtype)
    inverse = spd_inverse(gram)
    diagonal = inverse.diagonal().copy()
    inverse /= -diagonal[None, :]
    np.fill_diagonal(inverse, 0.0)
    return inverse


def item_weights_dual(
    x: csr_array, l2: float, *, block: int = BLOCK
) -> Float[np.ndarray, "items items"]:
    """The same table by inverting ``K = X X' + l2 I`` (users x users).

    ``B_ij = c_ij / (1 - c_jj)`` for ``i != j``, with ``C = X' K^-1 X``. Of ``K`` only the lower
    triangle is held, with its diagonal halved it is ``L``: ``C = M + M'`` for ``M = X' L X``.
    """
    n_users, n_items = x.shape
    dtype = np.float64 if n_users <= FLOAT64_UP_TO else np.float32
    users = blocks_of(int(n_users), block)
    triangle = [_gram_rows(x, at, l2, dtype) for at in users]
    invert_panels([torch.from_numpy(panel) for panel in triangle])
    weights = np.zeros((n_items, n_items), dtype=np.float32)
    for at, panel in zip(users, triangle, strict=True):
        panel[:, at] /= 2
        halved = np.ascontiguousarray((x[: at.stop].T.tocsr() @ panel.T).T)  # (users, items)
        own = x[at].tocsc()
        for items in blocks_of(int(n_items), 4 * block):
            weights[items] += own[:, items].T.tocsr() @ halved
    del triangle
    _add_transpose(weights)
    diagonal = weights.diagonal().copy()
    if not (diagonal < 1.0).all():  # also catches what is not a number
        raise DataError(f"l2 {l2:g} is lost in rounding beside items of few users; raise l2")
    weights /= (1.0 - diagonal)[None, :]
    np.fill_diagonal(weights, 0.0)
    return weights


def _gram_rows(x: csr_array, at: slice, l2: float, dtype: type) -> Float[np.ndarray, "rows stop"]:
    """Rows `at` of ``x x' + l2 I`` up to the diagonal."""
    rows: np.ndarray = (x[at] @ x[: at.stop].T.tocsr()).toarray().astype(dtype, copy=False)
    rows[np.arange(len(rows)), np.arange(at.start, at.stop)] += l2
    return rows


def _add_transpose(matrix: Float[np.ndarray, "n n"]) -> None:
    """Add the transpose of a square matrix to it, in place."""
    blocks = blocks_of(len(matrix))
    for number, rows in enumerate(blocks):
        for columns in blocks[: number + 1]:
            both = matrix[rows, columns] + matrix[columns, rows].T
            matrix[rows, columns] = both
            matrix[columns, rows] = both.T
