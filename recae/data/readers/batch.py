"""`Batch`: some rows as read; `check` keeps those that count and names what is wrong with the rest.

Every reader makes batches, so what an id, a rating or a time may be is decided here and only here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Float64, Int8, Int64

from recae.data.readers.numbers import (
    DATES,
    is_text,
    parse_ratings,
    parse_times,
    units_of,
    value_type,
)
from recae.data.readers.options import ReadOptions
from recae.errors import DataError

Lines = range | np.ndarray
PART_NAMES = {"train": 0, "valid": 1, "validation": 1, "val": 1, "test": 2}
_IDS = pa.dictionary(pa.int32(), pa.string())

# Order matters: a row is dropped for the first reason that holds.
REASONS = (
    "",
    "repeated_header",
    "empty_user",
    "empty_item",
    "missing_user",
    "missing_item",
    "control_character",
    "id_too_long",
    "bad_rating",
    "bad_time",
    "bad_split",
)
# What other programs write where a text is missing. Each has an n or N, which `_wrong_ids` uses.
_MISSING = ("nan", "NaN", "null", "NULL", "None", "NA", "N/A", "<NA>")
POINTED = re.compile(r"^-?(0|[1-9][0-9]*)\.0$")
_LARGEST = 2.0**53  # from here on a float may be another whole number than was meant
_CODE = {reason: code for code, reason in enumerate(REASONS)}


@final
@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as they were read.

    Attributes
    ----------
    columns
        Arrow array of each column that is used, by role: ``user``, ``item``, ``rating``, ...
    lines
        Line of each row, increasing, counted from the start of the batch's block.
    raw
        The bytes of a row, given its position.
    rejects
        ``(line, reason, bytes)`` of rows that never became one.
    """

    columns: dict[str, Any]
    lines: Lines
    raw: Callable[[int], bytes]
    rejects: list[tuple[int, str, bytes]] = field(default_factory=list)


@final
@dataclass(frozen=True, slots=True)
class Checked:
    """Rows that count.

    Attributes
    ----------
    user, item
        Arrow dictionary arrays of ids.
    ratings
        None where they are not kept.
    times
        Counts of a unit still to be found, or microseconds where `units` says dates.
    part
        Position in `recae.data.interactions.PARTS`.
    lines
        As in `Batch`.
    units
        Line of the first time of each unit that occurs.
    rejects
        Rows dropped for what is in them.
    low
        Which rows are rated below the minimum; None where there is no minimum.
    pointed
        Rows whose id was written as ``12.0`` and is read as ``12``, and such an id as it was
        written, by ``user`` and ``item``.
    """

    user: Any
    item: Any
    ratings: Float32[np.ndarray, " rows"] | None
    times: np.ndarray | None
    part: Int8[np.ndarray, " rows"] | None
    lines: Lines
    units: dict[str, int]
    rejects: list[tuple[int, str, bytes]]
    low: Bool[np.ndarray, " rows"] | None
    pointed: dict[str, tuple[int, str]] = field(default_factory=dict)


def shifted(lines: Lines, by: int) -> Lines:
    """`lines` moved down."""
    if isinstance(lines, range):
        return range(lines.start + by, lines.stop + by)
    return lines + by


def as_array(lines: Lines) -> Int64[np.ndarray, " rows"]:
    """`lines` one by one."""
    return np.arange(lines.start, lines.stop) if isinstance(lines, range) else lines


def check(
    batch: Batch, options: ReadOptions, header: tuple[str, str] | None, *, where: str
) -> Checked:
    """Rows of `batch` that count, and the others with their reasons.

    Parameters
    ----------
    header
        Names of the user and item columns, where a text file could repeat them as a row.
    where
        Name of the input, for errors.

    Raises
    ------
    DataError
        If a column is of a type it cannot be, or times are counts in some rows and dates in others.
    """
    columns = batch.columns
    pointed: dict[str, tuple[int, str]] = {}
    try:
        user, item = (_ids(columns[role], role, options, pointed) for role in ("user", "item"))
        rating = parse_ratings(columns["rating"]) if "rating" in columns else None
        times = parse_times(columns["time"]) if "time" in columns else None
        part = _parts(columns["split"]) if "split" in columns else None
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    verdict = np.zeros(len(user), dtype=np.int8)
    _judge_ids(verdict, user, item, options, header)
    if rating is not None:
        _mark(verdict, "bad_rating", np.isnan(rating))
    if times is not None:
        _mark(verdict, "bad_time", ~times.good)
    if part is not None:
        _mark(verdict, "bad_split", part < 0)
    lines, values = batch.lines, None if times is None else times.values
    rejects = batch.rejects
    if verdict.any():
        keep = verdict == 0
        at = as_array(lines)
        found = [
            (int(at[i]), REASONS[verdict[i]], batch.raw(int(i))) for i in np.flatnonzero(verdict)
        ]
        rejects = sorted(rejects + found)
        user, item, lines = user.filter(keep), item.filter(keep), at[keep]
        values = None if values is None else values[keep]
        part = None if part is None else part[keep]
        rating = None if rating is None else rating[keep]
    units: dict[str, int] = {}
    if times is not None and values is not None and len(values):
        first = {DATES: 0} if times.dates else units_of(values)
        units = {unit: int(lines[row]) for unit, row in first.items()}
    low = None
    if rating is not None and options.min_rating is not None:
        low = rating < options.min_rating
    kept = None
    if rating is not None and options.keep_ratings:
        kept = _kept(rating, low, user, item, where)
    return Checked(user, item, kept, values, part, lines, units, rejects, low, pointed)


def _kept(
    rating: Float64[np.ndarray, " rows"],
    low: Bool[np.ndarray, " rows"] | None,
    user: Any,
    item: Any,
    where: str,
) -> Float32[np.ndarray, " rows"]:
    """Ratings as values of a matrix, where 0 is no entry; 1 below the minimum."""
    with np.errstate(over="ignore"):
        values = rating.astype(np.float32)
    if low is not None:
        values[low] = 1
    wrong = np.flatnonzero(~((values > 0) & np.isfinite(values)))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"{where}: user {user[row].as_py()!r} rated item {item[row].as_py()!r}"
            f" {rating[row]:g}; keep_ratings takes ratings above 0 that float32 can hold"
            " (min_rating drops lower ones)"
        )
    return values


def _mark(verdict: Int8[np.ndarray, " rows"], reason: str, rows: np.ndarray) -> None:
    """Give `reason` to the `rows`, a mask, that have none yet."""
    if rows.any():
        verdict[rows & (verdict == 0)] = _CODE[reason]


def _judge_ids(
    verdict: Int8[np.ndarray, " rows"],
    user: Any,
    item: Any,
    options: ReadOptions,
    header: tuple[str, str] | None,
) -> None:
    if header is not None:
        users = pc.index(user.dictionary, header[0]).as_py()
        items = pc.index(item.dictionary, header[1]).as_py()
        if users >= 0 and items >= 0:
            again = (_codes(user) == users) & (_codes(item) == items)
            _mark(verdict, "repeated_header", again)
    for ids, role in ((user, "user"), (item, "item")):
        for reason, wrong in _wrong_ids(ids, role, options).items():
            _mark(verdict, reason, wrong[_codes(ids)])


def as_ids(column: Any, role: str) -> Any:
    """Return a column as an Arrow dictionary array of texts; whole numbers become decimal text.

    Those of a column of floats get ``.0``, as other programs write them; NaN becomes null.

    Raises
    ------
    DataError
        If the type is neither text nor numbers, or one is no whole number: how a fraction would be
        written is open.
    """
    if column.type == _IDS:
        return column
    type_ = value_type(column)
    if pa.types.is_floating(type_):
        return _ids_of_floats(column, role)
    if not (is_text(type_) or pa.types.is_integer(type_)):
        raise DataError(
            f"{role} ids are of type {type_}; accepted: text and whole numbers"
            " (in pandas, .astype('Int64') or .astype(str) says which is meant)"
        )
    codes = _encoded(column)
    texts = codes.dictionary.cast(pa.string())
    return pa.DictionaryArray.from_arrays(codes.indices.cast(pa.int32()), texts)


def _ids_of_floats(column: Any, role: str) -> Any:
    codes = _encoded(column)
    values = codes.dictionary.cast(pa.float64()).to_numpy(zero_copy_only=False)
    wrong = ~np.isnan(values) & ~((np.rint(values) == values) & (np.abs(values) < _LARGEST))
    if wrong.any():
        raise DataError(
            f"{role} ids are of type {value_type(column)}, one is {values[wrong][0]!s}; accepted:"
            " text and whole numbers (in pandas, .astype(str) makes them text)"
        )
    whole = np.where(np.isnan(values), 0, values).astype(np.int64)
    texts = pa.array(
        [None if np.isnan(v) else f"{n}.0" for v, n in zip(values, whole, strict=True)]
    )
    return texts.cast(pa.string()).take(codes.indices).dictionary_encode()


def _ids(column: Any, role: str, options: ReadOptions, pointed: dict[str, tuple[int, str]]) -> Any:
    """Ids of a column; those that are read without ``.0`` are told in `pointed`."""
    ids = as_ids(column, role)
    return ids if options.ids_as_written else without_point(ids, role, pointed)


def without_point(ids: Any, role: str, pointed: dict[str, tuple[int, str]]) -> Any:
    """`ids`, of which ``12.0`` becomes ``12``; how many rows have one is put into `pointed`."""
    texts = ids.dictionary
    if not pc.any(pc.ends_with(texts, ".0")).as_py():
        return ids
    whole = pc.match_substring_regex(texts, POINTED.pattern)
    if not pc.any(whole).as_py():
        return ids
    rows = np.append(np.asarray(whole), False)[_codes(ids)].sum()
    pointed[role] = int(rows), texts[pc.index(whole, True).as_py()].as_py()
    # 12.0 beside 12 is one id
    new = pc.if_else(whole, pc.utf8_slice_codeunits(texts, 0, -2), texts).dictionary_encode()
    return pa.DictionaryArray.from_arrays(new.indices.take(ids.indices), new.dictionary)


def _encoded(column: Any) -> Any:
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _codes(ids: Any) -> np.ndarray:
    """Code of each row; null is one past the dictionary."""
    return np.asarray(ids.indices.fill_null(len(ids.dictionary)).to_numpy(zero_copy_only=False))


def _wrong_ids(ids: Any, role: str, options: ReadOptions) -> dict[str, Bool[np.ndarray, " codes"]]:
    """For each reason that occurs, which codes of `ids` it holds for."""
    texts, empty, longest = ids.dictionary, f"empty_{role}", options.max_id_length
    length = np.asarray(pc.binary_length(texts))
    wrong = {}
    if ids.null_count or (length == 0).any():
        wrong[empty] = np.append(length == 0, True)
    buffer = texts.buffers()[2]
    data = np.frombuffer(buffer, dtype=np.uint8) if buffer is not None else np.zeros(0, np.uint8)
    if not options.ids_as_written and ((data | 32) == ord("n")).any():
        missing = np.append(np.asarray(pc.is_in(texts, pa.array(_MISSING))), False)
        if missing.any():
            wrong[f"missing_{role}"] = missing
    if ((data <= 32) | (data >= 127)).any():  # else neither blanks nor control characters
        blank = np.append(np.asarray(pc.utf8_is_space(texts)) | (length == 0), True)
        if blank[:-1].any():
            wrong[empty] = blank
        control = np.append(np.asarray(pc.match_substring_regex(texts, r"\p{Cc}")), False)
        if control.any():
            wrong["control_character"] = control
    if (length > longest).any():
        wrong["id_too_long"] = np.append(length > longest, False)
    return wrong


def _parts(column: Any) -> Int8[np.ndarray, " rows"]:
    """Part of each row, -1 where the text names none."""
    type_ = value_type(column)
    if not (is_text(type_) or pa.types.is_null(type_)):
        raise DataError(f"parts are of type {type_}; accepted: texts such as 'train'")
    codes = _encoded(column)
    texts = codes.dictionary.to_pylist()
    parts = [PART_NAMES.get(str(text).casefold(), -1) for text in texts] + [-1]
    found: np.ndarray = np.array(parts, dtype=np.int8)[_codes(codes)]
    return found
