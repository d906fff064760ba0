"""Named arrays in a file: our own writer of the safetensors format, the library's reader.

The library's ``save_file`` needs the arrays twice in memory, does not fsync, and makes files
that only their owner can read. This writer streams, hashes while it writes, and gives the same
bytes for the same arrays.

References
----------
https://github.com/huggingface/safetensors, section "Format".
"""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

import numpy as np

from recae.errors import BundleError, ConfigError
from recae.storage.files import Written, atomic_file
from recae.storage.plain import read_plain

_DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_NAMES = {stored: name for name, stored in _DTYPES.items()}
_BLOCK_BYTES = 1 << 24


def write_safetensors(
    path: str | Path, arrays: Mapping[str, np.ndarray], *, mode: int = 0o644
) -> Written:
    """Write `arrays` to `path`, whole or not at all; same arrays, same bytes.

    Parameters
    ----------
    path
        The file.
    arrays
        By name: floats, integers and booleans of any shape, byte order and memory layout. One that
        is not contiguous is copied 16 MiB, or one row, at a time.
    mode
        Permissions: 0o640 for what is about people.

    Raises
    ------
    ConfigError
        If a name or dtype is not accepted.
    ResourceError, BusyError
        As in `atomic_file`.
    """
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise ConfigError(
                f"array {name!r} has dtype {array.dtype}; accepted are {', '.join(_DTYPES)}"
            )
        if name == "__metadata__":
            raise ConfigError("no array may be called '__metadata__', the format keeps that name")
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))  # all aligned
    header = _header(names, arrays)
    with atomic_file(path, mode=mode) as file:
        file.write(struct.pack("<Q", len(header)))
        file.write(header)
        for name in names:
            for block in _blocks(arrays[name]):
                file.write(block)
    return file.written


def _header(names: list[str], arrays: Mapping[str, np.ndarray]) -> bytes:
    fields: dict[str, object] = {}
    start = 0
    for name in names:
        array = arrays[name]
        fields[name] = {
            "dtype": _DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    header = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return header + b" " * (-len(header) % 8)  # data starts at a multiple of 8


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Bytes of `array` in little-endian row order, without a second copy of it."""
    array = np.atleast_1d(array)
    little = array.dtype.newbyteorder("<")
    if array.flags.c_contiguous and array.dtype == little:
        if array.size:
            yield array.reshape(-1).view(np.uint8)
        return
    n_rows = max(1, _BLOCK_BYTES // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), n_rows):
        block = np.ascontiguousarray(array[start : start + n_rows], dtype=little)
        if block.size:
            yield block.reshape(-1).view(np.uint8)


def read_safetensors(source: bytes | str | Path) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file, given as its path or its content.

    Raises
    ------
    BundleError
        If the file is missing or not a well-formed safetensors file.
    """
    import safetensors
    import safetensors.numpy

    if isinstance(source, bytes):
        data, where = source, "the content"
    else:
        data, where = read_plain(source, max_bytes=1 << 62), str(source)
    try:
        return safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{where} is not a safetensors file: {error}") from error


@final
class StoredArrays(Mapping[str, np.ndarray]):
    """Arrays of a safetensors file, each read when it is asked for, and anew each time.

    So the whole file is never in memory. It must stay as it is meanwhile.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    BundleError
        If the file is missing or not a well-formed safetensors file.
    """

    def __init__(self, path: Path) -> None:
        import safetensors

        try:
            with safetensors.safe_open(path, framework="numpy"):  # looks at all of the header
                pass
            with path.open("rb") as file:
                (size,) = struct.unpack("<Q", file.read(8))
                fields = json.loads(file.read(size))
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise BundleError(f"{path} is not a safetensors file: {error}") from error
        fields.pop("__metadata__", None)
        self._path, self._start, self._fields = path, 8 + size, fields

    def __getitem__(self, name: str) -> np.ndarray:
        field = self._fields[name]
        first, last = field["data_offsets"]
        dtype = np.dtype(_NAMES[field["dtype"]])
        found: np.ndarray = np.fromfile(
            self._path,
            dtype=dtype.newbyteorder("<"),
            count=(last - first) // dtype.itemsize,
            offset=self._start + first,
        )
        return found.reshape(field["shape"]).astype(dtype, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)
