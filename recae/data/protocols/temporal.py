"""``temporal``: the past against the future, one date for everybody."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, final

import numpy as np
from jaxtyping import Int8

from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, SplitProtocol
from recae.data.protocols.rows_apart import TEST, TRAIN, VALIDATION, split_rows
from recae.errors import ConfigError, DataError
from recae.options import option

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Temporal(SplitProtocol):
    """Train on what happened before a date, ask for what happened from it on.

    Interactions of the same instant are on the same side, so nothing trained on or shown is later
    than anything asked for, for any user. When testing, the validation period is part of what is
    shown. Users without a history before the date and items never trained on are counted.
    """

    name: ClassVar[str] = "temporal"
    of_seen: ClassVar[str] = (
        "Pairs below a minimum rating that happened before what is asked for are left out of lists."
    )
    at: str | None = option(
        None,
        help="Start of the test period: an ISO 8601 date or time (UTC where it names no offset).",
    )
    quantile: float | None = option(
        None,
        above=0,
        below=1,
        help="Share of the interactions before the test period, where at is None; 0.9 if both are.",
    )
    validation_fraction: float = option(
        0.1,
        low=0,
        below=1,
        help="Share of the interactions before the test period, the latest ones, to validate with;"
        " no validation part at 0.",
    )

    def check(self) -> None:
        """Refuse two starts of the test period, or one that is no date."""
        if self.at is not None and self.quantile is not None:
            raise ConfigError(f"at={self.at!r} and quantile={self.quantile}; give one of them")
        if self.at is not None:
            microseconds(self.at)

    def parts(self, data: Interactions) -> Parts:
        """Split `data`; see the class."""
        times = data.times
        if times is None:
            raise DataError("the data has no times; name the column with --time-col")
        share = 0.9 if self.quantile is None else self.quantile
        test_from = _quantile(times, share) if self.at is None else microseconds(self.at)
        before = times[times < test_from]
        if not 0 < len(before) < len(times):
            raise DataError(
                f"{len(before)} of {len(times)} interactions are before {_iso(test_from)};"
                f" they reach from {_iso(int(times.min()))} to {_iso(int(times.max()))}"
            )
        starts = [test_from]
        notes: dict[str, object] = {"test_from": _iso(test_from)}
        if self.validation_fraction:
            validate_from = _quantile(before, 1 - self.validation_fraction)
            if validate_from == before.min():
                raise DataError(
                    f"all training interactions would be at or after {_iso(validate_from)}, the"
                    " start of validation; a smaller validation_fraction, or 0, is needed"
                )
            starts.insert(0, validate_from)
            notes["validation_from"] = _iso(validate_from)
        codes = np.array([TRAIN, VALIDATION, TEST] if len(starts) > 1 else [TRAIN, TEST], np.int8)

        def parts_of(some: Interactions) -> Int8[np.ndarray, " nnz"]:
            assert some.times is not None  # as `data` has them
            return codes[np.searchsorted(np.array(starts), some.times, side="right")]

        seen_part = None if data.seen is None else parts_of(data.seen)
        made = split_rows(data, parts_of(data), seen_part, fold_in_validation=True)
        return Parts(made.train, made.validation, made.test, {**notes, **made.notes})


def microseconds(text: str) -> int:
    """Microseconds since 1970-01-01 UTC of an ISO 8601 date or time.

    Raises
    ------
    ConfigError
        If `text` is no such thing.

    Examples
    --------
    >>> microseconds("1970-01-02")
    86400000000
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"at is {text!r}; it is an ISO 8601 date such as 2024-03-01") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // MICROSECOND


def _iso(time_us: int) -> str:
    try:
        return (EPOCH + time_us * MICROSECOND).isoformat()
    except OverflowError:  # numbers that only order, and are no dates
        return f"{time_us} us"


def _quantile(times: np.ndarray, share: float) -> int:
    # The instant before which at most this share of the interactions lies.
    place = min(int(share * len(times)), len(times) - 1)
    return int(np.partition(times, place)[place])
