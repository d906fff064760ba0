"""Ratings and times of columns of any type: by Arrow where it is sure, else value by value."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int64, Num

from recae.errors import DataError, shown

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,25}")
_DATES = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
# What makes ISO 8601 of other ways to write a date or time that leave nothing open; 03/04/2024
# stays refused. As texts: patterns would take four times the whole reading
_TO_ISO = (("/", "-"), (" UTC", "Z"), (" GMT", "Z"), (" +", "+"), (" -", "-"))
ACCEPTED_TIMES = (
    "counts since 1970, 20240301120000, dates such as 2024-03-01 or 2024-03-01 12:00:00"
)
LEAVE_OUT_TIMES = "time_col='' (--time-col '') leaves times out"
_BY_VALUE = 1024  # texts that are read one by one where Arrow cannot read them all
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

DATES = "dates"
STAMPS = "stamps such as 20240301120000"
# From which magnitude on a count since 1970 is taken for which unit. Smaller magnitudes fit all
# of them. Milliseconds before July 1979 are mistaken for seconds. Stamps have the years 1900 to
# 2199, to the minute and to the second; as counts they would be of the years after 2570.
UNITS = (
    *(("seconds", 1e8), (STAMPS, 1.9e11), ("seconds", 2.2e11), ("milliseconds", 3e11)),
    *((STAMPS, 1.9e13), ("milliseconds", 2.2e13), ("microseconds", 3e14), ("nanoseconds", 3e17)),
)
_TO_MICROSECONDS = {"seconds": 1e6, "milliseconds": 1e3, "microseconds": 1.0, "nanoseconds": 1e-3}


def is_text(type_: Any) -> bool:
    """Whether `type_` is an Arrow type of text."""
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def value_type(column: Any) -> Any:
    """Arrow type of the values of a column, which may be held as a dictionary of them."""
    return column.type.value_type if pa.types.is_dictionary(column.type) else column.type


def _decoded(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def parse_ratings(column: Any) -> Float64[np.ndarray, " rows"]:
    """Finite numbers of a column; NaN where the value is none.

    Raises
    ------
    DataError
        If the type holds no numbers.
    """
    column = _decoded(column)
    type_ = column.type
    if not is_text(type_):
        if not (_is_number(type_) or pa.types.is_boolean(type_) or pa.types.is_null(type_)):
            raise DataError(f"ratings are of type {type_}; accepted: numbers, texts of them")
        values = _numpy(column.cast(pa.float64(), safe=False))
    else:
        try:
            values = _numpy(column.cast(pa.float64()))
        except pa.ArrowInvalid:
            codes = column.dictionary_encode()
            exact = [_number(text) for text in codes.dictionary.to_pylist()]
            values = np.array([*exact, np.nan])[_numpy(codes.indices.fill_null(len(exact)))]
    if np.isfinite(values).all():
        return values
    return np.where(np.isfinite(values), values, np.nan)


def _is_number(type_: Any) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(kind(type_) for kind in kinds)


def _number(text: str) -> float:
    text = text.strip(" \t")
    if _NUMBER.fullmatch(text):
        return float(text)
    return {"true": 1.0, "false": 0.0}.get(text.casefold(), np.nan)


def _numpy(array: Any) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False))


@final
@dataclass(frozen=True, slots=True)
class Times:
    """Times of some rows.

    Attributes
    ----------
    values
        Counts since 1970, int64 or float64, of a unit still to be found; int64 microseconds if
        `dates`. Shape ``(rows,)``.
    good
        False where a row has no time, whatever its value here.
    dates
        Whether the input held dates rather than counts.
    """

    values: Num[np.ndarray, " rows"]
    good: Bool[np.ndarray, " rows"]
    dates: bool


def parse_times(column: Any) -> Times:
    """Times of a column of dates, counts since 1970, or texts of either.

    Raises
    ------
    DataError
        If texts are counts in some rows and dates in others, or the type holds no times.
    """
    column = _decoded(column)
    type_ = column.type
    if is_text(type_):
        return _times_of_text(column)
    if pa.types.is_timestamp(type_) or pa.types.is_date(type_):
        moments = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return _times(moments, dates=True)
    if pa.types.is_unsigned_integer(type_) or pa.types.is_decimal(type_):
        return _times(column.cast(pa.float64(), safe=False), dates=False)
    if pa.types.is_integer(type_):
        return _times(column.cast(pa.int64()), dates=False)
    if pa.types.is_floating(type_):
        return _times(column.cast(pa.float64()), dates=False)
    raise DataError(f"times are of type {type_}; accepted: dates, whole numbers, texts of them")


def _times(array: Any, *, dates: bool) -> Times:
    good = _numpy(array.is_valid())
    if pa.types.is_floating(array.type):
        values = _numpy(array.fill_null(0.0))
        good = good & (np.abs(values) < 2.0**63)  # False for NaN and infinities too
        values = np.where(good, values, 0.0)
    else:
        values = _numpy(array.fill_null(0)).astype(np.int64, copy=False)
    return Times(values, good if dates else good & ~_no_stamps(values), dates)


def _no_stamps(values: Num[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
    """Which counts have the magnitude of a stamp and are no time of a calendar."""
    wrong = np.zeros(len(values), dtype=bool)
    for low, high in ((1.9e11, 2.2e11), (1.9e13, 2.2e13)):
        at = np.flatnonzero((values >= low) & (values < high))
        if len(at):
            wrong[at] = _moments(values[at])[1]
    return wrong


def _moments(
    stamps: Num[np.ndarray, " n"],
) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Microseconds since 1970 of stamps: 20240301, 202403011200, 20240301120000; which are none."""
    rest = np.rint(stamps).astype(np.int64)
    rest *= np.where(rest < 10**9, 10**6, np.where(rest < 10**12, 100, 1))
    parts = []
    for base in (100, 100, 100, 100, 100):
        rest, part = np.divmod(rest, base)
        parts.append(part)
    second, minute, hour, day, month = parts
    months = (rest - 1970) * 12 + month - 1
    first = months.astype("M8[M]").astype("M8[D]")
    days = ((months + 1).astype("M8[M]").astype("M8[D]") - first).astype(np.int64)
    wrong = (month < 1) | (month > 12) | (day < 1) | (day > days)
    wrong |= (hour > 23) | (minute > 59) | (second > 59)
    clock = ((hour * 60 + minute) * 60 + second) * 1_000_000
    at = first.astype(np.int64) + day - 1
    return at * 86_400_000_000 + clock, wrong


def days_or_seconds(chunks: Sequence[Num[np.ndarray, " _"]]) -> str:
    """Unit of counts that are too small to tell it: stamps if all are days such as 20240301."""

    def are_days(counts: Num[np.ndarray, " _"]) -> bool:
        if not len(counts) or counts.min() < 1.9e7 or counts.max() >= 2.2e7:
            return not len(counts)
        return not _moments(counts)[1].any()

    return STAMPS if all(map(are_days, chunks)) else "seconds"


def about_times(times: Int64[np.ndarray, " rows"], unit: str | None, *, where: str) -> list[str]:
    """Say of microseconds since 1970 what they are, and how many lie beyond the next year.

    Parameters
    ----------
    unit
        Of what they were read; None where that was open.
    where
        Name of the input, for errors.

    Raises
    ------
    DataError
        If most lie beyond the next year and were no dates: they are in no unit known here.
    """
    days = [np.datetime64(int(t), "us").astype("M8[D]") for t in (times.min(), times.max())]
    reach = f"from {days[0]} to {days[1]} (UTC)"
    year = datetime.now(UTC).year + 1
    late = 0
    if days[1] > np.datetime64(f"{year}-12-31"):
        late = int((times >= np.datetime64(f"{year + 1}-01-01").astype("M8[us]").astype(int)).sum())
    if unit not in (None, DATES) and late > len(times) / 2:
        raise DataError(
            f"{where}: {late} of {len(times)} times lie after {year} if they are {unit}, {reach};"
            f" accepted: {ACCEPTED_TIMES}; {LEAVE_OUT_TIMES}"
        )
    said = (
        f"times are {unit}, {reach}"
        if unit
        else "times are too close to 1970 to tell their unit; they are taken as seconds"
    )
    return [said, *([f"{late} of {len(times)} times lie after {year}"] if late else [])]


def _times_of_text(column: Any) -> Times:
    """Times of texts: of all by Arrow where it can, else of halves, and few value by value."""
    column = pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
    parts = list(_parts_of_text(column))
    kinds = {times.dates for times, any_ in parts if any_}
    if len(kinds) > 1:  # counts and dates: value by value it is told which
        return _times_by_value(column)[0]
    values = np.concatenate([times.values for times, _ in parts])  # float64 where one part is
    return Times(values, np.concatenate([times.good for times, _ in parts]), kinds == {True})


def _parts_of_text(column: Any) -> Iterator[tuple[Times, bool]]:
    """Times of neighbouring rows, and whether any is a count or a date at all."""
    if len(column) <= _BY_VALUE:
        yield _times_by_value(column)
        return
    # Arrow reads 0x1F as a number; nothing else here does
    plain = not pc.any(pc.match_substring(column, "x", ignore_case=True)).as_py()
    for written in ((), *_written_otherwise(column)):
        for type_ in (*((pa.int64(),) if plain else ()), pa.float64(), *_DATES):
            array = _cast(column, type_, written)
            if array is not None:
                dates = pa.types.is_timestamp(type_)
                times = _times(array.cast(pa.int64()) if dates else array, dates=dates)
                yield times, array.null_count < len(array)
                return
    half = len(column) // 2
    yield from _parts_of_text(column[:half])
    yield from _parts_of_text(column[half:])


def _written_otherwise(column: Any) -> list[tuple[tuple[str, str], ...]]:
    """What is to be replaced so that the first texts are ISO 8601; none where nothing is."""
    few = column[:_BY_VALUE]
    found = [way for way in _TO_ISO if pc.any(pc.match_substring(few, way[0])).as_py()]
    return [tuple(found)] if found else []


def _cast(column: Any, type_: Any, written: tuple[tuple[str, str], ...]) -> Any:
    """Texts as `type_`; None where one is not. Of many, a few are tried first.

    Arrow writes a message for every text that fails, which takes longer than reading them.
    """
    for texts in (column[:_BY_VALUE], column):
        for way, iso in written:
            texts = pc.replace_substring(texts, way, iso)
        try:
            array = texts.cast(type_)
        except pa.ArrowInvalid:
            return None
    return array


def _times_by_value(column: Any) -> tuple[Times, bool]:
    codes = column.dictionary_encode()
    texts = codes.dictionary.to_pylist()
    parsed = [_time(text) for text in texts]
    kinds = {kind for kind, _ in parsed if kind}
    if len(kinds) > 1:
        examples = [texts[[k for k, _ in parsed].index(kind)] for kind in ("count", "date")]
        raise DataError(f"times are counts in some rows and dates in others: {shown(examples)}")
    numbers = [value for _, value in parsed] + [0]
    exact = all(isinstance(value, int) for value in numbers)
    values = np.array(numbers, dtype=np.int64 if exact else np.float64)
    good = np.array([bool(kind) for kind, _ in parsed] + [False])
    if "count" in kinds:
        good &= ~_no_stamps(values)
    rows = _numpy(codes.indices.fill_null(len(texts)))
    return Times(values[rows], good[rows], kinds == {"date"}), bool(kinds)


def _time(text: str) -> tuple[str, int | float]:
    text = text.strip(" \t")
    if _NUMBER.fullmatch(text):
        value = int(text) if _INTEGER.fullmatch(text) else float(text)
        return ("count", value) if abs(value) < 2.0**63 else ("", 0)
    for written, iso in _TO_ISO:
        text = text.replace(written, iso)
    if text[10:11] in ("+", "-"):  # a date with an offset and no time
        return "", 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return "", 0
    zone = moment.tzinfo or UTC  # a date without a zone is taken as UTC
    return "date", (moment.replace(tzinfo=zone) - _EPOCH) // _MICROSECOND


def time_kind(text: str) -> str:
    """``"date"``, ``"count"`` of a time since 1979 in seconds or smaller units, or ``""``."""
    kind, value = _time(text)
    return "" if kind == "count" and value < 3e8 else kind


def units_of(times: Num[np.ndarray, " rows"]) -> dict[str, int]:
    """Position of the first count of each unit that occurs; counts that fit all say nothing."""
    if not len(times):
        return {}
    size = np.abs(times.astype(np.float64))
    band = np.searchsorted([bound for _, bound in UNITS], size, side="right")
    bands, first = np.unique(band, return_index=True)
    found: dict[str, int] = {}
    for one, place in zip(bands.tolist(), first.tolist(), strict=True):
        if one:
            unit = UNITS[one - 1][0]
            found[unit] = min(found.get(unit, place), place)
    return found


def to_microseconds(values: Num[np.ndarray, " rows"], unit: str) -> np.ndarray:
    """Whole microseconds since 1970 of counts of `unit`, rounded; shape ``(rows,)``."""
    if unit == STAMPS:
        return _moments(values)[0]
    factor = _TO_MICROSECONDS[unit]
    if values.dtype != np.int64:
        return np.rint(values * factor).astype(np.int64)
    return values * int(factor) if factor >= 1 else values // 1000
