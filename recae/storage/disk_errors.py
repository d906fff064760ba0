"""What the operating system says about a disk, as one sentence that says what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recae.errors import ResourceError

_ADVICE = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space, raise the quota or choose another disk",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or choose another disk",
    errno.EIO: "the disk does not work as it should; choose another one",
    errno.EROFS: "choose a directory that can be written",
    errno.EACCES: "give this user the permission or choose another directory",
    errno.EPERM: "give this user the permission or choose another directory",
    errno.ELOOP: "links are not followed here; name the file itself",
}


@contextmanager
def disk_errors(path: str | Path, doing: str = "write") -> Iterator[None]:
    """Turn an `OSError` of the body into a `ResourceError` that names `path` and what to do.

    Raises
    ------
    ResourceError
        In place of every `OSError`.
    """
    try:
        yield
    except OSError as error:
        said = os.strerror(error.errno) if error.errno else str(error)
        advice = _ADVICE.get(error.errno or 0, "check the path and the disk")
        raise ResourceError(f"cannot {doing} {path}: {said.lower()}; {advice}") from error
