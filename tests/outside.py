"""A model as somebody else would write it: items that people have together."""

from typing import Any

import numpy as np

import recae


class Together(recae.Recommender):
    """Scores of an item are how often it stands beside the items of a history."""

    name = "together"

    def fit(self, train: recae.Interactions, **options: Any) -> "Together":
        x = train.matrix
        self.counts = np.asarray((x.T @ x).todense(), dtype=np.float64)
        self.counts /= np.sqrt(np.outer(self.counts.diagonal(), self.counts.diagonal())) + 1
        np.fill_diagonal(self.counts, 0)
        return self

    def scores(self, histories: recae.Histories) -> np.ndarray:
        return histories.matrix @ self.counts
