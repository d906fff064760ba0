"""``leave-last``: every user's last interaction."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, SplitProtocol, row_counts
from recae.data.protocols.rows_apart import TEST, VALIDATION, split_rows
from recae.options import option


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveLast(SplitProtocol):
    """Ask each user for the last interaction, having shown all before it.

    Users with two or more interactions are tested with the last one, users with three or more
    validate with the one before. Equal times go by place in the input. When testing, the validation
    interaction is part of what is shown. Other users' later interactions are trained on, so this
    is not a forecast; ``temporal`` is.
    """

    name: ClassVar[str] = "leave-last"
    validation: bool = option(True, help="Whether to have a validation part.")

    def parts(self, data: Interactions) -> Parts:
        """Split `data`; see the class."""
        rank = data.time_rank()
        lengths = row_counts(data)
        rows = np.repeat(np.arange(data.n_users), lengths)
        oldest_first = np.lexsort((rank, rows))
        from_last = np.empty(len(rows), dtype=np.int64)
        from_last[oldest_first] = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(len(rows))
        part = np.zeros(len(rows), dtype=np.int8)
        part[(from_last == 0) & (lengths[rows] >= 2)] = TEST
        if self.validation:
            part[(from_last == 1) & (lengths[rows] >= 3)] = VALIDATION
        return split_rows(data, part, fold_in_validation=True)
