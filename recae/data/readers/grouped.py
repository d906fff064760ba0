"""`GroupedReading`: people of a table whose rows stand together, some of them at a time."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Bool, Int, UInt64

from recae.data.interactions import Interactions
from recae.data.readers.account import Account, rejects_file
from recae.data.readers.assemble import Rows, assemble
from recae.data.readers.batch import Checked, as_array
from recae.data.readers.columnar import ArrowStream
from recae.data.readers.options import ReadOptions
from recae.data.readers.read import rows_of, source_name
from recae.data.report import ReadReport
from recae.errors import ConfigError, DataError
from recae.storage import refuse_overwriting


@final
@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Some people, with all their rows.

    Attributes
    ----------
    data
        Their interactions, numbered on their own; None where no row of theirs counts.
    below
        Ids of those all of whose pairs are rated below the minimum.
    """

    data: Interactions | None
    below: tuple[str, ...]


@final
class GroupedReading:
    """An input that holds each person's rows one after the other, read a group of people at a time.

    Iterate once. What is held does not grow with the input, but for 8 bytes a person (two or three
    times that while they are sorted): a hash of the id, by which a person who comes back is found
    out. Of a hundred million people, two have the same hash, and are refused, once in four thousand
    times. Where groups end follows from the rows alone.

    Parameters
    ----------
    source, rejects, **options
        As for `recae.read_interactions`.
    people, rows
        A group ends with the person who fills either of them.

    Attributes
    ----------
    report
        What happened to every row, once all groups were read; what could be said of the times of
        all is not in it.

    Raises
    ------
    ConfigError
        As `recae.read_interactions`; also if `min_user` or `min_item` is given, which are about
        the whole input.
    DataError
        As `recae.read_interactions`, what the whole input shows at its end; also where a person's
        rows do not stand together.
    """

    def __init__(
        self,
        source: str | Path | pd.DataFrame | ArrowStream,
        *,
        people: int,
        rows: int = 1 << 21,
        rejects: str | Path | None = None,
        **options: object,
    ) -> None:
        self._given = ReadOptions.of(options, where="GroupedReading")
        self._options = {name: getattr(self._given, name) for name in options}
        for name in ("min_user", "min_item"):
            if getattr(self._given, name) > 1:
                raise ConfigError(
                    f"{name} counts rows of the whole input, which is read in groups of people:"
                    " leave it out"
                )
        read = source if isinstance(source, str | Path) else None
        refuse_overwriting([("rejects", rejects)], [("the input", read)])
        self._source, self._rejects = source, None if rejects is None else Path(rejects)
        self._most_people, self._most_rows = people, rows
        self.report: ReadReport | None = None

    def __iter__(self) -> Iterator[Group]:
        with rejects_file(self._rejects) as rejected:
            account = Account(source_name(self._source), rejected)
            kept = merged = seen = 0
            units: dict[str, int] = {}
            for people, pieces in self._cut(account):
                group, part = self._group(people, pieces, units, account.source)
                kept, merged = kept + part.rows_kept, merged + part.rows_merged
                seen += part.pairs_seen
                account.add(part.rows_dropped)
                yield group
            if not kept:
                raise DataError(f"{account.source} has no usable rows among {account.rows_read}")
        whole = account.report(kept=kept, merged=merged, seen=seen)
        self.report = replace(whole, options=self._options)

    def _group(
        self,
        people: list[str],
        pieces: list[tuple[Checked, int]],
        units: dict[str, int],
        source: str,
    ) -> tuple[Group, ReadReport]:
        rows = Rows()
        rows.units = units  # one unit of time for the whole input
        for checked, line in pieces:
            rows.add(checked, line)
        account = Account(source)  # of these rows alone
        account.rows_read = len(rows)
        data = assemble(rows, self._given, account)
        assert data.report is not None
        below: list[str] = []
        if len(data.users) < len(people):
            _, below = data.users.split_known(people)
        return Group(data if data.n_users else None, tuple(below)), data.report

    def _cut(self, account: Account) -> Iterator[tuple[list[str], list[tuple[Checked, int]]]]:
        """People of each group and their rows; rows come with the line that is their line 0."""
        seen = _Hashes()
        people: list[str] = []
        pieces: list[tuple[Checked, int]] = []
        n_rows = 0
        for checked, line in rows_of(self._source, account, self._given):
            batch = checked
            ids, lines, before = _people(batch)
            known = int(bool(people and ids) and people[-1] == ids[0])  # one of the last batch
            self._refuse_returning(seen, ids[known:], lines[known:] + line, account)
            for place in range(known, len(ids)):
                filled = n_rows + before[place] >= self._most_rows
                if people and (filled or len(people) >= self._most_people):
                    head, batch = _split(batch, int(lines[place]))
                    yield people, [*pieces, (head, line)]
                    people, pieces, n_rows = [], [], -int(before[place])
                people.append(ids[place])
            pieces.append((batch, line))
            n_rows += len(checked.user)
        account.refuse_if_bad(self._given.max_bad_rows)
        if people:
            yield people, pieces

    def _refuse_returning(
        self, seen: "_Hashes", ids: list[str], lines: Int[np.ndarray, " ids"], account: Account
    ) -> None:
        hashes = pd.util.hash_array(np.array(ids, dtype=object), categorize=False)
        again = np.flatnonzero(seen.add(hashes))
        if len(again):
            place = int(again[0])
            raise DataError(
                f"{account.source}: line {lines[place]}: user {ids[place]!r} was there before, and"
                " others between; in groups the rows of each person have to stand together: sort"
                " the input by user, or read it all at once"
            )


def _people(batch: Checked) -> tuple[list[str], Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """People of a batch, in order, each with their first line and the number of rows before it."""
    codes, lines = np.asarray(batch.user.indices), as_array(batch.lines)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    ids: list[str] = batch.user.dictionary.take(pa.array(codes[starts])).to_pylist()
    return ids, lines[starts], starts


def _split(batch: Checked, line: int) -> tuple[Checked, Checked]:
    """Rows before `line` of a batch, and the others."""
    row = bisect_left(batch.lines, line)
    return _rows(batch, slice(row)), _rows(batch, slice(row, None))


def _rows(batch: Checked, rows: slice) -> Checked:
    return replace(
        batch,
        user=batch.user[rows],
        item=batch.item[rows],
        ratings=None if batch.ratings is None else batch.ratings[rows],
        times=None if batch.times is None else batch.times[rows],
        part=None if batch.part is None else batch.part[rows],
        lines=batch.lines[rows],
        rejects=[],
        low=None if batch.low is None else batch.low[rows],
    )


@final
class _Hashes:
    """A growing set of hashes: sorted arrays, each at least twice as long as the next."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []

    def add(self, new: UInt64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Add `new`; which of them were there, or come twice."""
        order = np.argsort(new, kind="stable")
        merged = new[order]
        again = np.zeros(len(new), dtype=bool)
        again[1:] = merged[1:] == merged[:-1]
        for known in self._arrays:
            again |= known[np.searchsorted(known[:-1], merged)] == merged
        while self._arrays and len(self._arrays[-1]) < 2 * len(merged):
            merged = np.concatenate([self._arrays.pop(), merged])
            merged.sort(kind="stable")
        if len(merged):
            self._arrays.append(merged)
        out = np.zeros(len(new), dtype=bool)
        out[order] = again
        return out
