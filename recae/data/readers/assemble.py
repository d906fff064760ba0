"""From checked rows to `Interactions`: one numbering, duplicates merged, thresholds applied."""

from dataclasses import dataclass, fields, replace
from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int, Int8, Int64
from scipy.sparse import csr_array

from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.data.readers.account import Account
from recae.data.readers.batch import Checked, Lines, as_array, shifted
from recae.data.readers.numbers import DATES, about_times, days_or_seconds, to_microseconds
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

_ABSENT = np.iinfo(np.int64).max


@final
class Rows:
    """Rows that count, collected batch by batch."""

    def __init__(self) -> None:
        self._user: list[Any] = []
        self._item: list[Any] = []
        self._ratings: list[np.ndarray] = []
        self._times: list[np.ndarray] = []
        self._part: list[np.ndarray] = []
        self._low: list[np.ndarray] = []
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
        if batch.low is not None:
            self._low.append(batch.low)

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
        unit = next(iter(self.units), None) or days_or_seconds(self._times)
        if unit != "seconds":
            self.units.setdefault(unit, 0)
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

    def low(self) -> Bool[np.ndarray, " rows"] | None:
        """Which rows are rated below the minimum, or None."""
        return np.concatenate(self._low) if self._low else None

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


@final
@dataclass(slots=True, eq=False)
class _Pairs:
    """Pairs, each once, by codes of user and item; `Interactions` explains the others."""

    user: Int[np.ndarray, " pairs"]
    item: Int[np.ndarray, " pairs"]
    order: Int64[np.ndarray, " pairs"]
    times: Int64[np.ndarray, " pairs"] | None
    part: Int8[np.ndarray, " pairs"] | None
    ratings: Float32[np.ndarray, " pairs"] | None

    def keep(self, places: Int[np.ndarray, " kept"]) -> None:
        """Give up all but the pairs at some places, one array after the other."""
        for field in fields(self):
            values = getattr(self, field.name)
            setattr(self, field.name, None if values is None else gather(values, places))


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Numbering:
    """Numbers of ids: that of each code, -1 where it has none, and the codes in this order."""

    new: Int[np.ndarray, " codes"]
    used: Int[np.ndarray, " numbered"]

    @classmethod
    def of(
        cls, codes: Int[np.ndarray, " pairs"], order: Int[np.ndarray, " pairs"], n_codes: int
    ) -> "_Numbering":
        """Number the `codes` by the smallest `order` of each."""
        return cls(*renumbered(smallest(codes, order, n_codes, _ABSENT), _ABSENT))

    def and_then(
        self, codes: Int[np.ndarray, " pairs"], order: Int[np.ndarray, " pairs"]
    ) -> "_Numbering":
        """Number further `codes` after those that have a number."""
        more = _Numbering.of(codes, order, len(self.new)).used
        used = np.concatenate([self.used, more[self.new[more] < 0]])
        new = np.full(len(self.new), -1, dtype=np.int32)
        new[used] = np.arange(len(used), dtype=np.int32)
        return _Numbering(new, used)


def assemble(rows: Rows, options: ReadOptions, account: Account) -> Interactions:
    """Merge, filter and number `rows`; close the account. No pair of them need be positive.

    Raises
    ------
    DataError
        If times of several units occur.
    """
    if not len(rows):
        report = account.report(kept=0, merged=0)
        none = np.zeros(0, dtype=np.int64)
        matrix = csr_array(np.zeros((0, 0), dtype=np.float32))
        return Interactions(matrix, IdMap(), IdMap(), order=none, report=report)
    times, part, lines = rows.times(where=account.source), rows.part(), rows.lines()
    ratings, low = rows.ratings(), rows.low()
    if times is not None:
        unit = next(iter(rows.units), None)
        account.notices += about_times(times, unit, where=account.source)
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
        if part is not None:
            pair = np.cumsum(~again) - 1
            moved = len(np.unique(pair[part[first] != part[last][pair]]))
            if moved:
                account.notices.append(
                    f"{moved} of {len(last)} pairs occur in several parts of the split; each stays"
                    " in that of its last row"
                )
        columns, first = columns[~again], first[~again]
        indptr = np.concatenate(
            ([0], np.cumsum(np.add.reduceat(~again, indptr[:-1], dtype=np.int64)))
        )
    del again
    times = None if times is None else gather(times, last)
    part = None if part is None else gather(part, last)
    ratings = None if ratings is None else gather(ratings, last)
    low = None if low is None else gather(low, last)
    if low is not None and low.any():
        account.drop("below_min_rating", _at(lines, last[low]))
    else:
        low = None
    del last
    order = _at(lines, first)
    del first
    owner = np.repeat(np.arange(len(users), dtype=np.int32), np.diff(indptr))
    pairs = _Pairs(owner, columns, order, times, part, ratings)
    positive = _positive(pairs, low, (len(users), len(items)), options, account)
    del owner, columns, order, times, part, ratings
    pairs.order -= int(lines[0])  # after the last line was counted
    seen = None
    if positive is not None:
        user_at = _Numbering.of(pairs.user[positive], pairs.order[positive], len(users))
        item_at = _Numbering.of(pairs.item[positive], pairs.order[positive], len(items))
        if low is not None:
            below = replace(pairs, ratings=None)
            below.keep(np.flatnonzero(low))
            all_users = user_at.and_then(below.user, below.order)
            all_items = item_at.and_then(below.item, below.order)
            seen = _interactions(below, users, items, all_users, all_items)
        pairs.keep(np.flatnonzero(positive))
        data = _interactions(pairs, users, items, user_at, item_at)
    else:
        data = _stored(pairs, users, items, indptr)
    report = account.report(
        kept=int(data.matrix.nnz), merged=merged, seen=0 if seen is None else int(seen.matrix.nnz)
    )
    return replace(data, seen=seen, report=report)


def _interactions(
    pairs: _Pairs, users: Any, items: Any, by_user: _Numbering, by_item: _Numbering
) -> Interactions:
    """Interactions of `pairs`, in the numbering given."""
    starts, rows = grouped(gather(by_item.new, pairs.item), len(by_item.used))
    owner = gather(gather(by_user.new, pairs.user), rows)
    indptr, columns, place = regrouped(starts, rows, owner, len(by_user.used))
    pairs.keep(place)
    pairs.item = columns
    users, items = users.take(pa.array(by_user.used)), items.take(pa.array(by_item.used))
    return _stored(pairs, users, items, indptr)


def _stored(pairs: _Pairs, users: Any, items: Any, indptr: Int64[np.ndarray, " _"]) -> Interactions:
    """Interactions of `pairs` that are grouped by user, their items ascending."""
    n = len(pairs.item)
    values = np.ones(n, dtype=np.float32) if pairs.ratings is None else pairs.ratings
    matrix = csr_array(
        (values, pairs.item.astype(np.int64), indptr), shape=(len(users), len(items))
    )
    matrix.has_canonical_format = True
    return Interactions(
        matrix,
        IdMap.from_arrow(users),
        IdMap.from_arrow(items),
        order=pairs.order,
        times=pairs.times,
        part=pairs.part,
    )


def _at(lines: Lines, rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    if isinstance(lines, range):
        moved: np.ndarray = np.add(rows, lines.start, dtype=np.int64)
        return moved
    return gather(lines, rows)


def _positive(
    pairs: _Pairs,
    low: Bool[np.ndarray, " pairs"] | None,
    shape: tuple[int, int],
    options: ReadOptions,
    account: Account,
) -> Bool[np.ndarray, " pairs"] | None:
    """Pairs that are not `low` and are left by one pass over items, then one over users.

    None if that is all of them.
    """
    keep = None if low is None else ~low
    for reason, codes, n_codes, minimum in (
        ("below_min_item", pairs.item, shape[1], options.min_item),
        ("below_min_user", pairs.user, shape[0], options.min_user),
    ):
        if minimum <= 1:
            continue
        counts = count(codes if keep is None else codes[keep], n_codes)
        few = gather(counts < minimum, codes)
        if keep is not None:
            few &= keep
        if few.any():
            account.drop(reason, pairs.order[few])
            keep = ~few if keep is None else keep & ~few
    return keep
