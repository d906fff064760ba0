"""Downloads that go on where they broke off, over https only."""

import ipaddress
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Any, final

from recae.errors import ConfigError, DataError, ResourceError
from recae.storage import disk_errors, write_json

Progress = Callable[[int, int | None], None]
"""Told how many bytes are there, and how many there will be where that is known."""

_TIMEOUT_S = 30.0
_PIECE = 1 << 18


@final
@dataclass(frozen=True, slots=True)
class _State:
    """Which file a partial file is a part of."""

    url: str
    size: int | None
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, url: str, answer: HTTPResponse, start: int) -> "_State":
        """State that a first answer (`start` 0) or a range of the file describes."""
        length = answer.headers.get("Content-Length", "")
        size = start + int(length) if length.isdecimal() else None
        etag = answer.headers.get("ETag")
        if etag is not None and etag.startswith("W/"):
            etag = None  # weak: the bytes may differ
        return cls(url, size, etag, answer.headers.get("Last-Modified"))

    @property
    def validator(self) -> str | None:
        """Value of ``If-Range``."""
        return self.etag or self.modified


def checked_address(url: str) -> str:
    """`url` without a slash at its end.

    Raises
    ------
    ConfigError
        Unless it is https, or http to this very machine.
    """
    if not _allowed(url):
        raise ConfigError(
            f"the address {url!r} is not accepted: https is, and http to this machine"
        )
    return url.rstrip("/")


def small_text(url: str, *, max_bytes: int = 4096) -> str:
    """Text of a small file.

    Raises
    ------
    ResourceError
        If the address cannot be reached or answers with an error.
    DataError
        If it is larger than `max_bytes`, or not ASCII.
    """
    with _opened(url, {}) as answer:
        data = answer.read(max_bytes + 1)
    if len(data) > max_bytes or not data.isascii():
        raise DataError(f"{url} is no text of at most {max_bytes} bytes")
    return data.decode("ascii")


def download(
    url: str,
    path: Path,
    *,
    max_bytes: int,
    progress: Progress | None = None,
    attempts: int = 5,
    pause_s: float = 1.0,
) -> None:
    """Bring the file at `url` to `path`.

    What arrives is kept in ``path.partial``, with what the server said about the file in
    ``path.partial.json``. A connection that breaks is taken up again, by this call and by the next
    one, as long as the server still has the same file (ETag or Last-Modified); else the download
    starts over.

    Parameters
    ----------
    max_bytes
        A larger file is refused.
    attempts, pause_s
        Broken connections to bear, and seconds between them.

    Raises
    ------
    ResourceError
        If the address cannot be reached, answers with an error, or breaks too often; or if the
        disk refuses.
    DataError
        If the file is larger than `max_bytes`; what was there of it is removed.
    """
    partial = path.with_name(f"{path.name}.partial")
    about = partial.with_name(f"{partial.name}.json")
    for attempt in range(1, attempts + 1):
        size, whole = _more(url, partial, about, max_bytes, progress)
        if whole:
            with disk_errors(path):
                partial.replace(path)
                about.unlink(missing_ok=True)
            return
        if attempt < attempts:
            time.sleep(pause_s)
    raise ResourceError(
        f"the connection to {url} broke {attempts} times, the last time after {size} bytes;"
        " run the command again to go on from there"
    )


def _more(
    url: str, partial: Path, about: Path, max_bytes: int, progress: Progress | None
) -> tuple[int, bool]:
    """Ask once for what is missing; bytes there are now, and whether that is all."""
    state = _stored(url, partial, about)
    start = partial.stat().st_size if state is not None else 0
    if state is not None and start == state.size:
        return start, True
    headers = {}
    if state is not None and state.validator is not None:
        headers = {"Range": f"bytes={start}-", "If-Range": state.validator}
    with _opened(url, headers) as answer:
        if state is None or not _continues(answer, start, state):
            _forget(partial, about)
            if answer.status != 200:  # a part of another file: ask for the whole
                return 0, False
            start = 0
            state = _State.of(url, answer, 0)
            write_json(about, asdict(state))
        if state.size is not None and state.size > max_bytes:
            _refuse(url, max_bytes, partial, about)
        size = start
        with disk_errors(partial), partial.open("ab") as file:
            while piece := _piece(answer):
                size += len(piece)
                if size > max_bytes:
                    _refuse(url, max_bytes, partial, about)
                file.write(piece)
                if progress is not None:
                    progress(size, state.size)
            file.flush()
            os.fsync(file.fileno())
    return size, piece is not None if state.size is None else size == state.size


def _stored(url: str, partial: Path, about: Path) -> _State | None:
    """State of the partial file, or None where it is of no use: both files are gone then."""
    with suppress(OSError, ValueError, TypeError):
        state = _State(**json.loads(about.read_bytes()))
        size = partial.stat().st_size
        if state.url == url and state.validator and state.size and 0 < size <= state.size:
            return state
    _forget(partial, about)
    return None


def _continues(answer: HTTPResponse, start: int, state: _State) -> bool:
    """Whether the answer is the rest of the file that the partial file is a part of."""
    given = answer.headers.get("Content-Range", "")
    now = _State.of(state.url, answer, start)
    same = now.validator in {None, state.validator} and now.size == state.size
    return same and answer.status == 206 and given.startswith(f"bytes {start}-")


def _piece(answer: HTTPResponse) -> bytes | None:
    """What arrives next: nothing at the end, None where the connection broke."""
    try:
        return answer.read(_PIECE)
    except (HTTPException, OSError):
        return None


def _refuse(url: str, max_bytes: int, partial: Path, about: Path) -> None:
    _forget(partial, about)
    raise DataError(f"{url} has more than the {max_bytes} bytes that are accepted for it")


def _forget(partial: Path, about: Path) -> None:
    with disk_errors(partial, "remove"):
        partial.unlink(missing_ok=True)
        about.unlink(missing_ok=True)


@contextmanager
def _opened(url: str, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
    request = urllib.request.Request(  # noqa: S310  # the opener has no other scheme
        url, headers={"Accept-Encoding": "identity", "User-Agent": "recae", **headers}
    )
    answer: HTTPResponse | None = None
    try:
        answer = _opener(url).open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise ResourceError(f"{url} answered {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _unreachable(url, error.reason) from error
    except (HTTPException, OSError) as error:
        raise _unreachable(url, error) from error
    with answer:
        yield answer


def _unreachable(url: str, reason: object) -> ResourceError:
    return ResourceError(
        f"cannot reach {url}: {str(reason) or type(reason).__name__}; check the network, or name a"
        " mirror with --base-url"
    )


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Http and https, nothing else: no files, no ftp."""
    opener = urllib.request.OpenerDirector()
    proxies: dict[str, str] | None = {} if _loopback(url) else None  # None: those of the system
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


@final
class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to https; to this machine only from this machine."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Request to follow with."""
        if not _allowed(newurl) or (_loopback(newurl) and not _loopback(req.full_url)):
            raise ResourceError(
                f"{req.full_url} redirects to {newurl!r}; only https addresses are followed"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _allowed(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or not url.isprintable() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _loopback(url))


def _loopback(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
