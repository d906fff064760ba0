"""Ratings and times of columns of any type: by Arrow where it is sure, else value by value."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Num

from recae.errors import DataError, shown

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,25}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# From which magnitude on a count since 1970 is taken for which unit. Smaller magnitudes fit all
# of them. The bounds leave room for the year 9999 in seconds, and mistake milliseconds before
# July 1979 for seconds.
UNITS = (("seconds", 1e8), ("milliseconds", 3e11), ("microseconds", 3e14), ("nanoseconds", 3e17))
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
    return float(text) if _NUMBER.fullmatch(text) else np.nan


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
        return Times(np.where(good, values, 0.0), good, dates)
    return Times(_numpy(array.fill_null(0)).astype(np.int64, copy=False), good, dates)


def _times_of_text(column: Any) -> Times:
    # Arrow reads 0x1F as a number; nothing else here does
    attempts = [
        (pa.float64(), False),
        (pa.timestamp("us"), True),
        (pa.timestamp("us", "UTC"), True),
    ]
    if not pc.any(pc.match_substring(column, "x", ignore_case=True)).as_py():
        attempts.insert(0, (pa.int64(), False))
    for type_, dates in attempts:
        try:
            array = column.cast(type_)
        except pa.ArrowInvalid:
            continue
        return _times(array.cast(pa.int64()) if dates else array, dates=dates)
    return _times_by_value(column)


def _times_by_value(column: Any) -> Times:
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
    rows = _numpy(codes.indices.fill_null(len(texts)))
    return Times(values[rows], good[rows], kinds == {"date"})


def _time(text: str) -> tuple[str, int | float]:
    text = text.strip(" \t")
    if _NUMBER.fullmatch(text):
        value = int(text) if _INTEGER.fullmatch(text) else float(text)
        return ("count", value) if abs(value) < 2.0**63 else ("", 0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return "", 0
    zone = moment.tzinfo or UTC  # a date without a zone is taken as UTC
    return "date", (moment.replace(tzinfo=zone) - _EPOCH) // _MICROSECOND


def units_of(times: Num[np.ndarray, " rows"]) -> dict[str, int]:
    """Position of the first count of each unit that occurs; counts that fit all say nothing."""
    if not len(times):
        return {}
    size = np.abs(times.astype(np.float64))
    band = np.searchsorted([bound for _, bound in UNITS], size, side="right")
    bands, first = np.unique(band, return_index=True)
    return {UNITS[b - 1][0]: int(i) for b, i in zip(bands, first, strict=True) if b}


def to_microseconds(values: Num[np.ndarray, " rows"], unit: str) -> np.ndarray:
    """Whole microseconds since 1970 of counts of `unit`, rounded; shape ``(rows,)``."""
    factor = _TO_MICROSECONDS[unit]
    if values.dtype != np.int64:
        return np.rint(values * factor).astype(np.int64)
    return values * int(factor) if factor >= 1 else values // 1000
