"""What some models can do beside ranking items for a history; asked for with `isinstance`."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from recae.data.histories import Histories
from recae.ranking.scorer import Scorer


@runtime_checkable
class ItemVectors(Protocol):
    """A model that has a vector for each item; items are compared by the cosine of theirs."""

    def item_vectors(self) -> Float32[np.ndarray, "items width"]:
        """Vector of each item, as the model uses it, of any length."""
        ...


@runtime_checkable
class ItemWeights(Protocol):
    """A model that has a weight for pairs of items, instead of vectors."""

    def item_scorer(self, items: Histories) -> Scorer:
        """Weights of all items beside each of `items`.

        Parameters
        ----------
        items
            Histories of one item each. A weight of minus infinity keeps an item out of the list.
        """
        ...


@runtime_checkable
class Codes(Protocol):
    """A model that makes a vector of a history, and scores items by that vector."""

    def encode(self, histories: Histories) -> Float32[np.ndarray, "users width"]:
        """Code of each history, shape ``(len(histories), width)``."""
        ...
