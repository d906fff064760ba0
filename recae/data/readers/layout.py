"""`Layout`: separator, columns and header of a text table, from its first lines."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar, final

from recae.data.readers.blocks import Blocks
from recae.data.readers.columns import Columns, by_name, by_position, matches
from recae.data.readers.exact import split_line
from recae.data.readers.numbers import time_kind
from recae.data.readers.options import ReadOptions
from recae.errors import DataError, shown

_CANDIDATES = (",", "\t", ";", "|", "::")
_HEAD_LINES = 20
_EXCEL_HINT = re.compile(rb"sep=(.)")
_T = TypeVar("_T")


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """How the lines of a text table are cut into columns.

    Attributes
    ----------
    sep
        The separator.
    names
        Column names; positions from 1 where there is no header.
    columns
        Positions of the columns that are used.
    has_header
        Whether the first line holds the names.
    notes
        What people should know of it.
    """

    sep: bytes
    names: tuple[str, ...]
    columns: Columns
    has_header: bool
    notes: tuple[str, ...] = ()

    @property
    def quoting(self) -> bool:
        """Whether quotes have a meaning: formats with longer separators know none."""
        return len(self.sep) == 1

    @property
    def n_fields(self) -> int:
        """Number of columns of every row."""
        return len(self.names)


def open_layout(blocks: Blocks, options: ReadOptions, *, where: str) -> Layout:
    """Layout of a table from its first lines; its header is taken from `blocks`.

    Raises
    ------
    DataError
        If there are no lines, or no separator, or more than one, makes columns of them that hold
        user and item.
    """
    lines = blocks.head(_HEAD_LINES)
    hint = _EXCEL_HINT.fullmatch(lines[0]) if lines else None
    if hint is not None and options.sep is None:
        options = replace(options, sep=hint[1].decode("latin-1"))
    if hint is not None:
        blocks.skip_line()
        lines = lines[1:]
    if not lines:
        raise DataError(f"{where} has no rows")
    if lines[0].lstrip().startswith((b'{"', b'[{"')):
        raise DataError(f"{where} is JSON; accepted: CSV or TSV in UTF-8, gz, zst, Parquet")
    _refuse_lists(lines, where)
    layout = choose_separator(
        lines[0], options.sep, lambda sep: _try(lines, sep, options, where), where=where
    )
    if layout.has_header:
        blocks.skip_line()
    return layout


def _refuse_lists(lines: list[bytes], where: str) -> None:
    """Refuse lists of ids, of several lengths; the first lines of a table are mostly of one."""
    for sep in (" ", *_CANDIDATES):
        rows = [line.strip().split(sep.encode()) for line in lines]
        widths = Counter(map(len, rows))
        uneven = widths.most_common(1)[0][1] <= len(rows) / 2 and max(widths) > 2
        if uneven and all(field[-1:].isdigit() for row in rows for field in row):
            raise DataError(
                f"{where}: the lines hold {min(widths)} to {max(widths)} ids, a list a line;"
                " accepted: one interaction a line, user and item"
            )


def choose_separator(
    line: bytes, given: str | None, attempt: Callable[[str], _T], *, where: str
) -> _T:
    """Result of `attempt` for the separator given, or else the one it succeeds with.

    Raises
    ------
    DataError
        The error of the separator that makes most columns if it succeeds with none; an ambiguity
        if it succeeds with several that make equally many columns.
    """
    if given is not None:
        return attempt(given)
    ranked = sorted(_CANDIDATES, key=lambda sep: -_width(line, sep))
    results: list[tuple[int, str, _T]] = []
    errors: list[DataError] = []
    for sep in ranked:
        try:
            results.append((_width(line, sep), sep, attempt(sep)))
        except DataError as error:
            # Not with its frames, which hold this list, and all that the callers hold.
            errors.append(error.with_traceback(None))
    if not results:
        raise errors[0]
    widest = [r for r in results if r[0] == results[0][0]]
    if len(widest) > 1:
        seps = shown([sep for _, sep, _ in widest])
        raise DataError(f"{where}: the separator may be any of {seps}; settle it with sep (--sep)")
    return results[0][2]


def _width(line: bytes, sep: str) -> int:
    fields = split_line(line, sep.encode())
    return 0 if fields is None else len(fields)


def header_names(line: bytes, sep: str, *, where: str) -> tuple[str, ...]:
    """Column names of a header line.

    Raises
    ------
    DataError
        If the line is not UTF-8, holds control characters, or its quotes do not match.
    """
    fields = split_line(line, sep.encode())
    if fields is None:
        raise DataError(f"{where}: the quotes of the first line do not match")
    try:
        names = tuple(field.decode() for field in fields)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: line 1, byte {error.start + 1} is not UTF-8; if it is Latin-1, save it as"
            " UTF-8 (iconv -f latin1 -t utf-8)"
        ) from error
    if any(ord(c) < 32 and c != "\t" for name in names for c in name):
        raise DataError(f"{where}: the first line holds control characters, {shown(names)}")
    return names


def _try(lines: list[bytes], sep: str, options: ReadOptions, where: str) -> Layout:
    names = header_names(lines[0], sep, where=where)
    if options.header:
        columns = by_name(names, options, where=where, text=True)
        said = _blank_ids(lines, sep.encode(), names, columns)
        return Layout(sep.encode(), names, columns, has_header=True, notes=said)
    columns = by_position(len(names), options, where=where)
    if matches(names[columns.user], "user") and matches(names[columns.item], "item"):
        raise DataError(
            f"{where}: the first line, {shown(names)}, is a header: drop header=False (--no-header)"
        )
    counts = {_width(line, sep) for line in lines}
    if options.sep is None and counts != {len(names)}:
        raise DataError(
            f"{where}: separator {sep!r} cuts the first lines unevenly; give sep (--sep)"
        )
    notes: tuple[str, ...] = ()
    if not any(getattr(options, f"{role}_col") for role in columns.roles()):
        notes = _notes_of_assumed(lines, sep.encode(), columns, where)
    numbers = tuple(str(i + 1) for i in range(len(names)))
    return Layout(sep.encode(), numbers, columns, has_header=False, notes=notes)


def _fields(lines: list[bytes], sep: bytes, place: int) -> list[str]:
    """Text of a column in the first lines, where they have it."""
    rows = (split_line(line, sep) or [] for line in lines)
    return [row[place].decode("utf-8", "replace") for row in rows if place < len(row)]


def _blank_ids(
    lines: list[bytes], sep: bytes, names: tuple[str, ...], columns: Columns
) -> tuple[str, ...]:
    """Tell which ids start with a blank, as after the commas of ``user, item``: it is kept."""
    said = []
    for place in (columns.user, columns.item):
        texts = _fields(lines[1:], sep, place)
        if texts and all(text.startswith(" ") for text in texts):
            said.append(
                f"ids of column {names[place]!r} start with a blank, which is kept; sep (--sep) may"
                f" hold it, {sep.decode() + ' '!r}"
            )
    return tuple(said)


def _notes_of_assumed(
    lines: list[bytes], sep: bytes, columns: Columns, where: str
) -> tuple[str, ...]:
    """Refuse times where the assumed order has items or ratings; items that may be times are told.

    Numbers as large as times are ids in some files; as ratings they are none.
    """
    places = {role: place for role, place in columns.roles().items() if role in ("item", "rating")}
    for role, place in places.items():
        texts = _fields(lines, sep, place)
        kinds = {time_kind(text) for text in texts}
        if kinds not in ({"count"}, {"date"}):
            continue
        what = f"column {place + 1}, taken for the {role}, holds times such as {shown(texts[:1])}"
        do = (
            "without a header the columns are user, item, rating, time; other orders are given by"
            " position, user_col, item_col and time_col (--user-col 1 --item-col 3 --time-col 2)"
        )
        if role == "item" and kinds == {"count"}:
            return (f"{what}, or ids like times; {do}",)
        raise DataError(f"{where}: {what}; {do}")
    return ()
