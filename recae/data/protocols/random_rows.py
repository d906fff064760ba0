"""``random``: a share of every user's interactions, drawn at random (weak generalisation)."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Int8

from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, SplitProtocol
from recae.data.protocols.drawing import draw_from_rows
from recae.data.protocols.rows_apart import TEST, VALIDATION, split_rows
from recae.errors import ConfigError
from recae.options import option


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RandomRows(SplitProtocol):
    """Cut the test part, then the validation part, out of every user's interactions.

    The training part is what is shown; when testing, validation items are neither shown nor
    allowed in the answer. A random cut lets models learn from the future of what they are asked;
    use ``temporal`` where times are known and that matters.
    """

    name: ClassVar[str] = "random"
    target_fraction: float = option(
        0.2,
        above=0,
        below=1,
        help="Share of a user's interactions for test, rounded down, at least one while one is"
        " left to train on.",
    )
    validation_fraction: float = option(
        0.1, low=0, below=1, help="The same for validation; no validation part at 0."
    )
    rng: int = option(0, low=0, help="Seed.")

    def check(self) -> None:
        """Refuse shares that leave nothing to train on."""
        if self.target_fraction + self.validation_fraction >= 1:
            raise ConfigError(
                f"target_fraction={self.target_fraction} and validation_fraction="
                f"{self.validation_fraction} leave nothing to train on; their sum is below 1"
            )

    def parts(self, data: Interactions) -> Parts:
        """Split `data`; see the class."""
        seen_part = None if data.seen is None else self._drawn(data.seen, 1)
        return split_rows(data, self._drawn(data), seen_part, fold_in_validation=False)

    def _drawn(self, data: Interactions, *stream: int) -> Int8[np.ndarray, " nnz"]:
        part = np.zeros(data.matrix.nnz, dtype=np.int8)
        cuts = [(TEST, self.target_fraction)]
        if self.validation_fraction:
            # Of what the test part leaves, so that both are shares of the whole.
            cuts.append((VALIDATION, self.validation_fraction / (1 - self.target_fraction)))
        for code, fraction in cuts:
            rng = np.random.default_rng((self.rng, code, *stream))
            part[draw_from_rows(data, part == 0, fraction, rng)] = code
        return part
