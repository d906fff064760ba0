"""Array work on tens of millions of rows: linear time, and temporary arrays a slice at a time.

NumPy turns any array it indexes with into 64-bit integers first; done whole, that alone would
double the memory of a large reading.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse import csr_array

_SLICE = 1 << 20


def _slices(n: int) -> Iterator[slice]:
    return (slice(start, start + _SLICE) for start in range(0, n, _SLICE))


def gather(values: np.ndarray, at: Int[np.ndarray, " n"]) -> np.ndarray:
    """``values[at]``."""
    out = np.empty(len(at), dtype=values.dtype)
    for part in _slices(len(at)):
        out[part] = values[at[part]]
    return out


def count(codes: Int[np.ndarray, " n"], n_codes: int) -> Int[np.ndarray, " n_codes"]:
    """How often each code occurs."""
    out = np.zeros(n_codes, dtype=np.int64)
    for part in _slices(len(codes)):
        np.add.at(out, codes[part], 1)
    return out


def smallest(
    codes: Int[np.ndarray, " n"], values: Int[np.ndarray, " n"] | range, n_codes: int, absent: int
) -> Int[np.ndarray, " n_codes"]:
    """Smallest value of each code, `absent` for codes that do not occur."""
    out = np.full(n_codes, absent, dtype=np.int64)
    for part in _slices(len(codes)):
        np.minimum.at(out, codes[part], values[part])
    return out


def renumbered(
    first: Int[np.ndarray, " codes"], absent: int
) -> tuple[Int[np.ndarray, " codes"], Int[np.ndarray, " used"]]:
    """New number of each code by growing `first`, and the codes that occur in their new order."""
    order = np.argsort(first, kind="stable")[: int((first < absent).sum())]
    new = np.full(len(first), -1, dtype=np.int32)
    new[order] = np.arange(len(order), dtype=np.int32)
    return new, order


def grouped(
    codes: Int[np.ndarray, " n"], n_codes: int
) -> tuple[Int[np.ndarray, " starts"], Int[np.ndarray, " n"]]:
    """Where each code's rows start, and the rows, code after code, in their order.

    This is a counting sort, linear and stable: SciPy's conversion of a matrix with one entry to a
    row. It neither reorders nor adds up equal entries.
    """
    n = len(codes)
    each = np.arange(n + 1, dtype=np.int32 if n < np.iinfo(np.int32).max else np.int64)
    sorted_ = csr_array((np.ones(n, dtype=np.int8), codes, each), shape=(n, n_codes)).tocsc()
    return sorted_.indptr, sorted_.indices


def regrouped(
    starts: Int[np.ndarray, " starts"],
    rows: Int[np.ndarray, " n"],
    codes: Int[np.ndarray, " n"],
    n_codes: int,
) -> tuple[Int[np.ndarray, " new_starts"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Rows grouped one way, as by `grouped`, grouped another way.

    Parameters
    ----------
    codes
        Code of each of `rows`, for the new grouping.

    Returns
    -------
    Where each code's rows start, their old groups, growing, and the rows; rows with the same code
    and the same old group stay in order. These are the arrays of a sparse matrix.
    """
    shape = (len(starts) - 1, n_codes)
    out = csr_array((rows, codes, starts), shape=shape).tocsc()
    return out.indptr.astype(np.int64), out.indices, out.data


def last_rows(
    rows: Int[np.ndarray, " rows"], again: Bool[np.ndarray, " rows"], times: np.ndarray | None
) -> Int[np.ndarray, " runs"]:
    """Of each run of rows the latest, by time, else position; `again` marks all but its first."""
    ends = np.append(~again[1:], True)
    if times is not None:
        run = again.copy()
        run[:-1] |= again[1:]
        at = np.flatnonzero(run)  # rows alone in their run need no sorting
        runs = rows[at]
        rows = rows.copy()
        rows[at] = runs[np.lexsort((runs, times[runs], np.cumsum(~again[at])))]
    last: np.ndarray = rows[ends]
    return last
