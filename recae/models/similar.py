"""Items near an item: by the cosine of their vectors, or by the weights between items."""

import math
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, Int64

from recae.data.histories import Histories
from recae.errors import ConfigError
from recae.ranking.capabilities import ItemVectors, ItemWeights
from recae.ranking.fixed_point import EXACT_BITS, WEIGHT_BITS, weights_on_grid
from recae.ranking.propose import recommend_chunk
from recae.ranking.recommender import Indices, Recommender, allowed_items
from recae.ranking.scorer import Scorer, rows_at_once
from recae.ranking.scorers import LinearTable
from recae.ranking.topk import TopK


@final
class NearestItems:
    """Neighbours of the items of a fitted model; what they need is computed once.

    Scores are sums without rounding, as those of recommendations: a list does not depend on the
    items that are asked for beside it. A cosine of two items is the same both ways.

    Parameters
    ----------
    model
        With vectors of its items (`ItemVectors`) or weights between them (`ItemWeights`).

    Raises
    ------
    ConfigError
        If the model has neither.
    """

    def __init__(self, model: Recommender) -> None:
        self.n_items = model.n_items
        self._weights: ItemWeights | None = None
        self._unit = np.zeros((0, 0), dtype=np.float32)
        if isinstance(model, ItemVectors):
            self._unit = unit_rows(model.item_vectors())
            self._table = LinearTable.of(self._unit)
        elif isinstance(model, ItemWeights):
            self._weights = model
        else:
            raise ConfigError(
                f"the {model.name} model has neither item vectors nor item-item weights;"
                " similar items need one of them"
            )

    def nearest(
        self,
        items: Int64[np.ndarray, " asked"],
        *,
        k: int,
        candidates: Indices | None = None,
        exclude: Indices | None = None,
    ) -> TopK:
        """Nearest other items of each of `items`, a row each.

        Parameters
        ----------
        items
            Whose neighbours; an item is never its own.
        k
            Length of the lists, at least 1. A list is shorter where fewer items are left.
        candidates, exclude
            Items that alone may, or that may not, be listed.

        Returns
        -------
        TopK
            Ordered by (score descending, item index ascending).

        Raises
        ------
        ConfigError
            If `k` is below 1.
        DataError
            If an item index is not one of the model's.
        """
        if k < 1:
            raise ConfigError(f"k is {k}; at least 1 is accepted")
        allowed = allowed_items(self.n_items, candidates, exclude)
        at_once = rows_at_once(self.n_items)
        places = min(k, self.n_items)
        found_items = np.empty((len(items), places), dtype=np.int64)
        found_scores = np.empty((len(items), places), dtype=np.float32)
        for start in range(0, len(items), at_once):
            part = slice(start, start + at_once)
            alone = Histories.from_lists([[i] for i in items[part].tolist()], n_items=self.n_items)
            top = recommend_chunk(self._scorer(alone), alone, places, [alone.matrix], allowed)
            found_items[part], found_scores[part] = top.items, top.scores
        return TopK(found_items, found_scores).padded(k)

    def _scorer(self, alone: Histories) -> Scorer:
        if self._weights is not None:
            return self._weights.item_scorer(alone)
        return self._table.scorer(self._unit[alone.matrix.indices].astype(np.float64))


def unit_rows(vectors: Float32[np.ndarray, "n width"]) -> Float32[np.ndarray, "n width"]:
    """Rows of length 1, on a grid on which products of any two add without rounding.

    Squares of the entries add exactly too, so the lengths, and with them the result, are the same
    on every machine. A row of zeros stays one.
    """
    n_terms = max(2, vectors.shape[1])
    bits = min(WEIGHT_BITS, EXACT_BITS - WEIGHT_BITS - math.ceil(math.log2(n_terms)))
    on_grid = weights_on_grid(torch.from_numpy(vectors), bits).to(torch.float64)
    lengths = (on_grid * on_grid).sum(dim=1, keepdim=True).sqrt()
    unit = on_grid / torch.where(lengths > 0, lengths, 1.0)
    rows: np.ndarray = weights_on_grid(unit, bits).numpy()
    return rows
