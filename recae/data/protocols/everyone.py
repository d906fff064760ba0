"""``all``: train on everybody, for the model that goes into use."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, SplitProtocol
from recae.data.protocols.column import cut_validation
from recae.data.protocols.rows_apart import TRAIN
from recae.options import option


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Everyone(SplitProtocol):
    """Train on every user; there is nothing to test with."""

    name: ClassVar[str] = "all"
    validation_fraction: float | None = option(
        None,
        above=0,
        below=1,
        help="Share of each user's interactions to cut out of the training part, to decide when to"
        " stop. None: train on all of them.",
    )
    rng: int = option(0, low=0, help="Seed of that cut.")

    def parts(self, data: Interactions) -> Parts:
        """Split `data`; see the class."""
        everything = np.full(data.matrix.nnz, TRAIN, dtype=np.int8)
        return cut_validation(data, everything, self.validation_fraction, self.rng)
