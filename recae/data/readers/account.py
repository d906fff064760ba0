"""`Account`: counts every row while it is read, keeps the rejected ones, refuses inputs too bad."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np

from recae.data.readers.numbers import ACCEPTED_TIMES, LEAVE_OUT_TIMES
from recae.data.report import Dropped, ReadReport
from recae.errors import DataError
from recae.storage import atomic_file

SHOWN_LINES = 20
_SHOWN_TEXT = 80
# Joined files repeat their header; that is no sign of damage.
_HARMLESS = ("repeated_header",)
_WORDS = "; words such as nan and null are no ids; with ids_as_written (--ids-as-written) they are"
# What to do where most of the malformed rows are so for a reason.
_ADVICE = {
    "bad_rating": "; accepted: numbers; rating_col='' (--rating-col '') leaves ratings out",
    "bad_time": f"; accepted: {ACCEPTED_TIMES}; {LEAVE_OUT_TIMES}",
    "not_utf8": "; if it is Latin-1, save it as UTF-8 (iconv -f latin1 -t utf-8)",
    "missing_user": _WORDS,
    "missing_item": _WORDS,
}
_DECIMAL_COMMA = re.compile(rb'(^|[;\t|])[0-9]+,[0-9]+([;\t|]|$)|"[0-9]+,[0-9]+"')


@final
class Account:
    """Running account of one input.

    Parameters
    ----------
    source
        Name of the input, for people.
    rejects
        Where to write every rejected row, as CSV with file, line, reason and text; None: nowhere.
        See `rejects_file`.
    """

    def __init__(self, source: str, rejects: io.TextIOWrapper | None = None) -> None:
        self.source = source
        self.rows_read = 0
        self.notices: list[str] = []
        self._rows: dict[str, int] = {}
        self._lines: dict[str, list[int]] = {}
        self._first: dict[str, bytes] = {}
        self._example: tuple[str, int, bytes] | None = None
        self._pointed: dict[str, tuple[int, str]] = {}
        self._writer: Any = None
        if rejects is not None:
            self._writer = csv.writer(rejects, lineterminator="\n")
            self._writer.writerow(["file", "line", "reason", "text"])

    def reject(
        self, rows: Sequence[tuple[int, str, bytes]], *, part: str, line: int, before: int
    ) -> None:
        """Count rows whose content is wrong.

        Parameters
        ----------
        rows
            ``(line, reason, bytes)``, lines counted from 0.
        part
            File they are from.
        line
            Line of that file, counted from 1, which is their line 0.
        before
            Lines of the files read before.
        """
        for offset, reason, raw in rows:
            if self._example is None and reason not in _HARMLESS:
                self._example = (reason, before + line + offset, raw)
            self._first.setdefault(reason, raw)
            self._count(reason, [before + line + offset])
            if self._writer is not None:
                text = raw.decode("utf-8", "backslashreplace")
                self._writer.writerow([part, line + offset, reason, _printable(text)])

    def pointed(self, rows: Mapping[str, tuple[int, str]]) -> None:
        """Count rows whose ids are read without ``.0``; see `Checked.pointed`."""
        for role, (n, written) in rows.items():
            before, first = self._pointed.get(role, (0, written))
            self._pointed[role] = before + n, first

    def drop(self, reason: str, lines: np.ndarray) -> None:
        """Count rows left out by a threshold, given their lines in any order."""
        if len(lines):
            full = len(self._lines.get(reason, ())) == SHOWN_LINES
            self._count(reason, [] if full else np.sort(lines)[:SHOWN_LINES].tolist(), len(lines))

    def add(self, dropped: Mapping[str, Dropped]) -> None:
        """Count rows that the account of a piece of the input left out."""
        for reason, of_piece in dropped.items():
            self._count(reason, list(of_piece.lines), of_piece.rows)

    def _count(self, reason: str, lines: list[int], rows: int = 1) -> None:
        self._rows[reason] = self._rows.get(reason, 0) + rows
        kept = self._lines.setdefault(reason, [])
        kept.extend(lines[: SHOWN_LINES - len(kept)])

    def refuse_if_bad(self, max_bad_rows: float | int) -> None:
        """Refuse an input with too many malformed rows; call it before any threshold is applied.

        Raises
        ------
        DataError
            If more rows than `max_bad_rows`, a share below 1 or a count, are malformed.
        """
        reasons = {r: n for r, n in self._rows.items() if not r.startswith("below_min")}
        bad = sum(n for reason, n in reasons.items() if reason not in _HARMLESS)
        allowed = max_bad_rows if max_bad_rows >= 1 else max_bad_rows * self.rows_read
        if bad <= allowed or self._example is None:
            return
        parts = ", ".join(f"{reason} {n}" for reason, n in reasons.items())
        reason, line, raw = self._example
        text = raw[: _SHOWN_TEXT * 2].decode("utf-8", "backslashreplace")
        most = max(reasons, key=lambda name: reasons[name] * (name not in _HARMLESS))
        advice = _ADVICE.get(most, "")
        if most == "bad_rating" and _DECIMAL_COMMA.search(self._first[most]):
            advice = "; a decimal comma is not read: write 4.5" + advice
        limit = f"{max_bad_rows:g}" if max_bad_rows >= 1 else f"{max_bad_rows:.4g} of them"
        raise DataError(
            f"{self.source}: {bad} of {self.rows_read} rows are malformed ({parts}), the first in"
            f" line {line}, {reason}: {_shortened(text)}; at most {limit} accepted"
            f" (max_bad_rows, --max-bad-rows){advice}"
        )

    def report(self, *, kept: int, merged: int, seen: int = 0) -> ReadReport:
        """Close the account."""
        for role, (rows, written) in self._pointed.items():
            self.notices.append(
                f"{role} ids of {rows} of {self.rows_read} rows are written such as {written!r} and"
                f" read as {written[:-2]!r} (ids_as_written, --ids-as-written, keeps them)"
            )
        dropped = {r: Dropped(n, tuple(self._lines[r])) for r, n in self._rows.items()}
        return ReadReport(
            self.source, self.rows_read, kept, merged, dropped, tuple(self.notices), pairs_seen=seen
        )


@contextmanager
def rejects_file(path: Path | None) -> Iterator[io.TextIOWrapper | None]:
    """File of rejected rows, which replaces `path` when the body ends; None where that is None.

    Raises
    ------
    ConfigError, ResourceError, BusyError
        As in `atomic_file`.
    """
    if path is None:
        yield None
        return
    with (
        atomic_file(path) as raw,
        io.TextIOWrapper(
            io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", newline=""
        ) as text,
    ):
        yield text


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + "...")
