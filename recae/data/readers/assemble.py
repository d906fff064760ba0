"""From checked rows to `Interactions`: one numbering, duplicates merged, thresholds applied."""

from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int
from scipy.sparse import csr_array

from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.data.readers.account import Account
from recae.data.readers.batch import DATES, Checked, Lines, as_array, shifted
from recae.data.readers.numbers import to_microseconds
from recae.data.readers.options import ReadOptions
from recae.data.readers.pairs import (
    count,
    gather,
    grouped,
    last_rows,
    regrouped,
    renumbered,
    smallest,
)
from recae.errors import DataError


@final
class Rows:
    """Rows that count, collected batch by batch."""

    def __init__(self) -> None:
        self._user: list[Any] = []
        self._item: list[Any] = []
        self._ratings: list[np.ndarray] = []
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
        if batch.ratings is not None:
            self._ratings.append(batch.ratings)
        if batch.times is not None:
            self._times.append(batch.times)
        if batch.part is not None:
            self._part.append(batch.part)

    def __len__(self) -> int:
        return sum(map(len, self._user))

    def times(self, *, where: str) -> np.ndarray | None:
        """Return microseconds of every row, or None; the rows' own chunks are given up.

        An error names the input as `where`.

        Raises
        ------
        DataError
            If times of several units occur.
        """
        if len(self.units) > 1:
            found = ", ".join(f"{unit} (line {line})" for unit, line in self.units.items())
            raise DataError(f"{where}: times are of more than one unit: {found}")
        if not self._times:
            return None
        unit = next(iter(self.units), "seconds")  # counts too small to tell are seconds
        out = np.empty(sum(map(len, self._times)), dtype=np.int64)
        end = len(out)
        while self._times:  # given up one by one: twice all times would be the peak of a reading
            chunk = self._times.pop()
            out[end - len(chunk) : end] = chunk if unit == DATES else to_microseconds(chunk, unit)
            end -= len(chunk)
        return out

    def ids(self) -> tuple[tuple[np.ndarray, Any], tuple[np.ndarray, Any]]:
        """Return codes and distinct ids of users and of items; the chunks are given up."""
        users, self._user = self._user, []
        items, self._item = self._item, []
        return _numbered(users), _numbered(items)

    def ratings(self) -> Float32[np.ndarray, " rows"] | None:
        """Return the rating of every row, or None; the rows' own chunks are given up."""
        chunks, self._ratings = self._ratings, []
        return np.concatenate(chunks) if chunks else None

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
    first = smallest(codes, range(len(codes)), len(ids), absent=len(codes))
    new, order = renumbered(first, absent=len(codes))
    if np.array_equal(order, np.arange(len(ids))):
        return codes, ids
    return gather(new, codes), ids.take(pa.array(order))


def assemble(rows: Rows, options: ReadOptions, account: Account) -> Interactions:
    """Merge, filter and number `rows`; close the account.

    Raises
    ------
    DataError
        If nothing is left, or times of several units occur.
    """
    if not len(rows):
        raise DataError(f"{account.source} has no usable rows among {account.rows_read}")
    times, part, lines = rows.times(where=account.source), rows.part(), rows.lines()
    ratings = rows.ratings()
    if times is not None:
        account.notices.append(_about(times, rows.units))
    (user, users), (item, items) = rows.ids()
    # Arrays of the size of the input are given up as soon as they can be, here and below
    pa.default_memory_pool().release_unused()
    starts, by_item = grouped(item, len(items))
    del item
    user = gather(user, by_item)
    indptr, columns, first = regrouped(starts, by_item, user, len(users))
    del by_item, user
    again = np.zeros(len(first), dtype=bool)
    again[1:] = columns[1:] == columns[:-1]
    again[indptr[:-1]] = False  # every user has a pair
    merged = int(again.sum())
    last = first
    if merged:
        last = last_rows(first, again, times)
        if part is not None and (part[first] != part[last][np.cumsum(~again) - 1]).any():
            account.notices.append(
                "some pairs occur in several parts of the split; each stays in that of its last row"
            )
        columns, first = columns[~again], first[~again]
        indptr = np.concatenate(
            ([0], np.cumsum(np.add.reduceat(~again, indptr[:-1], dtype=np.int64)))
        )
    del again
    times = None if times is None else gather(times, last)
    part = None if part is None else gather(part, last)
    ratings = None if ratings is None else gather(ratings, last)
    del last
    order = _at(lines, first)
    del first
    owner = np.repeat(np.arange(len(users), dtype=np.int32), np.diff(indptr))
    keep = _above_thresholds(owner, columns, (len(users), len(items)), order, options, account)
    if keep is not None:
        if not keep.any():
            raise DataError(
                f"{account.source} has no usable rows among {account.rows_read}: min_item"
                f" {options.min_item} and min_user {options.min_user} leave none"
            )
        order = order[keep]
        owner, users = _by_first(owner[keep], order, users)
        columns, items = _by_first(columns[keep], order, items)
        starts, by_item = grouped(columns, len(items))
        indptr, columns, place = regrouped(starts, by_item, gather(owner, by_item), len(users))
        order = gather(order, place)
        times = None if times is None else gather(times[keep], place)
        part = None if part is None else gather(part[keep], place)
        ratings = None if ratings is None else gather(ratings[keep], place)
    del owner
    order -= int(lines[0])
    values = np.ones(len(columns), dtype=np.float32) if ratings is None else ratings
    columns = columns.astype(np.int64)
    matrix = csr_array((values, columns, indptr), shape=(len(users), len(items)))
    matrix.has_canonical_format = True
    return Interactions(
        matrix,
        IdMap.from_arrow(users),
        IdMap.from_arrow(items),
        order=order,
        times=times,
        part=part,
        report=account.report(kept=len(columns), merged=merged),
    )


def _about(times: np.ndarray, units: dict[str, int]) -> str:
    if not units:
        return "times are too close to 1970 to tell their unit; they are taken as seconds"
    days = [np.datetime64(int(t), "us").astype("M8[D]") for t in (times.min(), times.max())]
    return f"times are {next(iter(units))}, from {days[0]} to {days[1]} (UTC)"


def _at(lines: Lines, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    if isinstance(lines, range):
        moved: np.ndarray = np.add(rows, lines.start, dtype=np.int64)
        return moved
    return gather(lines, rows)


def _above_thresholds(
    user: Int[np.ndarray, " pairs"],
    item: Int[np.ndarray, " pairs"],
    shape: tuple[int, int],
    lines: Int[np.ndarray, " pairs"],
    options: ReadOptions,
    account: Account,
) -> Bool[np.ndarray, " pairs"] | None:
    """Pairs left by one pass over items, then one over users; None if that is all of them."""
    keep = None
    for reason, codes, n_codes, minimum in (
        ("below_min_item", item, shape[1], options.min_item),
        ("below_min_user", user, shape[0], options.min_user),
    ):
        if minimum <= 1:
            continue
        counts = count(codes if keep is None else codes[keep], n_codes)
        low = gather(counts < minimum, codes)
        if keep is not None:
            low &= keep
        if low.any():
            account.drop(reason, lines[low])
            keep = ~low if keep is None else keep & ~low
    return keep


def _by_first(
    codes: Int[np.ndarray, " pairs"], order: Int[np.ndarray, " pairs"], ids: Any
) -> tuple[np.ndarray, Any]:
    """Codes renumbered by the smallest `order` of each, and the ids that are left."""
    absent = np.iinfo(np.int64).max
    new, used = renumbered(smallest(codes, order, len(ids), absent), absent)
    return gather(new, codes), ids.take(pa.array(used))
