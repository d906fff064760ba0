"""`ItemKNN`: items whose neighbours are in the history (Sarwar et al., WWW 2001)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
from scipy.sparse import coo_matrix, csr_array, csr_matrix

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.models.implicit_fit import binary_rows, one_blas_thread
from recae.models.stored import check_arrays, square_csr
from recae.options import Choice, Options, Range, configured_by, option
from recae.ranking.recommender import Arrays, Recommender, fitted
from recae.ranking.scorer import Scorer
from recae.ranking.scorers import SparseScorer, SparseTable, stored_entries


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ItemKNNConfig(Options):
    """Hyper-parameters of `ItemKNN`."""

    k_neighbours: int = option(
        100,
        low=1,
        search=Range(5, 1000, log=True),
        help="Neighbours kept for each item, itself not counted.",
    )
    similarity: Literal["cosine", "bm25", "tf-idf"] = option(
        "tf-idf",
        search=Choice(("cosine", "tf-idf", "bm25")),
        help="What two columns of the binary training matrix are compared by: cosine; tf-idf, the"
        " cosine of columns whose rows weigh less the more items their user has; bm25, the"
        " product, not normalised, of columns weighted by BM25.",
    )
    bm25_k1: float = option(
        1.2,
        low=0,
        search=Range(0.1, 100.0, log=True),
        only_with=("similarity", "bm25"),
        help="Saturation of bm25.",
    )
    bm25_b: float = option(
        0.75,
        low=0,
        high=1,
        search=Range(0.0, 1.0),
        only_with=("similarity", "bm25"),
        help="Length normalisation of bm25.",
    )


@final
class ItemKNN(Recommender):
    """Score of an item: the sum of its similarities to those of its neighbours in the history.

    The weights and the search for neighbours are those of ``implicit.nearest_neighbours``. Its own
    ``recommend`` gives an item the similarities of those history items that have it as a neighbour,
    which finds less, for every similarity, on MovieLens 1M and on Gowalla. An item is no neighbour
    of itself.

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.

    Examples
    --------
    >>> ItemKNN(similarity="bm25").config.k_neighbours
    100
    """

    name: ClassVar[str] = "item-knn"
    Config: ClassVar[type[Options]] = ItemKNNConfig
    config: ItemKNNConfig

    @configured_by(ItemKNNConfig)
    def __init__(self) -> None:
        self._table: SparseTable | None = None

    @property
    def n_items(self) -> int:
        """Number of items the model knows."""
        return len(fitted(self._table, self.name).row_bounds)

    def fit(
        self,
        train: Interactions,
        *,
        validation: HeldOut | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
    ) -> "ItemKNN":
        """Find the neighbours of every item; see `Recommender.fit`.

        Raises
        ------
        DataError
            If no training user has an interaction.
        """
        from implicit.nearest_neighbours import all_pairs_knn

        weighted = _weighted(binary_rows(train), self.config)
        with one_blas_thread():
            nearest = all_pairs_knn(weighted, self.config.k_neighbours + 1, show_progress=False)
        self._table = SparseTable(_neighbours(nearest, self.config.k_neighbours))
        return self

    def scorer(self, histories: Histories) -> Scorer:
        """Scores of `histories`."""
        return SparseScorer(fitted(self._table, self.name), histories)

    def item_scorer(self, items: Histories) -> Scorer:
        """Similarities of the neighbours of each of `items`; others have none."""
        columns = fitted(self._table, self.name).entries[:, items.matrix.indices]
        return stored_entries(columns.T.tocsr(), items)

    def arrays(self) -> Arrays:
        """CSR table: ``data`` float32, ``indices`` and ``indptr`` int64.

        Rows are items of the history; column ``j`` holds the neighbours of item ``j``.
        """
        table = fitted(self._table, self.name).entries
        return {
            "data": table.data.astype(np.float32),
            "indices": table.indices.astype(np.int64),
            "indptr": table.indptr.astype(np.int64),
        }

    @classmethod
    def from_arrays(cls, config: Any, arrays: Mapping[str, np.ndarray]) -> "ItemKNN":
        """Fitted model; see `Recommender.from_arrays`."""
        model = cls.configured(config)
        kinds = {"data": (np.float32, 1), "indices": (np.int64, 1), "indptr": (np.int64, 1)}
        check_arrays(cls.name, arrays, kinds)
        table = square_csr(arrays["data"], arrays["indices"], arrays["indptr"], prefix="")
        model._table = SparseTable(table)
        return model


def _weighted(x: csr_matrix, config: ItemKNNConfig) -> csr_matrix:
    """Users x items matrix whose columns are compared."""
    from implicit.nearest_neighbours import bm25_weight, normalize, tfidf_weight

    if config.similarity == "bm25":
        weighted = bm25_weight(x.T, config.bm25_k1, config.bm25_b)
    elif config.similarity == "tf-idf":
        weighted = tfidf_weight(x.T)
    else:
        weighted = x.T
    weighted = csr_matrix(weighted)
    # A user with all items but one has an inverse frequency of 0; such entries have no length.
    weighted.eliminate_zeros()
    if config.similarity != "bm25":
        weighted = normalize(weighted)
    return csr_matrix(weighted.T, dtype=np.float64)


def _neighbours(nearest: coo_matrix, k: int) -> csr_array:
    """In column ``j`` the `k` most similar others of row ``j`` of `nearest`."""
    others = (nearest.row != nearest.col) & (nearest.data != 0)
    rows, columns, values = (a[others] for a in (nearest.row, nearest.col, nearest.data))
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)  # place within its row
    kept = rank < k
    return csr_array((values[kept], (columns[kept], rows[kept])), shape=nearest.shape)
