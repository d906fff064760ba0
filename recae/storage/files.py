"""Files that appear whole or not at all: written beside, fsynced, renamed."""

import errno
import fcntl
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, final

from recae.errors import BusyError, ConfigError
from recae.storage.disk_errors import disk_errors


@final
class Written(NamedTuple):
    """What is on the disk now.

    Attributes
    ----------
    sha256
        In hex.
    size
        In bytes.
    """

    sha256: str
    size: int


@final
class HashingFile(io.RawIOBase):
    """Write-only stream over a descriptor that knows the hash and size of what it was given.

    It never closes the descriptor, and has no buffer that could fail late.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._path = path
        self._digest = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        """Say yes."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, data: Any) -> int:  # any buffer; the protocol has a name from Python 3.12 on
        """Write all of `data`.

        Raises
        ------
        ResourceError
            If the disk refuses.
        """
        left = memoryview(data).cast("B")
        n_bytes = len(left)
        self._digest.update(left)
        while left:
            with disk_errors(self._path):
                left = left[os.write(self._descriptor, left) :]
        self._size += n_bytes
        return n_bytes

    @property
    def written(self) -> Written:
        """Hash and size so far."""
        return Written(self._digest.hexdigest(), self._size)


def partial_name(name: str) -> str:
    """Name under which the file `name` is written before it is renamed."""
    return f".{name}.partial"


@contextmanager
def atomic_file(path: str | Path, *, mode: int = 0o644) -> Iterator[HashingFile]:
    """Stream into a file that replaces `path` when the body ends, and never otherwise.

    Parameters
    ----------
    path
        The file, or a link to it, which stays; what is there before stays until the new one is
        whole and on the disk.
    mode
        Permissions, whatever the umask.

    Raises
    ------
    ConfigError
        If `path` names no file, or what is no file: a device, a pipe or a link to itself.
    ResourceError
        If the disk refuses; nothing is left behind then.
    BusyError
        If another process is writing the same file.
    """
    path = named_file(path)
    if not path.name:
        raise ConfigError(f"the path {str(path)!r} names no file")
    partial = path.with_name(partial_name(path.name))
    with disk_errors(path):
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _claim(descriptor, partial, path)
        replaced = False
        try:
            with disk_errors(path):
                os.ftruncate(descriptor, 0)
            file = HashingFile(descriptor, path)
            yield file
            with disk_errors(path):
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
                partial.replace(path)
            replaced = True
        finally:
            if not replaced:
                with suppress(OSError):
                    partial.unlink()
        fsync_directory(path.parent)
    finally:
        os.close(descriptor)


def named_file(path: str | Path) -> Path:
    """File to write where people named `path`: what a link points to, never the link.

    Raises
    ------
    ConfigError
        If what is there is a device, a pipe or a link to itself.
    """
    path = Path(path)
    _refuse_special(path)
    return path.resolve() if path.is_symlink() else path


def refuse_overwriting(
    targets: Iterable[tuple[str, str | Path | None]],
    sources: Iterable[tuple[str, str | Path | None]],
) -> None:
    """Refuse to write where something else of the same call is read or written.

    Parameters
    ----------
    targets
        Files and directories to write, after the name that people know each by.
    sources
        Files to read, directories whose files are read, and ``"-"``, standard input; named alike.
        None stands for nothing.

    Raises
    ------
    ConfigError
        If a target is a source, by this or another name (a link, also a hard one), or lies in one;
        or if two targets are one file.
    """
    read = [(what, source) for what, source in sources if source is not None]
    written: dict[Path, str] = {}
    for name, target in targets:
        if target is None or str(target) == "-":
            continue
        place = Path(os.path.realpath(target))
        if place in written:
            raise ConfigError(f"{name} and {written[place]} are both {target}; name two files")
        written[place] = name
        for what, source in read:
            if _is_or_is_in(place, source):
                raise ConfigError(
                    f"{name} {target} would change {what} {source}; name another file"
                )


def _is_or_is_in(place: Path, source: str | Path) -> bool:
    if str(source) == "-":
        return _same_file(place, None)
    whole = Path(os.path.realpath(source))
    return (
        place == whole
        or whole in place.parents
        or any(_same_file(place, file) for file in (whole, *whole.glob("*")))
    )


def _same_file(path: Path, other: Path | None) -> bool:
    """Whether they are one file; None is standard input."""
    try:
        return os.path.samestat(path.stat(), os.fstat(0) if other is None else other.stat())
    except OSError:  # one of them is not there, or the disk says more when it is read
        return False


def _refuse_special(path: Path) -> None:
    """Refuse to put a file in the place of a device or a pipe, which others use."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ConfigError(f"{path} is a link that leads to itself; name a file") from error
        return  # nothing is there, or the disk says more when it is written
    except ValueError:
        return
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise ConfigError(f"{path} is a device, pipe or socket; a file is accepted")


def _claim(descriptor: int, partial: Path, path: Path) -> None:
    """Own the partial file, which may hold what a killed writer left.

    One fixed name, locked, leaves nothing behind after any number of kills; a random name would.
    """
    busy = f"{path} is being written by another process; wait for it to end or name another file"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = partial.stat().st_ino
    except (BlockingIOError, FileNotFoundError) as error:
        raise BusyError(busy) from error
    if there != os.fstat(descriptor).st_ino:  # renamed by its owner since it was opened
        raise BusyError(busy)


def write_atomic(path: str | Path, data: bytes, *, mode: int = 0o644) -> Written:
    """Write `data` as the whole file `path`; errors as in `atomic_file`."""
    with atomic_file(path, mode=mode) as file:
        file.write(data)
    return file.written


def json_bytes(value: object) -> bytes:
    """JSON for people: indented, keys sorted, no NaN; same value, same bytes.

    Raises
    ------
    TypeError, ValueError
        If JSON has no such value; it has no number that is not finite.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def write_json(path: str | Path, value: object, *, mode: int = 0o644) -> Written:
    """Write `value` as JSON; errors as in `json_bytes` and `atomic_file`."""
    return write_atomic(path, json_bytes(value), mode=mode)


def write_parquet(path: str | Path, table: Any, *, mode: int = 0o644) -> Written:
    """Write an Arrow table as Parquet, compressed by zstd; errors as in `atomic_file`."""
    import pyarrow.parquet as pq

    with atomic_file(path, mode=mode) as file:
        pq.write_table(table, file, compression="zstd")
    return file.written


def fsync_directory(directory: str | Path) -> None:
    """Make the names inside `directory` survive a power loss.

    Raises
    ------
    ResourceError
        If the disk refuses.
    """
    with disk_errors(directory):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
