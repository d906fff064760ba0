"""`fetch`: a published data set as a directory that is whole and verified."""

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from recae.data.fetch.download import Progress, checked_address, download, small_text
from recae.data.fetch.movielens import GROUPLENS, MOVIELENS, Published
from recae.data.fetch.unpack import unpack
from recae.errors import ConfigError, DataError
from recae.storage import directory_lock, disk_errors, fsync_directory, sha256_of, write_json

_NOTE = "fetched.json"


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
        Made if missing. A broken download stays in ``parent/.name.fetch`` and is taken up again.
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
        If the address cannot be reached or the disk refuses.
    BusyError
        If another process is fetching the same.
    """
    if name not in MOVIELENS:
        raise ConfigError(f"there is no data set {name!r}; there are {', '.join(MOVIELENS)}")
    published = MOVIELENS[name]
    url = f"{checked_address(base_url)}/{name}.zip"
    directory = Path(parent) / name
    if directory.exists() or directory.is_symlink():
        note = _verified(directory)
        return Fetched(name, directory, note["url"], note["md5"], True, published)
    md5 = _published_md5(url)
    work = directory.with_name(f".{name}.fetch")
    with directory_lock(work):
        archive = work / f"{name}.zip"
        try:
            if not archive.exists():
                download(url, archive, max_bytes=published.max_archive_bytes, progress=progress)
            _check_md5(archive, md5, url)
            _unpacked(archive, directory, published, {"name": name, "url": url, "md5": md5})
        finally:
            archive.unlink(missing_ok=True)
            if not any(work.glob("*.partial")):
                shutil.rmtree(work, ignore_errors=True)
    return Fetched(name, directory, url, md5, False, published)


def _unpacked(
    archive: Path, directory: Path, published: Published, about: Mapping[str, object]
) -> None:
    fresh = archive.with_suffix("")
    with disk_errors(fresh, "remove"):
        if fresh.exists():  # left by a process that was killed
            shutil.rmtree(fresh)
    try:
        files = unpack(
            archive, fresh, folder=directory.name, max_bytes=published.max_unpacked_bytes
        )
        for wanted in (published.ratings, published.items):
            if wanted not in files:
                raise DataError(f"{archive.name} has no file {wanted}; it has {', '.join(files)}")
        write_json(fresh / _NOTE, {**about, "files": files})
        with disk_errors(directory):
            fresh.rename(directory)
        fsync_directory(directory.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _published_md5(url: str) -> str:
    """MD5 that the publisher gives: ``MD5 (ml-1m.zip) = HEX`` or ``HEX  ml-25m.zip``."""
    text = small_text(f"{url}.md5").strip()
    file = re.escape(url.rsplit("/", 1)[-1])
    found = re.fullmatch(
        rf"MD5 ?\({file}\) ?= ?([0-9a-f]{{32}})|([0-9a-f]{{32}})(?: [ *]{file})?", text, re.I
    )
    if found is None:
        raise DataError(f"{url}.md5 is {text[:80]!r}; a line with the MD5 of the file is expected")
    return (found[1] or found[2]).lower()


def _check_md5(archive: Path, md5: str, url: str) -> None:
    with disk_errors(archive, "read"), archive.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    if digest.hexdigest() != md5:
        raise DataError(
            f"{url} arrived with the MD5 {digest.hexdigest()}; its publisher gives {md5}: what came"
            " was removed, run the command again"
        )


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
