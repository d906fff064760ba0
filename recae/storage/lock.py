"""A directory that one process at a time works in."""

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recae.errors import BusyError
from recae.storage.disk_errors import disk_errors


@contextmanager
def directory_lock(directory: str | Path, *, name: str = "lock") -> Iterator[None]:
    """Hold `directory`, made if missing, until the body ends.

    The lock is the kernel's (``flock`` on the file `name`): it ends with the process, however that
    dies. It is not re-entrant, not even inside one process.

    Raises
    ------
    BusyError
        At once, if another holds it; the message names its process and host.
    ResourceError
        If the lock file cannot be made.
    """
    directory = Path(directory)
    with disk_errors(directory / name, "lock"):
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"{directory} is in use by {_holder(descriptor)};"
                " wait for it to end or choose another directory"
            ) from error
        with suppress(OSError):  # a full disk: the lock holds all the same, only its note is lost
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    note = os.pread(descriptor, 512, 0).decode(errors="replace").strip()
    return note if re.fullmatch(r"pid \d+ on [\w.-]+", note) else "another process"
