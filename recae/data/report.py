"""`ReadReport`: what happened to every input row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

from recae.errors import DataError


@final
@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows dropped for one reason.

    Attributes
    ----------
    rows
        How many.
    lines
        Line numbers of the first ones, counted from 1, the header included; at most 20. In a
        directory lines are counted through all files; rows of Parquet and DataFrames are lines.
    """

    rows: int
    lines: tuple[int, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class ReadReport:
    """Account of an input: ``rows_read = rows_kept + rows_merged + sum of rows_dropped``.

    Attributes
    ----------
    source
        Name of the input, for people.
    rows_read
        Data rows of the input (the header and blank lines are none).
    rows_kept
        Stored (user, item) pairs.
    rows_merged
        Rows that repeated a pair already there.
    rows_dropped
        Rows left out, by reason; ``below_min_rating`` counts a pair by its latest row.
    pairs_seen
        Pairs of ``below_min_rating`` that are kept as seen, `Interactions.seen`.
    notices
        What a reader should tell people, one sentence each.
    options
        How the input was read, where that differs from the defaults: enough to read it again.
    """

    source: str
    rows_read: int
    rows_kept: int
    rows_merged: int = 0
    rows_dropped: Mapping[str, Dropped] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    pairs_seen: int = 0

    def __post_init__(self) -> None:
        dropped = sum(d.rows for d in self.rows_dropped.values())
        if self.rows_read != self.rows_kept + self.rows_merged + dropped:
            raise DataError(
                f"{self.source}: {self.rows_read} rows read are not {self.rows_kept} kept"
                f" + {self.rows_merged} merged + {dropped} dropped"
            )

    def to_json(self) -> dict[str, object]:
        """Return the account as JSON values."""
        return {
            "source": self.source,
            "rows_read": self.rows_read,
            "rows_kept": self.rows_kept,
            "rows_merged": self.rows_merged,
            "rows_dropped": {
                reason: {"rows": d.rows, "lines": list(d.lines)}
                for reason, d in self.rows_dropped.items()
            },
            "pairs_seen": self.pairs_seen,
            "notices": list(self.notices),
        }
