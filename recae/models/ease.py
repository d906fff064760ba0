"""`EASE` (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019)."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from recae.models.item_item import ItemItem, zero_diagonal_weights
from recae.options import Options, Range, configured_by, option


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EASEConfig(Options):
    """Hyper-parameters of `EASE`."""

    l2: float = option(
        500.0,
        above=0,
        search=Range(1.0, 20000.0, log=True),
        help="Weight of the squared entries of the item-item table; grows with the number of"
        " users.",
    )


@final
class EASE(ItemItem):
    """Linear autoencoder with a zero diagonal, in closed form: see `zero_diagonal_weights`.

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.
    """

    name: ClassVar[str] = "ease"
    Config: ClassVar[type[Options]] = EASEConfig
    config: EASEConfig

    @configured_by(EASEConfig)
    def __init__(self) -> None: ...

    def solve(self, x: csr_array) -> Float[np.ndarray, "items items"]:
        """Table of the closed form."""
        return zero_diagonal_weights(x, self.config.l2)
