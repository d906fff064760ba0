"""`Histories`: what each user did, as rows of a sparse matrix; the only input of `recommend`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Int64
from scipy.sparse import csr_array

from recae.errors import DataError


def canonical_csr(matrix: csr_array) -> csr_array:
    """Float32 copy of `matrix` with sorted indices, no duplicates and no stored zeros.

    Raises
    ------
    DataError
        If a value is not finite.
    """
    out: csr_array = matrix.astype(np.float32)
    out.sum_duplicates()
    out.eliminate_zeros()
    if not np.isfinite(out.data).all():
        raise DataError("interactions hold values that are not finite")
    out.indptr = out.indptr.astype(np.int64, copy=False)
    out.indices = out.indices.astype(np.int64, copy=False)
    return out


def is_canonical(matrix: csr_array) -> bool:
    """Whether `matrix` is what `canonical_csr` returns."""
    return bool(
        matrix.dtype == np.float32
        and matrix.has_canonical_format
        and (matrix.data != 0).all()
        and np.isfinite(matrix.data).all()
    )


def take_rows(matrix: csr_array, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " nnz"]:
    """Positions, in ``matrix.data``, of the entries of `rows`, row after row."""
    starts, lengths = matrix.indptr[rows], matrix.indptr[rows + 1] - matrix.indptr[rows]
    offsets = np.repeat(starts - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    positions: np.ndarray = np.arange(lengths.sum()) + offsets
    return positions.astype(np.int64)


def keep_entries(matrix: csr_array, keep: Bool[np.ndarray, " nnz"]) -> csr_array:
    """Return `matrix` with those of its stored entries where `keep` is True."""
    indptr = np.concatenate(([0], np.cumsum(keep)))[matrix.indptr]
    out = csr_array((matrix.data[keep], matrix.indices[keep], indptr), shape=matrix.shape)
    out.has_canonical_format = True
    return out


@final
@dataclass(frozen=True, slots=True, eq=False)
class Histories:
    """Rows of a sparse matrix, one user each; an empty row is a legal history.

    Attributes
    ----------
    matrix
        ``csr_array`` of shape ``(users, items)``: float32, sorted, no duplicates, no stored zeros.
    order
        For each stored entry a number that grows with time inside a row, shape ``(nnz,)``; None
        when the order is not known. Models that look at sets ignore it.
    seen
        Further items that each person has seen and did not like, same shape and form as `matrix`,
        or None. Models never read them; lists leave them out as they do the items of the history.

    Raises
    ------
    DataError
        If the matrix is not canonical or `order` has another length.
    """

    matrix: csr_array
    order: Int64[np.ndarray, " nnz"] | None = None
    seen: csr_array | None = None

    def __post_init__(self) -> None:
        if self.seen is not None and self.seen.shape != self.matrix.shape:
            raise DataError(f"seen has shape {self.seen.shape}; histories have {self.matrix.shape}")
        if self.seen is not None and not is_canonical(self.seen):
            object.__setattr__(self, "seen", canonical_csr(self.seen))
        if not is_canonical(self.matrix):
            object.__setattr__(self, "matrix", _canonical_or_refuse(self.matrix, self.order))
        if self.order is not None and len(self.order) != self.matrix.nnz:
            raise DataError(f"order has {len(self.order)} entries; {self.matrix.nnz} are stored")

    @classmethod
    def from_lists(cls, histories: Sequence[Sequence[int]], *, n_items: int) -> "Histories":
        """Histories from lists of item indices, oldest first; repeated items count once.

        Raises
        ------
        DataError
            If an index is not in ``range(n_items)``.
        """
        rows = [np.array(list(dict.fromkeys(h)), dtype=np.int64) for h in histories]
        flat = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        if flat.size and (flat.min() < 0 or flat.max() >= n_items):
            raise DataError(
                f"histories hold item indices {flat.min()} to {flat.max()};"
                f" this model knows {n_items} items"
            )
        indptr = np.concatenate(([0], np.cumsum([len(r) for r in rows]))).astype(np.int64)
        order = np.concatenate([np.arange(len(r)) for r in rows]) if rows else flat
        by_item = np.lexsort((flat, np.repeat(np.arange(len(rows)), np.diff(indptr))))
        ones = np.ones(len(flat), dtype=np.float32)
        matrix = csr_array((ones, flat[by_item], indptr), shape=(len(rows), n_items))
        return cls(matrix, order[by_item].astype(np.int64))

    @property
    def n_items(self) -> int:
        """Number of columns."""
        return int(self.matrix.shape[1])

    def __repr__(self) -> str:
        n_users, n_items = self.matrix.shape
        return f"Histories({n_users} users x {n_items} items, {self.matrix.nnz} interactions)"

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def in_time(self) -> Int64[np.ndarray, " nnz"]:
        """Items of each row, row after row, oldest first; ascending where `order` is None."""
        indices: np.ndarray = self.matrix.indices.astype(np.int64, copy=False)
        if self.order is None:
            return indices
        rows = np.repeat(np.arange(len(self)), np.diff(self.matrix.indptr))
        return indices[np.lexsort((self.order, rows))]

    def take(self, rows: Int64[np.ndarray, " n"] | slice) -> "Histories":
        """Return the histories of `rows`, in that order; those of a slice share its memory."""
        picked: slice | np.ndarray
        if isinstance(rows, slice) and rows.step in (None, 1):  # neighbours: nothing to gather
            start, stop, _ = rows.indices(len(self))
            bounds = self.matrix.indptr[start : max(start, stop) + 1]
            picked, indptr = slice(bounds[0], bounds[-1]), bounds - bounds[0]
        else:
            if isinstance(rows, slice):
                rows = np.arange(len(self), dtype=np.int64)[rows]
            picked = take_rows(self.matrix, rows)
            lengths = self.matrix.indptr[rows + 1] - self.matrix.indptr[rows]
            indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        matrix = csr_array(
            (self.matrix.data[picked], self.matrix.indices[picked], indptr),
            shape=(len(indptr) - 1, self.n_items),
        )
        matrix.has_canonical_format = True
        seen = None if self.seen is None else Histories._checked(self.seen).take(rows).matrix
        order = None if self.order is None else self.order[picked]
        return Histories._checked(matrix, order, seen)

    @classmethod
    def _checked(
        cls,
        matrix: csr_array,
        order: Int64[np.ndarray, " nnz"] | None = None,
        seen: csr_array | None = None,
    ) -> "Histories":
        """Histories of parts that are known to be in order: checks cost more than small lists."""
        self = object.__new__(cls)
        for name, value in (("matrix", matrix), ("order", order), ("seen", seen)):
            object.__setattr__(self, name, value)
        return self


def _canonical_or_refuse(matrix: csr_array, order: Int64[np.ndarray, " nnz"] | None) -> csr_array:
    if order is not None:
        raise DataError("histories with an order need a canonical float32 matrix")
    return canonical_csr(matrix)
