"""MovieLens data sets, downloaded from their publisher and verified; nothing here needs them."""

import hashlib
import ipaddress
import json
import re
import shutil
import stat
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path, PurePosixPath
from typing import Any, final

from recae.errors import ConfigError, DataError, ResourceError
from recae.storage import (
    atomic_file,
    directory_lock,
    disk_errors,
    fsync_directory,
    sha256_of,
    write_json,
)

GROUPLENS = "https://files.grouplens.org/datasets/movielens"

Progress = Callable[[int, int | None], None]
"""Told how many bytes are there, and how many there will be where that is known."""

_NOTE = "fetched.json"
_TIMEOUT_S = 30.0
_PIECE = 1 << 18
_MAX_FILES = 100
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MB = 1_000_000
_TERMS = (
    "MovieLens data is for research: no redistribution and no commercial use without permission of"
    " GroupLens; cite Harper and Konstan 2015, doi 10.1145/2827872"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A data set that its publisher offers as ``NAME.zip`` beside ``NAME.zip.md5``.

    Attributes
    ----------
    max_archive_bytes, max_unpacked_bytes
        About twice what was published; more is refused.
    ratings, items
        Its files for reading.
    options
        Options of ``recae train`` that read them.
    terms
        The licence in a sentence.
    """

    max_archive_bytes: int
    max_unpacked_bytes: int
    ratings: str = "ratings.csv"
    items: str = "movies.csv"
    options: tuple[str, ...] = ("--min-rating", "4", "--min-user", "5")
    terms: str = _TERMS


MOVIELENS = {
    "ml-latest-small": Published(max_archive_bytes=2 * _MB, max_unpacked_bytes=8 * _MB),
    "ml-1m": Published(
        max_archive_bytes=12 * _MB,
        max_unpacked_bytes=50 * _MB,
        ratings="ratings.dat",
        items="movies.dat",
        options=(
            *("--no-header", "--set", "read.items_encoding=latin-1"),
            *("--min-rating", "4", "--min-user", "5"),
        ),
    ),
    "ml-20m": Published(max_archive_bytes=400 * _MB, max_unpacked_bytes=1_800 * _MB),
    "ml-25m": Published(max_archive_bytes=525 * _MB, max_unpacked_bytes=2_400 * _MB),
    "ml-32m": Published(max_archive_bytes=480 * _MB, max_unpacked_bytes=2_000 * _MB),
}


@final
@dataclass(frozen=True, slots=True)
class Fetched:
    """A data set on the disk.

    Attributes
    ----------
    name
        Of the data set.
    directory
        Its files.
    url
        Where its archive came from.
    md5
        Of the archive, as the publisher gives it.
    already_there
        Whether it was there before, verified again and nothing downloaded.
    published
        What is known about it.
    """

    name: str
    directory: Path
    url: str
    md5: str
    already_there: bool
    published: Published


def fetch(
    name: str,
    parent: str | Path = ".",
    *,
    base_url: str = GROUPLENS,
    progress: Progress | None = None,
) -> Fetched:
    """Download the data set `name` and unpack it as the directory ``parent/name``.

    The archive is verified against the MD5 the publisher puts beside it; MD5 shows damage, https
    shows who sent it. The directory appears whole or not at all. Where it is there already, each of
    its files is compared with what was unpacked, and nothing is downloaded.

    Parameters
    ----------
    name
        One of `MOVIELENS`.
    parent
        Made if missing. What arrives lies in ``parent/.name.fetch`` until it is verified.
    base_url
        Address of the directory of ``name.zip``: https, or http to this machine.
    progress
        Told of the download.

    Raises
    ------
    ConfigError
        If the name or the address is not accepted.
    DataError
        If the archive is damaged, too large or unsafe (it is removed), or the directory is there
        and does not hold what was fetched.
    ResourceError
        If the address cannot be reached, the connection breaks, or the disk refuses.
    BusyError
        If another process is fetching the same.
    """
    if name not in MOVIELENS:
        raise ConfigError(f"there is no data set {name!r}; there are {', '.join(MOVIELENS)}")
    if not _allowed(base_url):
        raise ConfigError(
            f"the address {base_url!r} is not accepted: https is, and http to this machine"
        )
    published = MOVIELENS[name]
    url = f"{base_url.rstrip('/')}/{name}.zip"
    directory = Path(parent) / name
    if directory.exists() or directory.is_symlink():
        note = _verified(directory)
        return Fetched(name, directory, note["url"], note["md5"], True, published)
    md5 = _published_md5(url)
    work = directory.with_name(f".{name}.fetch")
    archive, fresh = work / f"{name}.zip", work / name
    with directory_lock(work):
        try:
            shutil.rmtree(fresh, ignore_errors=True)  # left by a process that was killed
            _download(url, archive, md5, published.max_archive_bytes, progress)
            files = unpack(archive, fresh, max_bytes=published.max_unpacked_bytes)
            for wanted in (published.ratings, published.items):
                if wanted not in files:
                    there = ", ".join(files)
                    raise DataError(f"{archive.name} has no file {wanted}; it has {there}")
            write_json(fresh / _NOTE, {"name": name, "url": url, "md5": md5, "files": files})
            with disk_errors(directory):
                fresh.rename(directory)
            fsync_directory(directory.parent)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return Fetched(name, directory, url, md5, False, published)


def _verified(directory: Path) -> Mapping[str, str]:
    """Address and MD5 of what was fetched, after every file was compared with its hash."""
    where = f"{directory} is there and is not what was fetched"
    advice = "move it away or name another directory"
    try:
        note = json.loads((directory / _NOTE).read_bytes())
        found = {"url": str(note["url"]), "md5": str(note["md5"])}
        hashes = {directory / file: about["sha256"] for file, about in note["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: it has no {_NOTE} that can be read; {advice}") from error
    for path, sha256 in hashes.items():
        if not path.is_file() or sha256_of(path) != sha256:
            raise DataError(f"{where}: {path.name} is missing or changed; {advice}")
    return found


def _published_md5(url: str) -> str:
    """MD5 that the publisher gives: ``MD5 (ml-1m.zip) = HEX`` or ``HEX  ml-25m.zip``."""
    text = b"".join(_pieces(f"{url}.md5", 4096)).decode("ascii", "replace").strip()
    file = re.escape(url.rsplit("/", 1)[-1])
    found = re.fullmatch(
        rf"MD5 ?\({file}\) ?= ?([0-9a-f]{{32}})|([0-9a-f]{{32}})(?: [ *]{file})?", text, re.I
    )
    if found is None:
        raise DataError(f"{url}.md5 is {text[:80]!r}; a line with the MD5 of the file is expected")
    return (found[1] or found[2]).lower()


def _download(url: str, path: Path, md5: str, max_bytes: int, progress: Progress | None) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with disk_errors(path), path.open("wb") as file:
        for piece in _pieces(url, max_bytes, progress):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != md5:
        raise DataError(
            f"{url} arrived with the MD5 {digest.hexdigest()}; its publisher gives {md5}: what came"
            " was removed, run the command again"
        )


def _pieces(url: str, max_bytes: int, progress: Progress | None = None) -> Iterator[bytes]:
    """What lies at `url`, in pieces.

    Raises
    ------
    ResourceError
        If the address cannot be reached, answers with an error, or the connection breaks.
    DataError
        If there are more than `max_bytes`.
    """
    with _opened(url) as answer:
        size, length = 0, answer.length
        while (piece := _piece(answer)) is not None:
            size += len(piece)
            if max(size, length or 0) > max_bytes:
                raise DataError(f"{url} has more than the {max_bytes} bytes that are accepted")
            if not piece:
                break
            yield piece
            if progress is not None:
                progress(size, length)
    if piece is None or length not in {None, size}:
        raise ResourceError(
            f"the connection to {url} broke after {size} bytes; run the command again"
        )


def _piece(answer: Any) -> bytes | None:
    """What arrives next: nothing at the end, None where the connection broke."""
    try:
        piece: bytes = answer.read(_PIECE)
    except (HTTPException, OSError):
        return None
    return piece


def _opened(url: str) -> Any:
    """Answer of the server: http and https, redirects to https only."""
    proxies: dict[str, str] | None = {} if _loopback(url) else None  # None: those of the system
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _Redirects)
    headers = {"Accept-Encoding": "identity", "User-Agent": "recae"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # checked by _allowed
    try:
        return opener.open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise ResourceError(f"{url} answered {error.code} {error.reason}") from error
    except (HTTPException, OSError) as error:  # URLError is an OSError
        reason = getattr(error, "reason", error)
        raise ResourceError(
            f"cannot reach {url}: {str(reason) or type(reason).__name__}; check the network, or"
            " name a mirror with --base-url"
        ) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to addresses that are accepted, and from elsewhere never to this machine."""

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


def unpack(archive: Path, target: Path, *, max_bytes: int) -> dict[str, dict[str, object]]:
    """Unpack the folder of a zip archive that is called as `target` as that new directory.

    Everything is checked before the first byte is written: the archive holds plain files below the
    folder and nothing else, no links, no absolute names, no ``..``, no name twice.

    Returns
    -------
    Size and SHA-256 of each file by its name in `target`, as JSON values.

    Raises
    ------
    DataError
        If the archive is damaged, larger than `max_bytes`, or holds anything else.
    ResourceError
        If the disk refuses.
    """
    files: dict[str, dict[str, object]] = {}
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _checked(opened, archive.name, target.name, max_bytes)
            for name, member in members.items():
                path = target / name
                with disk_errors(path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as packed, atomic_file(path) as file:
                    shutil.copyfileobj(packed, file)  # zipfile reads no more than was declared
                files[str(name)] = {"size": file.written.size, "sha256": file.written.sha256}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive.name} is no whole zip archive: {error}") from error
    return files


def _checked(
    opened: zipfile.ZipFile, archive: str, folder: str, max_bytes: int
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the files of the archive by their names below `folder`."""
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for member in opened.infolist():
        given = member.orig_filename
        name = PurePosixPath(given)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if (
            name.parts[:1] != (folder,)
            or ".." in name.parts
            or not given.isprintable()
            or set(given) & set("\\:")
            or kind not in {0, stat.S_IFREG, stat.S_IFDIR}
        ):
            raise DataError(f"{archive} holds {given!r}; plain files below {folder}/ are accepted")
        if member.is_dir():
            continue
        if member.flag_bits & 1 or member.compress_type not in _METHODS:
            raise DataError(f"{archive}: {given!r} is encrypted or not deflated")
        inside = name.relative_to(folder)
        if inside in members or inside == PurePosixPath():
            raise DataError(f"{archive} holds {given!r} twice, or as its folder")
        members[inside] = member
    declared = sum(member.file_size for member in members.values())
    if len(members) > _MAX_FILES or declared > max_bytes:
        raise DataError(
            f"{archive} unpacks to {len(members)} files of {declared} bytes; at most {_MAX_FILES}"
            f" of {max_bytes} are accepted"
        )
    return members
