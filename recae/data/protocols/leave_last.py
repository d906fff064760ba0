"""``leave-last``: every user's last interaction."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Int64

from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, SplitProtocol, row_counts
from recae.data.protocols.rows_apart import TEST, TRAIN, VALIDATION, split_rows
from recae.errors import DataError
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
    of_seen: ClassVar[str] = (
        "Pairs below a minimum rating that happened before what is asked for are left out of lists."
    )
    validation: bool = option(True, help="Whether to have a validation part.")

    def parts(self, data: Interactions) -> Parts:
        """Split `data`; see the class."""
        rank, seen_rank = _ranks(data)
        lengths = row_counts(data)
        rows = np.repeat(np.arange(data.n_users), lengths)
        oldest_first = np.lexsort((rank, rows))
        from_last = np.empty(len(rows), dtype=np.int64)
        from_last[oldest_first] = np.repeat(np.cumsum(lengths), lengths) - 1 - np.arange(len(rows))
        part = np.zeros(len(rows), dtype=np.int8)
        part[(from_last == 0) & (lengths[rows] >= 2)] = TEST
        if self.validation:
            part[(from_last == 1) & (lengths[rows] >= 3)] = VALIDATION
        seen_part = None
        if data.seen is not None:
            # Of what a person saw and did not like, all before the target is part of the past
            owner = np.repeat(np.arange(data.seen.n_users), row_counts(data.seen))
            seen_part = np.full(len(owner), TRAIN, dtype=np.int8)
            for code in (VALIDATION, TEST):
                asked = np.full(data.seen.n_users, len(rank) + len(owner), dtype=np.int64)
                asked[rows[part == code]] = rank[part == code]
                seen_part[seen_rank > asked[owner]] = code
        return split_rows(data, part, seen_part, fold_in_validation=True)


def _ranks(data: Interactions) -> tuple[Int64[np.ndarray, " nnz"], Int64[np.ndarray, " seen"]]:
    """Rank of each pair, and of each that is only seen, by (time, input position) over all."""
    if data.seen is None:
        return data.time_rank(), np.zeros(0, dtype=np.int64)
    if data.times is None or data.seen.times is None:
        raise DataError("the data has no times; name the column with --time-col")
    order = np.concatenate([data.order, data.seen.order])
    rank = np.empty(len(order), dtype=np.int64)
    by_time = np.lexsort((order, np.concatenate([data.times, data.seen.times])))
    rank[by_time] = np.arange(len(order))
    return rank[: len(data.order)], rank[len(data.order) :]
