"""`IdMap`: the caller's text ids on one side, contiguous indices on the other."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from recae.arguments import several
from recae.errors import DataError, UnknownIdError, shown

_AT_ONCE = 65_536  # ids made texts of Python while they are iterated
_FEW = 64


@final
class IdMap:
    """Unique text ids in first-seen order; the index of an id is its position.

    Ids are kept exactly, ``"007"`` stays ``"007"``. Immutable.

    Parameters
    ----------
    ids
        The ids, each once.

    Raises
    ------
    DataError
        If an id occurs twice or is missing.

    Examples
    --------
    >>> films = IdMap(["m7", "007"])
    >>> films.indices_of(["007"]).tolist()
    [1]
    >>> films.ids_at([0])
    ['m7']
    >>> list(films)
    ['m7', '007']
    """

    __slots__ = ("_array", "_positions")

    def __init__(self, ids: Iterable[str] = ()) -> None:
        array = pa.array(several("ids", ids, "texts"), type=pa.large_string())
        if array.null_count:
            raise DataError(f"{array.null_count} ids are missing; every id is a text")
        if pc.count_distinct(array).as_py() != len(array):
            counts = pc.value_counts(array)
            twice = [c["values"].as_py() for c in counts if c["counts"].as_py() > 1]
            raise DataError(f"ids occur more than once: {shown(twice)}")
        self._array: Any = array
        self._positions: dict[str, int] | None = None

    @classmethod
    def from_arrow(cls, array: Any) -> "IdMap":
        """Map over an Arrow string array already known to be unique and without nulls."""
        self = cls.__new__(cls)
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        self._array = array.cast(pa.large_string())
        self._positions = None
        return self

    def to_arrow(self) -> Any:
        """Return the ids as an Arrow ``large_string`` array, in index order."""
        return self._array

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self._array[start : start + _AT_ONCE].to_pylist()

    def __len__(self) -> int:
        return len(self._array)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IdMap):
            return NotImplemented
        return bool(self._array.equals(other._array))

    __hash__ = None  # type: ignore[assignment]  # compared by value, as a list is

    def __repr__(self) -> str:
        return f"IdMap({len(self)} ids)"

    def __contains__(self, id_: object) -> bool:
        return id_ in self._lookup()

    def _lookup(self) -> dict[str, int]:
        if self._positions is None:  # built on first use: batch work never needs it
            self._positions = {id_: i for i, id_ in enumerate(self._array.to_pylist())}
        return self._positions

    def split_known(self, ids: Iterable[str]) -> tuple[Int64[np.ndarray, " known"], list[str]]:
        """Indices of the ids that are known, in order, and the ids that are not."""
        ids = several("ids", ids, "texts")
        lookup = self._lookup()
        known = [lookup[id_] for id_ in ids if id_ in lookup]
        return np.array(known, dtype=np.int64), [id_ for id_ in ids if id_ not in lookup]

    def indices_of(self, ids: Iterable[str]) -> Int64[np.ndarray, " n"]:
        """Index of each id.

        Raises
        ------
        UnknownIdError
            If an id is not in the map; five are shown.
        """
        known, unknown = self.split_known(ids)
        if unknown:
            raise UnknownIdError(f"unknown ids: {shown(unknown)}; {len(self)} ids are known")
        return known

    def ids_at(self, indices: Iterable[int] | Int64[np.ndarray, " n"]) -> list[str]:
        """Return the id at each index."""
        positions = indices if isinstance(indices, np.ndarray) else list(indices)
        if len(positions) <= _FEW:  # of a list: a call of Arrow takes as long as a hundred of these
            return [self._array[int(position)].as_py() for position in positions]
        taken: list[str] = self._array.take(pa.array(positions, type=pa.int64())).to_pylist()
        return taken

    def fingerprint(self) -> str:
        """SHA-256, in hex, of all ids in order."""
        digest = hashlib.sha256()
        digest.update(np.asarray(pc.binary_length(self._array), dtype=np.int64).tobytes())
        digest.update("".join(self._array.to_pylist()).encode())
        return digest.hexdigest()

    def take(self, indices: Int64[np.ndarray, " n"]) -> "IdMap":
        """Map over the ids at `indices`, renumbered in that order."""
        return IdMap.from_arrow(self._array.take(pa.array(indices)))
