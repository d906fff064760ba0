"""Reading files one does not trust: plain files only, no links, bounded, each byte once."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recae.errors import BundleError
from recae.storage.disk_errors import disk_errors


@contextmanager
def directory_handle(
    path: str | Path, *, within: int | None = None, follow: bool = False
) -> Iterator[int]:
    """Descriptor of a directory, so that names inside it cannot change their meaning.

    Parameters
    ----------
    path
        The directory.
    within
        Descriptor of the directory above, when that is held: only the last part of `path` is
        looked up then.
    follow
        Whether `path` itself may be a link.

    Raises
    ------
    BundleError
        If it is missing, not a directory, or a link that is not followed.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(_looked_up(path, within), flags, dir_fd=within)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing") from error
    except OSError as error:
        raise BundleError(f"{path} is no directory that can be read: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_plain(path: str | Path, *, max_bytes: int, within: int | None = None) -> bytes:
    """Content of a plain file, read once; `within` as for `directory_handle`.

    Links, pipes, devices and directories are refused before a byte is read, and so is a file
    larger than `max_bytes`.

    Raises
    ------
    BundleError
        If the file is missing, not plain, too large, or cannot be read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe without a writer does not block
    try:
        descriptor = os.open(_looked_up(path, within), flags, dir_fd=within)
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing") from error
    except OSError as error:
        raise BundleError(f"{path} is no plain file that can be read: {error.strerror}") from error
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise BundleError(f"{path} is no plain file")
        if about.st_size > max_bytes:
            raise BundleError(f"{path} has {about.st_size} bytes; at most {max_bytes} are accepted")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(about.st_size)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _looked_up(path: str | Path, within: int | None) -> str | Path:
    return path if within is None else Path(path).name


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file, in hex, in constant memory.

    Raises
    ------
    ResourceError
        If it cannot be read.
    """
    with disk_errors(path, "read"), Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
