"""`EASE` (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019)."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from recae.errors import ConfigError
from recae.models.item_item import ItemItem, zero_diagonal_weights
from recae.models.options import configured


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
class EASE(ItemItem):
    """Linear autoencoder with a zero diagonal, in closed form: see `zero_diagonal_weights`.

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.
    """

    name: ClassVar[str] = "ease"
    config: EASEConfig

    def __init__(self, config: EASEConfig | None = None, **options: object) -> None:
        self.config = configured(EASEConfig, config, options)

    def solve(self, x: csr_array) -> Float[np.ndarray, "items items"]:
        """Table of the closed form."""
        return zero_diagonal_weights(x, self.config.l2)
