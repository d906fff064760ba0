"""The files of a model directory: which there are, and how they prove themselves.

::

    models/films/
      CURRENT        version id and SHA-256 of its manifest; replaced last
      v-<hash>/      one version: `manifest.json` and the files it lists
      run/           locks, checkpoints, logs; not needed to serve
      .saving/       a version being written

The id of a version is the beginning of its manifest's hash, and the manifest holds the hash and
size of every file: who has the id has the content.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from recae.errors import BundleError, ConfigError
from recae.storage import directory_handle, json_bytes, read_plain

FORMAT = 2
OLDEST_FORMAT = 1  # it has neither seen pairs nor codes; read until 1.0
POINTER, MANIFEST, STAGING, RUN = "CURRENT", "manifest.json", ".saving", "run"

CONFIG, MODEL, ITEMS = "config.json", "model.safetensors", "items.parquet"
USERS, HISTORIES = "users.parquet", "histories.safetensors"
CODES = "codes.safetensors"
SPLIT, METRICS, PROVENANCE, CARD = "split.json", "metrics.json", "provenance.json", "README.md"
REQUIRED = (CONFIG, MODEL, ITEMS, PROVENANCE, CARD)
OPTIONAL = (USERS, HISTORIES, CODES, SPLIT, METRICS)
PERSONAL = (USERS, HISTORIES)

_MAX_DOCUMENT = 16 << 20
_MAX_MANIFEST = 64 << 10
_MAX_POINTER = 128
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"v-[0-9a-f]{16}")
_RESTORE = "restore it from a copy or train again"


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says about a file: its SHA-256 in hex and its size in bytes."""

    sha256: str
    size: int


@final
@dataclass(frozen=True, slots=True)
class Manifest:
    """List of the files of one version.

    Attributes
    ----------
    version
        ``v-`` and the first 16 digits of the hash of the manifest itself.
    sha256
        That hash.
    number
        1 for the first version saved in the directory, then counting up.
    format
        Of the directory, from `OLDEST_FORMAT` to `FORMAT`.
    files
        By name.
    """

    version: str
    sha256: str
    number: int
    format: int
    files: Mapping[str, Entry]


def is_version(name: str) -> bool:
    """Whether `name` is the name of a version."""
    return _VERSION.fullmatch(name) is not None


def version_id(manifest: bytes) -> tuple[str, str]:
    """Version id and SHA-256 of a manifest."""
    sha256 = hashlib.sha256(manifest).hexdigest()
    return f"v-{sha256[:16]}", sha256


def manifest_json(number: int, files: Mapping[str, Entry]) -> bytes:
    """Content of ``manifest.json``."""
    listed = {name: {"sha256": e.sha256, "size": e.size} for name, e in files.items()}
    value = {"format": FORMAT, "number": number, "files": listed}
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def pointer_line(version: str, sha256: str) -> bytes:
    """Content of ``CURRENT``: version id and SHA-256 of its manifest."""
    return f"{version} {sha256}\n".encode()


def version_numbers(root: Path) -> dict[str, int]:
    """Number of each version in a directory; 0 where its manifest cannot be read."""
    numbers = {}
    for path in root.iterdir():
        if is_version(path.name):
            try:
                with directory_handle(path) as handle:
                    numbers[path.name] = read_manifest(root, handle, path.name).number
            except BundleError:
                numbers[path.name] = 0
    return numbers


def read_pointer(root: Path, handle: int) -> tuple[str, str]:
    """Version id and manifest hash that ``CURRENT`` names.

    Raises
    ------
    BundleError
        If it is missing or is not exactly one such line.
    """
    path = root / POINTER
    line = read_plain(path, max_bytes=_MAX_POINTER, within=handle)
    version, _, sha256 = line.decode("latin-1").removesuffix("\n").partition(" ")
    if not (is_version(version) and _SHA256.fullmatch(sha256) and line.endswith(b"\n")):
        raise BundleError(f"{path} is damaged: it does not name a version; {_RESTORE}")
    return version, sha256


def read_manifest(root: Path, handle: int, version: str, sha256: str | None = None) -> Manifest:
    """Manifest of `version`, proved by `sha256` or, without it, by the id.

    Parameters
    ----------
    root
        Model directory.
    handle
        Descriptor of the version's directory.
    version
        Its id.
    sha256
        What the pointer says.

    Raises
    ------
    BundleError
        If it is missing, damaged, of another format, or lists files that do not belong there.
    """
    path = root / version / MANIFEST
    content = read_plain(path, max_bytes=_MAX_MANIFEST, within=handle)
    found_version, found = version_id(content)
    if found_version != version:
        raise BundleError(f"{path} is damaged: its SHA-256 is another one; {_RESTORE}")
    if sha256 not in (None, found):
        raise BundleError(f"{root / POINTER} is damaged: it gives {path} another hash; {_RESTORE}")
    value = parse_json(content, path)
    written = value.get("format")
    if type(written) is int and written > FORMAT:
        raise BundleError(
            f"{path} has format {written}; this recae reads up to {FORMAT}: install a newer recae"
        )
    if type(written) is not int or written < OLDEST_FORMAT:
        raise BundleError(f"{path} has format {written!r}; {OLDEST_FORMAT} to {FORMAT} are read")
    number, listed = value.get("number"), value.get("files")
    if type(number) is not int or number < 1 or not isinstance(listed, dict):
        raise BundleError(f"{path} is not a manifest: number or files are missing")
    files = {name: _entry(name, listed[name], path) for name in sorted(listed)}
    missing = [name for name in REQUIRED if name not in files]
    if missing or (USERS in files) != (HISTORIES in files):
        raise BundleError(f"{path} does not list {missing or PERSONAL}; a version has them")
    if CODES in files and USERS not in files:
        raise BundleError(f"{path} lists {CODES} without {USERS}, whose they are")
    return Manifest(version, found, number, written, files)


def _entry(name: str, value: object, path: Path) -> Entry:
    if name not in REQUIRED + OPTIONAL:
        raise BundleError(f"{path} lists {name!r:.80}, which is no file of a version")
    if not isinstance(value, dict) or set(value) != {"sha256", "size"}:
        raise BundleError(f"{path} does not give hash and size of {name}")
    sha256, size = value["sha256"], value["size"]
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise BundleError(f"{path} gives no SHA-256 of {name}")
    if type(size) is not int or not 0 <= size <= _max_bytes(name):
        raise BundleError(
            f"{path} gives {name} {size!r:.40} bytes; at most {_max_bytes(name)} are read"
        )
    return Entry(sha256, size)


def _max_bytes(name: str) -> int:
    """Documents have a fixed bound; what holds the model must fit into the machine."""
    if name.endswith((".json", ".md")):
        return _MAX_DOCUMENT
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def read_files(root: Path, handle: int, manifest: Manifest) -> dict[str, bytes]:
    """Every file of a version, each read once and proved before any of them is looked into.

    Raises
    ------
    BundleError
        If one is missing, no plain file, or not the one that was saved.
    """
    contents = {}
    for name, entry in manifest.files.items():
        path = root / manifest.version / name
        data = read_plain(path, max_bytes=entry.size, within=handle)
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BundleError(f"{path} is damaged: its SHA-256 is not the saved one; {_RESTORE}")
        contents[name] = data
    return contents


def parse_json(content: bytes, path: Path) -> dict[str, Any]:
    """JSON object of a file.

    Raises
    ------
    BundleError
        If it is anything else, says a key twice, or holds NaN.
    """
    try:
        value = json.loads(content, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path} is not a JSON object")
    return value


def document_bytes(name: str, value: Mapping[str, object]) -> bytes:
    """Content of a document of a version.

    Raises
    ------
    ConfigError
        If JSON has no such value, or it is larger than what is read.
    """
    try:
        content = json_bytes(value)
    except (RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"{name} cannot be stored: {error}") from error
    return bounded(name, content)


def bounded(name: str, content: bytes) -> bytes:
    """`content`, if a file `name` of a version may be so large.

    Raises
    ------
    ConfigError
        If it may not.
    """
    if len(content) > _max_bytes(name):
        raise ConfigError(f"{name} has {len(content)} bytes; at most {_max_bytes(name)} are read")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(value := dict(pairs)) != len(pairs):
        raise ValueError("a key occurs twice")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")
