"""API keys: made once, shown once, kept as hashes.

A key reads ``recae_<id>_<secret>``: eight hexadecimal digits in clear, then 256 random bits.
The file keeps SHA-256 of the secret; a slow hash would protect guessable passwords, which these
are not. The file is JSON, mode 0600, replaced whole::

    {"keys": [{"id": "1f0c9a2b", "name": "shop", "scopes": ["recommend"], "sha256": "...",
               "created": "2025-01-31T12:00:00+00:00", "expires": null}]}
"""

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Final, Literal, final, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from recae.errors import ConfigError, DataError, ResourceError

Scope = Literal["recommend", "admin"]

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
_DEFAULT: Final[tuple[Scope, ...]] = ("recommend",)
_MAX_BYTES: Final = 16 << 20  # some 60,000 keys
_LOG: Final = logging.getLogger(__name__)
_KEY: Final = re.compile(r"recae_([0-9a-f]{8})_([0-9a-f]{64})")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_EXACT: Final = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What is kept of a key.

    Attributes
    ----------
    id
        The part in clear: for logs, and to revoke it.
    name
        Whose it is.
    scopes
        What it allows; one scope does not include another.
    sha256
        Hexadecimal SHA-256 of the secret.
    created, expires
        ISO 8601 with offset; `expires` None for never.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _EXACT

    id: str
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    created: str
    expires: str | None = None

    def __post_init__(self) -> None:
        if not self.scopes or not set(self.scopes) <= set(SCOPES):
            raise ConfigError(f"scopes are {list(self.scopes)}; of {list(SCOPES)} are accepted")
        if not _SHA256.fullmatch(self.sha256):  # compared as text, which must be ASCII
            raise ConfigError("sha256 is no hash; 64 hexadecimal digits are accepted")
        for text in (self.created, self.expires):
            if text is not None and _instant(text).tzinfo is None:
                raise ConfigError(f"time {text!r} has no offset; UTC is written +00:00")

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and _instant(self.expires) <= datetime.now(UTC)


@final
class _File(BaseModel):
    """The file: nothing else, so that no misspelt ``expires`` makes a key everlasting."""

    model_config = _EXACT

    keys: tuple[Key, ...]


def create_key(
    path: Path,
    *,
    name: str,
    scopes: Collection[Scope] = _DEFAULT,
    expires: datetime | None = None,
) -> str:
    """Add a key to the file at `path`, made where it is missing, and return the key.

    The return value is the only copy of the secret there will ever be.

    Raises
    ------
    ConfigError
        If `name` is empty or holds control characters, a scope is unknown, or `expires` has no time
        zone.
    DataError
        If the file is not one of keys.
    ResourceError
        If the file cannot be written.
    """
    if not name.strip():
        raise ConfigError("the name of a key is empty; whose key it is is accepted")
    if not name.isprintable():
        raise ConfigError(f"the name of a key is {name!r}; printable characters are accepted")
    secret = secrets.token_hex(32)
    key = Key(
        id=secrets.token_hex(4),
        name=name,
        scopes=tuple(scopes),
        sha256=hashlib.sha256(secret.encode()).hexdigest(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        expires=None if expires is None else expires.isoformat(timespec="seconds"),
    )
    path = _named(path)
    with _held(path):
        _write(path, [*(read_keys(path) if path.exists() else ()), key])
    return f"recae_{key.id}_{secret}"


def revoke_key(path: Path, key_id: str) -> None:
    """Take the key with this id out of the file; a running server notices at once.

    Raises
    ------
    ConfigError
        If no key has this id.
    DataError
        If the file is not one of keys.
    ResourceError
        If the file cannot be written.
    """
    path = _named(path)
    with _held(path):
        keys = read_keys(path)
        if key_id not in {key.id for key in keys}:
            raise ConfigError(f"no key has the id {key_id!r} in {path}")
        _write(path, [key for key in keys if key.id != key_id])


def read_keys(path: Path) -> tuple[Key, ...]:
    """Read all keys of a file.

    Raises
    ------
    DataError
        If the file is missing, larger than 16 MiB, or not one of keys.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise DataError(
                f"{path} is not a file of API keys: it has more than {_MAX_BYTES >> 20} MiB"
            )
        return _File.model_validate_json(content).keys
    except OSError as error:
        raise DataError(f"{path} is not a file of API keys: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path} is not a file of API keys: {where} {first['msg']}") from error


def _named(path: Path) -> Path:
    """File to write where people named `path`: what a link points to, never the link.

    Raises
    ------
    ResourceError
        If what is there is no file.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink() or (target.exists() and not target.is_file()):
        raise ResourceError(f"{path} cannot be written: it is no file")
    return target


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Let one process at a time read and replace the file: no key is lost, no revoked one back."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _write(path: Path, keys: Collection[Key]) -> None:
    """Replace the file whole; `mkstemp` makes it readable by its owner only."""
    data = json.dumps({"keys": [asdict(key) for key in keys]}, indent=1).encode() + b"\n"
    try:
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(beside).replace(path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error.strerror}") from error


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"time is {text!r}; ISO 8601 is accepted") from error


@final
class KeyRing:
    """The keys of a file, read again when the file changes.

    A file that becomes unreadable leaves the keys read before in force.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    DataError
        If the file is missing or not one of keys.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = self._refused = self._current_stamp()
        self._keys = {key.id: key for key in read_keys(path)}

    def find(self, presented: str) -> Key | None:
        """Return the key that was presented, or None where it is malformed, unknown or expired."""
        self._follow()
        match = _KEY.fullmatch(presented)
        if match is None:
            return None
        key = self._keys.get(match[1])
        digest = hashlib.sha256(match[2].encode()).hexdigest()
        # An unknown id costs the same comparison as a known one.
        same = hmac.compare_digest(digest, key.sha256 if key else "0" * 64)
        return key if key and same and not key.expired else None

    def _current_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _follow(self) -> None:
        """Read the file again if it changed, before any key is looked up."""
        if self._current_stamp() in {None, self._stamp}:
            return
        with self._lock:
            stamp = self._current_stamp()
            if stamp in {None, self._stamp}:
                return
            try:
                keys = {key.id: key for key in read_keys(self._path)}
            except DataError:
                if stamp != self._refused:  # tried at every request, told once
                    _LOG.error("the file of API keys cannot be read; the keys before stay in force")
                    self._refused = stamp
                return
            self._keys = keys
            self._stamp = stamp  # last: who finds it does not wait, and uses these keys
