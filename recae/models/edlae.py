"""`EDLAE` (Steck, "Autoencoders that don't overfit towards the identity", NeurIPS 2020)."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Float
from scipy.sparse import csr_array

from recae.models.item_item import ItemItem, zero_diagonal_weights
from recae.options import Options, Range, configured_by, option


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EDLAEConfig(Options):
    """Hyper-parameters of `EDLAE`."""

    dropout: float = option(
        0.33,
        low=0,
        below=1,
        search=Range(0.05, 0.8),
        help="Share of a history that is dropped while its items are predicted.",
    )
    l2: float = option(
        300.0,
        above=0,
        search=Range(1.0, 20000.0, log=True),
        help="Weight of the squared entries of the table; grows with the number of users.",
    )


@final
class EDLAE(ItemItem):
    """Linear denoising autoencoder with a zero diagonal, all dropout masks at once.

    The expected loss under dropout of rate ``p`` is that of EASE with ``p / (1 - p)`` times the
    count of an item, and `l2`, as the penalty of its row (Steck, sec. 4): popular items are trusted
    less to predict others.

    Parameters
    ----------
    config
        All hyper-parameters; or give them by keyword.
    """

    name: ClassVar[str] = "edlae"
    Config: ClassVar[type[Options]] = EDLAEConfig
    config: EDLAEConfig

    @configured_by(EDLAEConfig)
    def __init__(self) -> None: ...

    def solve(self, x: csr_array) -> Float[np.ndarray, "items items"]:
        """Table with a penalty of its own for each row.

        With ``L`` the diagonal of penalties, ``X~ = X L^-1/2`` has the penalty 1 everywhere, and
        ``B = L^-1/2 B~ L^1/2``.
        """
        p = self.config.dropout
        counts = np.bincount(x.indices, minlength=x.shape[1])
        roots = np.sqrt(self.config.l2 + p / (1.0 - p) * counts)
        x.data = (x.data / roots[x.indices]).astype(x.dtype)
        weights = zero_diagonal_weights(x, 1.0)
        weights *= roots[None, :].astype(weights.dtype)
        weights /= roots[:, None].astype(weights.dtype)
        return weights
