"""Scores of factor models: a user vector times the item vectors, plus an item bias."""

import numpy as np
import torch
from jaxtyping import Float32, Float64

from recae.models.tower import TowerScorer
from recae.networks.mult_vae import Layer
from recae.ranking.fixed_point import rows_on_grid
from recae.ranking.recommender import Scorer


def factor_scorer(
    users: Float64[np.ndarray, "users factors"],
    items: Float32[np.ndarray, "items factors"],
    bias: Float32[np.ndarray, " items"] | None = None,
) -> Scorer:
    """`Scorer` of ``users @ items.T + bias``.

    Parameters
    ----------
    users
        A vector each; rounded here to the grid on which products with `items` add exactly.
    items
        A table from `recae.ranking.fixed_point.weights_on_grid`.
    bias
        Added to each item's product; none where it is None.
    """
    weight = torch.from_numpy(items)
    offset = torch.zeros(len(items)) if bias is None else torch.from_numpy(bias)
    hidden = rows_on_grid(torch.from_numpy(users), n_terms=max(1, users.shape[1]))
    return TowerScorer(Layer(weight, offset, False), hidden)
