"""Where bytes come from: files, folders of parts, standard input; nothing hangs or is guessed."""

import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, final

import pyarrow as pa

from recae.errors import DataError

MAX_EXPANSION = 250  # interactions compress 3 to 20 times, zeros about 1000 times
FREE_EXPANSION_BYTES = 64 << 20
HEAD_BYTES = 512

# What files start with. None of these is a text table, whatever the file is called.
_FOREIGN = (
    (b"PK\x03\x04", "a zip or xlsx file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF-", "a PDF file"),
    (b"\xd0\xcf\x11\xe0", "an old Office file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"ARROW1\x00\x00", "an Arrow file"),
    (b"\x7fELF", "a program"),
    (b"BZh91AY&SY", "bzip2, which is not supported (gz and zst are)"),
    (b"\xfd7zXZ\x00", "xz, which is not supported (gz and zst are)"),
    (b"\x04\x22\x4d\x18", "lz4, which is not supported (gz and zst are)"),
    (b"7z\xbc\xaf\x27\x1c", "7z, which is not supported (gz and zst are)"),
    (b"\xff\xfe\x00\x00", "UTF-32; save it as UTF-8"),
    (b"\xff\xfe", "UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16; save it as UTF-8"),
)
_CODECS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))


@final
@dataclass(frozen=True, slots=True)
class Part:
    """One file of an input, opened: its name for people, its kind and its decompressed bytes."""

    name: str
    kind: Literal["text", "parquet"]
    stream: io.BufferedReader


def list_parts(source: str | Path) -> list[Path | None]:
    """Files of `source` in name order; None stands for standard input (``"-"``).

    Names that start with ``.`` or ``_`` are markers and are left out.

    Raises
    ------
    DataError
        If there is no such file, it cannot be read, or it is neither a file nor a folder of files.
    """
    if str(source) == "-":
        return [None]
    path = Path(source)
    try:
        if not stat.S_ISDIR(path.stat().st_mode):
            return [path]
        parts = sorted(p for p in path.iterdir() if not p.name.startswith((".", "_")))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {source}: {_why(error)}") from error
    if not parts:
        raise DataError(f"{source} is a folder without files")
    return list(parts)


@contextmanager
def open_part(path: Path | None) -> Iterator[Part]:
    """Open one file and, when done, check that it did not change meanwhile.

    Raises
    ------
    DataError
        If it is not a regular readable file, is binary, is damaged, or changed while it was read.
    """
    if path is None:
        yield _recognise("standard input", sys.stdin.buffer, size=0)
        return
    try:
        # O_NONBLOCK: opening a named pipe nobody writes to must not wait
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {_why(error)}") from error
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):  # a directory cannot even be opened as a stream
        os.close(descriptor)
        raise DataError(f"{path} is no regular file; accepted: a file, a folder of files, '-'")
    with os.fdopen(descriptor, "rb") as file:
        yield _recognise(path.name, file, size=before.st_size)
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DataError(f"{path} changed while it was read")


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _recognise(name: str, file: object, *, size: int) -> Part:
    raw: Any = file
    if not isinstance(raw, io.BufferedReader):  # standard input may be replaced by anything
        raw = io.BufferedReader(raw)
    head = _peek(name, raw)
    if head.startswith(b"PAR1"):
        if not raw.seekable():
            raise DataError(f"{name} is Parquet, which cannot be read from a pipe; name the file")
        return Part(name, "parquet", raw)
    for magic, codec in _CODECS:
        if head.startswith(magic):
            raw = io.BufferedReader(_Decompressed(name, raw, codec, size))
            head = _peek(name, raw)
            break
    _refuse_binary(name, head)
    return Part(name, "text", raw)


def _peek(name: str, raw: Any) -> bytes:
    try:
        return bytes(raw.peek(HEAD_BYTES)[:HEAD_BYTES])
    except OSError as error:
        raise DataError(f"cannot read {name}: {_why(error)}") from error


def _refuse_binary(name: str, head: bytes) -> None:
    found = next((what for magic, what in _FOREIGN if head.startswith(magic)), None)
    if found is None and head[:1] == b"\x80" and head[1:2] <= b"\x05" and len(head) > 1:
        found = "a pickle, which is never opened"
    if found is None and head[257:262] == b"ustar":
        found = "a tar archive"
    if found is None and head.startswith((b"PAR1", *(magic for magic, _ in _CODECS))):
        found = "compressed twice"
    if found is None and head.count(0) > len(head) // 8:
        found = "binary or UTF-16"
    if found is not None:
        raise DataError(f"{name} is {found}; accepted: CSV or TSV in UTF-8, gz, zst, Parquet")


@final
class _Decompressed(io.RawIOBase):
    """Decompressed bytes of a stream; cut, damaged and absurdly compressed files are refused."""

    def __init__(self, name: str, raw: Any, codec: str, size: int) -> None:
        super().__init__()
        self._name, self._size, self._read = name, size, 0
        self._stream: Any = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), codec)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:
            raise DataError(f"{self._name} is damaged or cut short: {_why(error)}") from error
        self._read += len(data)
        if self._size and self._read > max(MAX_EXPANSION * self._size, FREE_EXPANSION_BYTES):
            raise DataError(
                f"{self._name} expands more than {MAX_EXPANSION} times;"
                " decompress it yourself if that is right"
            )
        buffer[: len(data)] = data
        return len(data)
