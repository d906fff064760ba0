"""``column``: the split that the input carries."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from jaxtyping import Int8

from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, SplitProtocol
from recae.data.protocols.drawing import draw_from_rows
from recae.data.protocols.rows_apart import TRAIN, VALIDATION, split_rows
from recae.errors import ConfigError, DataError
from recae.options import option


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Column(SplitProtocol):
    """Use the part that the input gives each interaction, as published splits do.

    A test user is shown the training interactions and asked for those of the test part; validation
    interactions are neither shown nor allowed in the answer. Items are those of the training part.
    """

    name: ClassVar[str] = "column"
    of_seen: ClassVar[str] = (
        "Pairs below a minimum rating stay candidates, as in published figures."
    )
    validation_fraction: float | None = option(
        None,
        above=0,
        below=1,
        help="Share of each user's training interactions to cut out for validation, where the"
        " input has no validation part (LightGCN's have none): tune with it, then split again"
        " without it and train on all, since what is cut out is not trained on. None: no"
        " validation part.",
    )
    rng: int = option(0, low=0, help="Seed of that cut.")

    def parts(self, data: Interactions) -> Parts:
        """Split `data`; see the class."""
        if data.part is None:
            raise DataError(
                "the data carries no split; name its column with split_col (--split-col split)"
            )
        if self.validation_fraction is not None and (data.part == VALIDATION).any():
            raise ConfigError(
                f"validation_fraction={self.validation_fraction} for data with a validation part;"
                " it is for data without one"
            )
        # Published figures of such splits know nothing of ratings: all else is a candidate
        positive = replace(data, seen=None)
        return cut_validation(positive, data.part, self.validation_fraction, self.rng)


def cut_validation(
    data: Interactions, part: Int8[np.ndarray, " nnz"], fraction: float | None, rng: int
) -> Parts:
    """Turn a share of each user's training entries, if any, into validation entries, then split.

    Users with two or more training entries give at least one and keep at least one.
    """
    seen_part = None if data.seen is None else np.full(data.seen.matrix.nnz, TRAIN, dtype=np.int8)
    if fraction is None:
        return split_rows(data, part, seen_part, fold_in_validation=False)
    drawn = draw_from_rows(data, part == TRAIN, fraction, np.random.default_rng((rng, 1)))
    cut = np.where(drawn, VALIDATION, part).astype(np.int8)
    if data.seen is not None:
        everything = np.ones(data.seen.matrix.nnz, dtype=np.bool_)
        later = draw_from_rows(data.seen, everything, fraction, np.random.default_rng((rng, 1, 1)))
        seen_part = np.where(later, VALIDATION, TRAIN).astype(np.int8)
    parts = split_rows(data, cut, seen_part, fold_in_validation=False)
    notes = {"validation_cut_from_train": int(drawn.sum()), **parts.notes}
    return Parts(parts.train, parts.validation, parts.test, notes)
