"""`SplitProtocol`: the options of one way to split, and the split they give."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, final

import numpy as np

from recae.data.interactions import Interactions
from recae.data.split import HeldOut, Split
from recae.errors import DataError
from recae.options import Options


@final
@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a protocol makes of a data set; the fields are those of `Split`."""

    train: Interactions
    validation: HeldOut | None
    test: HeldOut | None
    notes: Mapping[str, object]


class SplitProtocol(Options, ABC):
    """One protocol; its subclasses are frozen dataclasses whose fields are its options.

    A field named ``rng`` is the seed of a protocol that draws. Instances hold checked values.

    Attributes
    ----------
    name
        Name on the command line.
    of_seen
        What becomes of the pairs of `Interactions.seen`, one sentence.
    """

    __slots__ = ()
    name: ClassVar[str]
    of_seen: ClassVar[str] = (
        "Pairs below a minimum rating are drawn like the rest, and those on the side that is shown"
        " are left out of lists."
    )

    @abstractmethod
    def parts(self, data: Interactions) -> Parts:
        """Split `data`, which holds at least one interaction."""

    def split(self, data: Interactions) -> Split:
        """Split `data`.

        Raises
        ------
        DataError
            If the data lacks what the protocol needs, or a part would be empty.
        ConfigError
            If an option does not fit the data.
        """
        if not data.matrix.nnz:
            raise DataError("there are no interactions to split")
        parts = self.parts(data)
        notes = {"interactions": int(data.matrix.nnz), **parts.notes}
        return Split(
            train=parts.train,
            validation=parts.validation,
            test=parts.test,
            protocol=self.name,
            options=asdict(self),
            fingerprint=data.fingerprint(),
            notes=notes,
        )


def row_counts(data: Interactions) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Interactions of each user, shape ``(users,)``."""
    return np.diff(data.matrix.indptr).astype(np.int64)
