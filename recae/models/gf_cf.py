"""`GFCF`: graph filtering without training (Shen et al., CIKM 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float32, Float64
from scipy.sparse import csr_array, diags_array

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.errors import BundleError
from recae.models.implicit_fit import binary_rows, one_blas_thread
from recae.models.singular import right_singular_vectors
from recae.models.stored import check_arrays, check_shape, square_csr
from recae.options import Options, Range, configured_by, option
from recae.ranking.fixed_point import exact_row_sums, weights_on_grid
from recae.ranking.recommender import Arrays, Recommender, fitted
from recae.ranking.scorer import Scorer
from recae.ranking.scorers import LinearTable, SparseScorer, SparseTable, SumScorer, TableScorer

_SPARSE = {
    "gram_data": (np.float32, 1),
    "gram_indices": (np.int64, 1),
    "gram_indptr": (np.int64, 1),
    "encoder": (np.float32, 2),
    "decoder": (np.float32, 2),
}
_DENSE = {"weights": (np.float32, 2)}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GFCFConfig(Options):
    """Hyper-parameters of `GFCF`; the defaults are the paper's."""

    n_vectors: int = option(
        256,
        low=1,
        search=Range(16, 512, log=True),
        help="Singular vectors of the ideal low-pass filter.",
    )
    alpha: float = option(
        0.3,
        low=0,
        search=Range(0.0, 2.0),
        help="Weight of that filter beside the linear one. 0 leaves it out.",
    )
    rng: int = option(
        0, low=0, help="Seed of the iteration that finds the singular vectors: its first vector."
    )


@final
class GFCF(Recommender):
    """Scores ``x (R'R + alpha D^-1/2 V V' D^1/2)`` of a binary history ``x``.

    ``R = D_u^-1/2 X D^-1/2`` is the training matrix normalised by the degrees of users and items,
    ``V`` its first right singular vectors (Shen et al., sec. 4.2, as in the authors' code).

    ``R'R`` is kept sparse beside the low-rank factors, or, where more than half of it is filled,
    the whole sum as one dense table.

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.

    Examples
    --------
    >>> GFCF(n_vectors=64).config.alpha
    0.3
    """

    name: ClassVar[str] = "gf-cf"
    Config: ClassVar[type[Options]] = GFCFConfig
    config: GFCFConfig

    @configured_by(GFCFConfig)
    def __init__(self) -> None:
        self._filters: _SparseFilters | _DenseFilter | None = None

    @property
    def n_items(self) -> int:
        """Number of items the model knows."""
        return int(fitted(self._filters, self.name).n_items)

    def fit(
        self,
        train: Interactions,
        *,
        validation: HeldOut | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
    ) -> "GFCF":
        """Normalise, multiply, factorise; see `Recommender.fit`.

        Raises
        ------
        DataError
            If no training user has an interaction.
        """
        config = self.config
        x = csr_array(binary_rows(train).astype(np.float64))
        degrees = np.bincount(x.indices, minlength=train.n_items).astype(np.float64)
        shrink = _inverse_root(degrees)
        r = csr_array(diags_array(_inverse_root(np.diff(x.indptr))) @ x @ diags_array(shrink))
        with one_blas_thread():
            v = right_singular_vectors(r, config.n_vectors, rng=config.rng)
            encoder = shrink[:, None] * v
            decoder = config.alpha * np.sqrt(degrees)[:, None] * v
            gram = csr_array(r.T.tocsr() @ r)
            if 2 * gram.nnz > train.n_items**2:
                weights = gram.astype(np.float32).toarray()
                weights += (encoder @ decoder.T).astype(np.float32)
                self._filters = _DenseFilter(weights)
            else:
                self._filters = _SparseFilters(
                    gram, encoder.astype(np.float32), decoder.astype(np.float32)
                )
        return self

    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`."""
        scorer: Scorer = fitted(self._filters, self.name).scorer(histories)
        return scorer

    def item_scorer(self, items: Histories) -> Scorer:
        """Scores of histories of one item: that item's row of the table."""
        return self.scorer(items)

    def arrays(self) -> Arrays:
        """Either ``weights`` ``(items, items)``, or the parts of the sum.

        Those are ``gram_data``, ``gram_indices`` and ``gram_indptr``, a CSR table, and ``encoder``
        and ``decoder``, ``(items, vectors)``. Float32, indices int64.
        """
        arrays: Arrays = fitted(self._filters, self.name).arrays()
        return arrays

    @classmethod
    def from_arrays(cls, config: Any, arrays: Mapping[str, np.ndarray]) -> "GFCF":
        """Fitted model; see `Recommender.from_arrays`."""
        model = cls.configured(config)
        if "weights" in arrays:
            check_arrays(cls.name, arrays, _DENSE)
            weights = arrays["weights"]
            check_shape("weights", weights, (len(weights), len(weights)))
            model._filters = _DenseFilter(weights)
            return model
        check_arrays(cls.name, arrays, _SPARSE)
        data, indices, indptr, encoder, decoder = (arrays[name] for name in _SPARSE)
        gram = square_csr(data, indices, indptr, prefix="gram_")
        if encoder.shape[1] > model.config.n_vectors:
            raise BundleError(
                f"array encoder has {encoder.shape[1]} columns;"
                f" at most {model.config.n_vectors} are expected"
            )
        for name, array in (("encoder", encoder), ("decoder", decoder)):
            check_shape(name, array, (gram.shape[0], encoder.shape[1]))
        model._filters = _SparseFilters(gram, encoder, decoder)
        return model


def _inverse_root(degrees: np.ndarray) -> Float64[np.ndarray, " n"]:
    """``degrees**-0.5``, and 0 where the degree is 0."""
    return np.where(degrees > 0, 1.0 / np.sqrt(np.maximum(degrees, 1)), 0.0)


@final
class _DenseFilter:
    """The whole sum as one table."""

    def __init__(self, weights: Float32[np.ndarray, "items items"]) -> None:
        self._weights = weights_on_grid(torch.from_numpy(weights))
        self._row_bounds = self._weights.abs().amax(dim=1).numpy()
        self.n_items = len(weights)

    def scorer(self, histories: Histories) -> Scorer:
        return TableScorer(self._weights, self._row_bounds, histories)

    def arrays(self) -> Arrays:
        return {"weights": self._weights.numpy()}


@final
class _SparseFilters:
    """The linear filter as a sparse table, the low-pass one as two factors."""

    def __init__(
        self,
        gram: csr_array,
        encoder: Float32[np.ndarray, "items vectors"],
        decoder: Float32[np.ndarray, "items vectors"],
    ) -> None:
        self._gram = SparseTable(gram)
        self._encoder = weights_on_grid(torch.from_numpy(encoder))
        self._decoder = weights_on_grid(torch.from_numpy(decoder)).numpy()
        self._low_pass = LinearTable.of(self._decoder)
        self.n_items = len(encoder)

    def scorer(self, histories: Histories) -> Scorer:
        items = torch.from_numpy(histories.matrix.indices.astype(np.int64))
        offsets = torch.from_numpy(histories.matrix.indptr[:-1].astype(np.int64))
        codes = exact_row_sums(self._encoder, items, offsets).numpy()
        return SumScorer([SparseScorer(self._gram, histories), self._low_pass.scorer(codes)])

    def arrays(self) -> Arrays:
        gram = self._gram.entries
        return {
            "gram_data": gram.data.astype(np.float32),
            "gram_indices": gram.indices.astype(np.int64),
            "gram_indptr": gram.indptr.astype(np.int64),
            "encoder": self._encoder.numpy(),
            "decoder": self._decoder,
        }
