"""``random``: a share of every user's interactions, drawn at random (weak generalisation)."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, SplitProtocol, check_count, check_fraction
from recae.data.protocols.drawing import draw_from_rows
from recae.data.protocols.rows_apart import TEST, VALIDATION, split_rows
from recae.errors import ConfigError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RandomRows(SplitProtocol):
    """Cut the test part, then the validation part, out of every user's interactions.

    The training part is what is shown; when testing, validation items are neither shown nor
    allowed in the answer. A random cut lets models learn from the future of what they are asked;
    use ``temporal`` where times are known and that matters.

    Attributes
    ----------
    target_fraction, validation_fraction
        Shares of a user's interactions for test and for validation, rounded down, at least one
        each while one is left to train on; no validation part at 0.
    rng
        Seed.
    """

    name: ClassVar[str] = "random"
    target_fraction: float = 0.2
    validation_fraction: float = 0.1
    rng: int = 0

    def __post_init__(self) -> None:
        check_count("rng", self.rng)
        check_fraction("target_fraction", self.target_fraction)
        if self.validation_fraction:
            check_fraction("validation_fraction", self.validation_fraction)
        if self.target_fraction + self.validation_fraction >= 1:
            raise ConfigError(
                f"target_fraction={self.target_fraction} and validation_fraction="
                f"{self.validation_fraction} leave nothing to train on; their sum is below 1"
            )

    def parts(self, data: Interactions) -> Parts:
        """Split `data`; see the class."""
        part = np.zeros(data.matrix.nnz, dtype=np.int8)
        cuts = [(TEST, self.target_fraction)]
        if self.validation_fraction:
            # Of what the test part leaves, so that both are shares of the whole.
            cuts.append((VALIDATION, self.validation_fraction / (1 - self.target_fraction)))
        for code, fraction in cuts:
            rng = np.random.default_rng((self.rng, code))
            part[draw_from_rows(data, part == 0, fraction, rng)] = code
        return split_rows(data, part, fold_in_validation=False)
