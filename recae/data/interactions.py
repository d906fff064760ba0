"""`Interactions`: who did what, in index space, with the way back to the ids."""

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Int8, Int64
from scipy.sparse import csr_array

from recae.data.histories import Histories, is_canonical, take_rows
from recae.data.ids import IdMap
from recae.data.report import ReadReport
from recae.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("train", "validation", "test")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """One stored entry per (user, item) pair that occurred.

    Attributes
    ----------
    matrix
        ``csr_array`` of shape ``(n_users, n_items)``: float32, sorted, no duplicates, no zeros.
    users, items
        Ids of rows and columns, numbered by first appearance in the input.
    order
        Input position of each stored entry (its first row, where duplicates were merged), counted
        from the first kept row, aligned with ``matrix.data``, shape ``(nnz,)``. Splits that follow
        file order read it.
    times
        Microseconds since 1970-01-01 UTC of each stored entry, or None where the input has none.
    part
        Position in `PARTS` of each stored entry, where the input carries its own split.
    item_table
        Arrow table with one row per item, in index order: ``item_id`` and, if known, ``title``, ...
    seen
        Pairs rated below the minimum: seen, not positive, so neither input nor target of a model,
        and never listed. Its users and items are these ones and, after them, those without any
        positive pair; every value is 1. None where there is no such pair.
    report
        What happened to every input row; None when the data did not come from a reader.
    """

    matrix: csr_array
    users: IdMap
    items: IdMap
    order: Int64[np.ndarray, " nnz"]
    times: Int64[np.ndarray, " nnz"] | None = None
    part: Int8[np.ndarray, " nnz"] | None = None
    item_table: Any = None
    seen: "Interactions | None" = None
    report: ReadReport | None = None

    def __post_init__(self) -> None:
        if not is_canonical(self.matrix):
            raise DataError("interactions need a canonical float32 matrix")
        if self.matrix.shape != (len(self.users), len(self.items)):
            raise DataError(
                f"matrix of shape {self.matrix.shape} for {len(self.users)} users"
                f" and {len(self.items)} items"
            )
        for name in ("order", "times", "part"):
            values = getattr(self, name)
            if values is not None and len(values) != self.matrix.nnz:
                raise DataError(f"{name} has {len(values)} entries; {self.matrix.nnz} are stored")
        if self.item_table is not None and self.item_table.num_rows != len(self.items):
            raise DataError(
                f"item table has {self.item_table.num_rows} rows for {len(self.items)} items"
            )

    def __repr__(self) -> str:
        cells = max(1, self.n_users * self.n_items)
        return (
            f"Interactions({self.n_users} users x {self.n_items} items, "
            f"{self.matrix.nnz} interactions, density {self.matrix.nnz / cells:.2%})"
        )

    @property
    def n_users(self) -> int:
        """Number of rows."""
        return int(self.matrix.shape[0])

    @property
    def n_items(self) -> int:
        """Number of columns."""
        return int(self.matrix.shape[1])

    def histories(self) -> Histories:
        """All rows as histories, in time order where times are known, else in file order."""
        order = self.order if self.times is None else self.time_rank()
        return Histories(self.matrix, order, self.seen_matrix())

    def seen_matrix(self) -> csr_array | None:
        """Return `seen` for these users and items, ``(n_users, n_items)``; None if it is empty."""
        if self.seen is None:
            return None
        here = self.seen.take_users(np.arange(self.n_users)).take_items(np.arange(self.n_items))
        return here.matrix if here.matrix.nnz else None

    def time_rank(self) -> Int64[np.ndarray, " nnz"]:
        """Rank of each entry by (time, input position) over all entries, shape ``(nnz,)``."""
        if self.times is None:
            raise DataError("the data has no times; name the column with --time-col")
        rank = np.empty(self.matrix.nnz, dtype=np.int64)
        rank[np.lexsort((self.order, self.times))] = np.arange(self.matrix.nnz)
        return rank

    def titles(self) -> list[str | None] | None:
        """Return the title of each item, or None when no item table gives titles."""
        if self.item_table is None or "title" not in self.item_table.column_names:
            return None
        titles: list[str | None] = self.item_table["title"].to_pylist()
        return titles

    def to_frame(self) -> "pd.DataFrame":
        """One row an interaction, in the order of the input: ``user_id, item_id, value``.

        ``time``, in UTC, and ``title`` follow where they are known. Pairs that are only seen are
        left out. `read_interactions` reads it.
        """
        import pandas as pd

        rows = np.repeat(np.arange(self.n_users), np.diff(self.matrix.indptr))
        placed = np.argsort(self.order, kind="stable")
        items = self.matrix.indices[placed]
        columns: dict[str, Any] = {
            "user_id": self.users.ids_at(rows[placed]),
            "item_id": self.items.ids_at(items.astype(np.int64)),
            "value": self.matrix.data[placed],
        }
        if self.times is not None:
            columns["time"] = pd.to_datetime(self.times[placed], unit="us", utc=True)
        titles = self.titles()
        if titles is not None:
            columns["title"] = [titles[item] for item in items]
        return pd.DataFrame(columns)

    def take_entries(self, keep: Int64[np.ndarray, " kept"]) -> "Interactions":
        """Return the entries at positions `keep` (ascending); users, items and `seen` are kept."""
        rows = np.repeat(np.arange(self.n_users), np.diff(self.matrix.indptr))[keep]
        indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=self.n_users))))
        matrix = csr_array(
            (self.matrix.data[keep], self.matrix.indices[keep], indptr.astype(np.int64)),
            shape=self.matrix.shape,
        )
        matrix.has_canonical_format = True
        return replace(
            self,
            matrix=matrix,
            order=self.order[keep],
            times=None if self.times is None else self.times[keep],
            part=None if self.part is None else self.part[keep],
        )

    def take_users(self, users_idx: Int64[np.ndarray, " n"]) -> "Interactions":
        """Return the rows of `users_idx`, renumbered in that order; all items kept."""
        picked = take_rows(self.matrix, users_idx)
        lengths = np.diff(self.matrix.indptr)[users_idx]
        matrix = csr_array(
            (
                self.matrix.data[picked],
                self.matrix.indices[picked],
                np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
            ),
            shape=(len(users_idx), self.n_items),
        )
        matrix.has_canonical_format = True
        return replace(
            self,
            matrix=matrix,
            users=self.users.take(users_idx),
            order=self.order[picked],
            times=None if self.times is None else self.times[picked],
            part=None if self.part is None else self.part[picked],
            seen=None if self.seen is None else self.seen.take_users(users_idx),
        )

    def take_items(self, items_idx: Int64[np.ndarray, " n"]) -> "Interactions":
        """Return the columns of `items_idx`, renumbered in that order; all users kept."""
        new = np.full(self.n_items, -1, dtype=np.int64)
        new[items_idx] = np.arange(len(items_idx))
        rows = np.repeat(np.arange(self.n_users), np.diff(self.matrix.indptr))
        columns = new[self.matrix.indices]
        kept = np.flatnonzero(columns >= 0)
        kept = kept[np.lexsort((columns[kept], rows[kept]))]
        indptr = np.concatenate(([0], np.cumsum(np.bincount(rows[kept], minlength=self.n_users))))
        matrix = csr_array(
            (self.matrix.data[kept], columns[kept], indptr.astype(np.int64)),
            shape=(self.n_users, len(items_idx)),
        )
        matrix.has_canonical_format = True
        table = self.item_table
        return replace(
            self,
            matrix=matrix,
            items=self.items.take(items_idx),
            order=self.order[kept],
            times=None if self.times is None else self.times[kept],
            part=None if self.part is None else self.part[kept],
            item_table=None if table is None else table.take(pa.array(items_idx)),
            seen=None if self.seen is None else self.seen.take_items(items_idx),
        )

    def rows_fingerprint(self) -> str:
        """SHA-256, in hex, of ids and of who has which items: what a model learns from."""
        digest = hashlib.sha256()
        for ids in (self.users, self.items):
            digest.update(bytes.fromhex(ids.fingerprint()))
        for array in (self.matrix.indptr, self.matrix.indices):
            digest.update(array.astype(np.int64, copy=False).tobytes())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """SHA-256, in hex, of ids, entries, order, times and `seen`: what a split depends on."""
        digest = hashlib.sha256()
        for ids in (self.users, self.items):
            digest.update(bytes.fromhex(ids.fingerprint()))
        rank = np.empty(self.matrix.nnz, dtype=np.int64)
        rank[np.argsort(self.order, kind="stable")] = np.arange(self.matrix.nnz)
        for array in (self.matrix.indptr, self.matrix.indices, self.matrix.data, rank):
            digest.update(np.ascontiguousarray(array).tobytes())
        for optional in (self.times, self.part):
            digest.update(b"-" if optional is None else optional.tobytes())
        if self.seen is not None:
            digest.update(bytes.fromhex(self.seen.fingerprint()))
        return digest.hexdigest()
