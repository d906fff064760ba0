"""`IdMap`: the caller's text ids on one side, contiguous indices on the other."""

import hashlib
import operator
from collections.abc import Iterable, Iterator
from typing import Any, SupportsIndex, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from recae.arguments import several
from recae.errors import ConfigError, DataError, UnknownIdError, shown

_AT_ONCE = 65_536  # ids made texts of Python while they are iterated
_FEW = 64
_ACCEPTED = "ids are texts or whole numbers"

Id = str | SupportsIndex
"""What is accepted where an id is given: a text stays what it is, a whole number of Python or NumPy
becomes its plain decimal text, ``42`` is ``"42"``. True and False, and floats, are no ids."""


def id_text(name: str, id_: Id) -> str:
    """`id_` as text, see `Id`; `name` is what it is called, for the error.

    Raises
    ------
    ConfigError
        If it is neither a text nor a whole number.

    Examples
    --------
    >>> id_text("user", 42), id_text("user", "042")
    ('42', '042')
    """
    text = _as_text(id_)
    if text is None:
        raise ConfigError(f"{name} is {id_!r}; {_ACCEPTED}")
    return text


def id_texts(name: str, ids: Iterable[Id]) -> tuple[str, ...]:
    """`ids` as texts, see `Id`; `name` is what they are called, for errors.

    Raises
    ------
    ConfigError
        If it is one text, not several, no list at all, or holds something else.

    Examples
    --------
    >>> id_texts("history", np.array([260, 1196]))
    ('260', '1196')
    """
    listed = several(name, ids, "ids")
    if all(isinstance(id_, str) for id_ in listed):  # as in every request over HTTP
        return listed  # type: ignore[return-value]  # texts
    texts = [_as_text(id_) for id_ in listed]
    wrong = [id_ for id_, text in zip(listed, texts, strict=True) if text is None]
    if wrong:
        floats = any(isinstance(id_, float | np.floating) for id_ in wrong)
        hint = "; a column that lacks a value holds floats: .dropna().astype(int)" if floats else ""
        raise ConfigError(f"{name} holds {shown(wrong)}; {_ACCEPTED}{hint}")
    return tuple(text for text in texts if text is not None)


def _as_text(id_: object) -> str | None:
    if isinstance(id_, str):
        return id_
    if isinstance(id_, SupportsIndex) and not isinstance(id_, bool):
        try:
            return str(operator.index(id_))
        except TypeError:  # an array of several numbers
            return None
    return None


@final
class IdMap:
    """Unique text ids in first-seen order; the index of an id is its position.

    Texts are kept exactly, ``"007"`` stays ``"007"``; whole numbers are accepted where ids are
    given, see `Id`. Immutable.

    Parameters
    ----------
    ids
        The ids, each once.

    Raises
    ------
    DataError
        If an id occurs twice.
    ConfigError
        If an id is missing, or something else than a text or a whole number.

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

    def __init__(self, ids: Iterable[Id] = ()) -> None:
        array = pa.array(id_texts("ids", ids), type=pa.large_string())
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
        return _as_text(id_) in self._lookup()

    def _lookup(self) -> dict[str, int]:
        if self._positions is None:  # built on first use: batch work never needs it
            self._positions = {id_: i for i, id_ in enumerate(self._array.to_pylist())}
        return self._positions

    def split_known(self, ids: Iterable[Id]) -> tuple[Int64[np.ndarray, " known"], list[str]]:
        """Indices of the ids that are known, in order, and the ids that are not."""
        ids = id_texts("ids", ids)
        lookup = self._lookup()
        known = [lookup[id_] for id_ in ids if id_ in lookup]
        return np.array(known, dtype=np.int64), [id_ for id_ in ids if id_ not in lookup]

    def indices_of(self, ids: Iterable[Id]) -> Int64[np.ndarray, " n"]:
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
