"""From checked rows to `Interactions`: one numbering, duplicates merged, thresholds applied."""

from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int
from scipy.sparse import csr_array

from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.data.readers.account import Account
from recae.data.readers.batch import DATES, Checked, Lines, as_array, shifted
from recae.data.readers.numbers import to_microseconds
from recae.data.readers.options import ReadOptions
from recae.errors import DataError


@final
class Rows:
    """Rows that count, collected batch by batch."""

    def __init__(self) -> None:
        self._user: list[Any] = []
        self._item: list[Any] = []
        self._times: list[np.ndarray] = []
        self._part: list[np.ndarray] = []
        self._lines: list[Lines] = []
        self.units: dict[str, int] = {}

    def add(self, batch: Checked, line: int) -> None:
        """Add a batch whose line 0 is `line` of the whole input."""
        for unit, at in batch.units.items():
            self.units.setdefault(unit, line + at)
        if not len(batch.user):
            return
        self._user.append(batch.user)
        self._item.append(batch.item)
        self._lines.append(shifted(batch.lines, line))
        if batch.times is not None:
            self._times.append(batch.times)
        if batch.part is not None:
            self._part.append(batch.part)

    def __len__(self) -> int:
        return sum(map(len, self._user))

    def times(self) -> np.ndarray | None:
        """Return microseconds of every row, or None; the rows' own chunks are given up.

        Raises
        ------
        DataError
            If times of several units occur.
        """
        if len(self.units) > 1:
            found = ", ".join(f"{unit} (line {line})" for unit, line in self.units.items())
            raise DataError(f"times are of more than one unit: {found}")
        chunks, self._times = self._times, []
        if not chunks:
            return None
        unit = next(iter(self.units), "seconds")  # counts too small to tell are seconds
        if unit != DATES:
            chunks = [to_microseconds(chunk, unit) for chunk in chunks]
        return np.concatenate(chunks)

    def ids(self) -> tuple[tuple[np.ndarray, Any], tuple[np.ndarray, Any]]:
        """Return codes and distinct ids of users and of items; the chunks are given up."""
        users, self._user = self._user, []
        items, self._item = self._item, []
        return _numbered(users), _numbered(items)

    def part(self) -> np.ndarray | None:
        """Return the part of every row, or None."""
        return np.concatenate(self._part) if self._part else None

    def lines(self) -> Lines:
        """Return the line of every row."""
        first, last = self._lines[0], self._lines[-1]
        if all(isinstance(lines, range) for lines in self._lines):
            whole = range(int(first[0]), int(last[-1]) + 1)
            if len(whole) == sum(map(len, self._lines)):
                return whole
        return np.concatenate([as_array(lines) for lines in self._lines])


def _numbered(chunks: list[Any]) -> tuple[np.ndarray, Any]:
    """Codes by first appearance, int32, and the ids that occur, in that order."""
    unified = pa.chunked_array(chunks).unify_dictionaries()
    chunks.clear()
    ids = unified.chunk(0).dictionary
    codes = np.concatenate([np.asarray(chunk.indices) for chunk in unified.chunks])
    first = np.full(len(ids), len(codes), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)  # of repeated places the last one stays
    new, order = _renumbered(first, absent=len(codes))
    if np.array_equal(order, np.arange(len(ids))):
        return codes, ids
    return new[codes], ids.take(pa.array(order))


def _renumbered(first: Int[np.ndarray, " n"], absent: int) -> tuple[np.ndarray, np.ndarray]:
    """New number of each old one, by growing `first`, and the old ones in the new order."""
    order = np.argsort(first, kind="stable")[: int((first < absent).sum())]
    new = np.full(len(first), -1, dtype=np.int32)
    new[order] = np.arange(len(order), dtype=np.int32)
    return new, order


def by_pair(
    user: Int[np.ndarray, " rows"], item: Int[np.ndarray, " rows"], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row starts, columns and row numbers of a sparse matrix, repeated pairs in their first order.

    Transposing twice sorts by (user, item, row) in linear time: the counting sort of SciPy's
    conversions, which keep equal entries apart and in order.
    """
    n = len(user)
    each = np.arange(n + 1, dtype=np.int32 if n < np.iinfo(np.int32).max else np.int64)
    by_item = csr_array((np.ones(n, np.int8), item, each), shape=(n, shape[1])).tocsc()
    rows = by_item.indices
    del each
    out = csr_array((rows, user[rows], by_item.indptr), shape=shape[::-1]).tocsc()
    return out.indptr.astype(np.int64), out.indices, out.data


def assemble(rows: Rows, options: ReadOptions, account: Account) -> Interactions:
    """Merge, filter and number `rows`; close the account.

    Raises
    ------
    DataError
        If nothing is left, or times of several units occur.
    """
    if not len(rows):
        raise DataError(f"{account.source} has no usable rows among {account.rows_read}")
    times, part, lines = rows.times(), rows.part(), rows.lines()
    if times is not None:
        account.notices.append(_about(times, rows.units))
    (user, users), (item, items) = rows.ids()
    indptr, columns, first = by_pair(user, item, (len(users), len(items)))
    del item
    last, merged = first, 0
    owner = user[first]  # of each entry
    again = np.zeros(len(first), dtype=bool)
    again[1:] = (columns[1:] == columns[:-1]) & (owner[1:] == owner[:-1])
    if again.any():
        last = _last_rows(first, again, times)
        if part is not None and (part[first] != part[last][np.cumsum(~again) - 1]).any():
            account.notices.append(
                "some pairs occur in several parts of the split; each stays in that of its last row"
            )
        columns, first, owner = columns[~again], first[~again], owner[~again]
        merged = int(again.sum())
    keep = _above_thresholds(owner, columns, lines, first, options, account)
    if keep is not None:
        columns, first, last, owner = columns[keep], first[keep], last[keep], owner[keep]
    if not len(first):
        raise DataError(
            f"{account.source} has no usable rows among {account.rows_read}: min_item"
            f" {options.min_item} and min_user {options.min_user} leave none"
        )
    if keep is not None:
        owner, users = _by_first(owner, first, users)
        columns, items = _by_first(columns, first, items)
        indptr, columns, place = by_pair(owner, columns, (len(users), len(items)))
        first, last = first[place], last[place]
    elif merged:
        indptr = np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=len(users)))))
    del owner, user, again
    matrix = csr_array(
        (np.ones(len(first), dtype=np.float32), columns.astype(np.int64), indptr),
        shape=(len(users), len(items)),
    )
    matrix.has_canonical_format = True
    return Interactions(
        matrix,
        IdMap.from_arrow(users),
        IdMap.from_arrow(items),
        order=_at(lines, first) - int(lines[0]),
        times=None if times is None else times[last],
        part=None if part is None else part[last],
        report=account.report(kept=len(first), merged=merged),
    )


def _about(times: np.ndarray, units: dict[str, int]) -> str:
    if not units:
        return "times are too close to 1970 to tell their unit; they are taken as seconds"
    days = [np.datetime64(int(t), "us").astype("M8[D]") for t in (times.min(), times.max())]
    return f"times are {next(iter(units))}, from {days[0]} to {days[1]} (UTC)"


def _at(lines: Lines, rows: Int[np.ndarray, " n"]) -> np.ndarray:
    if isinstance(lines, range):
        return rows.astype(np.int64) + lines.start
    at: np.ndarray = lines[rows]
    return at


def _last_rows(
    rows: Int[np.ndarray, " rows"], again: Bool[np.ndarray, " rows"], times: np.ndarray | None
) -> np.ndarray:
    """Of each run of rows of one pair the latest, by time, else by position."""
    ends = np.append(~again[1:], True)
    if times is not None:
        rows = rows[np.lexsort((rows, times[rows], np.cumsum(~again)))]
    last: np.ndarray = rows[ends]
    return last


def _above_thresholds(
    user: np.ndarray,
    item: np.ndarray,
    lines: Lines,
    first: np.ndarray,
    options: ReadOptions,
    account: Account,
) -> Bool[np.ndarray, " pairs"] | None:
    """Pairs left by one pass over items, then one over users; None if that is all of them."""
    keep = np.ones(len(first), dtype=bool)
    for reason, codes, minimum in (
        ("below_min_item", item, options.min_item),
        ("below_min_user", user, options.min_user),
    ):
        if minimum > 1:
            enough = np.bincount(codes[keep], minlength=int(codes.max()) + 1) >= minimum
            low = keep & ~enough[codes]
            account.drop(reason, _at(lines, first[low]))
            keep &= ~low
    return None if keep.all() else keep


def _by_first(codes: np.ndarray, first: np.ndarray, ids: Any) -> tuple[np.ndarray, Any]:
    """Codes renumbered by the smallest `first` of each, and the ids that are left."""
    at = np.full(len(ids), np.iinfo(np.int64).max)
    np.minimum.at(at, codes, first)
    new, order = _renumbered(at, absent=np.iinfo(np.int64).max)
    return new[codes], ids.take(pa.array(order))
