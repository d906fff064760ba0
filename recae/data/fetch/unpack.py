"""Unpacking archives one does not trust: plain files below one folder, bounded."""

import hashlib
import os
import stat
import zipfile
from pathlib import Path, PurePosixPath

from recae.errors import DataError
from recae.storage import disk_errors

_MAX_FILES = 100
_PIECE = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack(
    archive: Path, target: Path, *, folder: str, max_bytes: int
) -> dict[str, dict[str, object]]:
    """Unpack the folder `folder` of a zip archive as the new directory `target`.

    Everything is checked before the first byte is written: the archive holds plain files below
    `folder` and nothing else, no links, no absolute names, no ``..``, no name twice, nothing
    encrypted. Sizes are checked as declared and again as they come out.

    Returns
    -------
    Size and SHA-256 of each file by its name in `target`, as JSON values.

    Raises
    ------
    DataError
        If the archive is damaged or holds anything else.
    ResourceError
        If the disk refuses.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _checked(opened, archive.name, folder, max_bytes)
            with disk_errors(target):
                target.mkdir()
            return {
                str(name): _write(opened, member, target / name) for name, member in members.items()
            }
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{archive.name} is no whole zip archive: {error}") from error


def _checked(
    opened: zipfile.ZipFile, archive: str, folder: str, max_bytes: int
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for member in opened.infolist():
        name = PurePosixPath(member.orig_filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if (
            name.parts[:1] != (folder,)
            or ".." in name.parts
            or not member.orig_filename.isprintable()
            or set(member.orig_filename) & set("\\:")
            or kind not in {0, stat.S_IFREG, stat.S_IFDIR}
        ):
            raise DataError(
                f"{archive} holds {member.orig_filename!r}; plain files below {folder}/ are"
                " accepted"
            )
        if member.is_dir():
            continue
        if member.flag_bits & 1 or member.compress_type not in _METHODS:
            raise DataError(f"{archive}: {member.orig_filename!r} is encrypted or not deflated")
        inside = name.relative_to(folder)
        if inside in members or inside == PurePosixPath():
            raise DataError(f"{archive} holds {member.orig_filename!r} twice, or as its folder")
        members[inside] = member
    declared = sum(member.file_size for member in members.values())
    if len(members) > _MAX_FILES or declared > max_bytes:
        raise DataError(
            f"{archive} unpacks to {len(members)} files of {declared} bytes; at most {_MAX_FILES}"
            f" of {max_bytes} are accepted"
        )
    return members


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> dict[str, object]:
    digest = hashlib.sha256()
    size = 0
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened.open(member) as packed, path.open("xb") as file:
            while piece := packed.read(_PIECE):
                size += len(piece)
                if size > member.file_size:
                    raise DataError(f"{member.orig_filename!r} unpacks to more than it declares")
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()}
