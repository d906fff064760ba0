"""Saving a version: written beside, fsynced, renamed, pointed to; old ones pruned."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.errors import ConfigError, ResourceError
from recae.ranking.recommender import Recommender
from recae.serving import contents, layout
from recae.serving.bundle import ready_to_save
from recae.serving.card import model_card
from recae.serving.layout import Entry
from recae.storage import (
    directory_lock,
    disk_errors,
    fsync_directory,
    partial_name,
    write_atomic,
    write_parquet,
    write_safetensors,
)


def save_bundle(
    directory: str | Path,
    model: Recommender,
    *,
    items: IdMap,
    item_table: Any = None,
    users: IdMap | None = None,
    histories: Histories | None = None,
    codes: Mapping[str, np.ndarray] | None = None,
    popularity: Int64[np.ndarray, " items"],
    split: Mapping[str, object] | None = None,
    metrics: Mapping[str, object] | None = None,
    provenance: Mapping[str, object],
    keep: int = 3,
) -> str:
    """Save a fitted model as a new version of a model directory and point to it.

    Whatever happens on the way, the directory holds the version it held before or the new one,
    whole. Files it does not know are never touched.

    Parameters
    ----------
    directory
        New, empty, or a model directory.
    model
        Fitted, of a registered class.
    items
        Ids of its items, in index order.
    item_table
        Arrow table with one row an item, such as `Interactions.item_table`.
    users, histories
        People to be known by id, or None to leave people out.
    codes
        Arrays about the codes of these people; ``codes`` has a row for each of them.
    popularity
        Training interactions of each item, shape ``(items,)``.
    split, metrics, provenance
        JSON values kept beside the model.
    keep
        How many versions stay, the new one included; at least 1.

    Returns
    -------
    Id of the new version.

    Raises
    ------
    ConfigError
        If the directory is not accepted, the parts do not fit each other, or one could not be read
        again.
    NotFittedError
        If the model is not fitted.
    BusyError
        If another process is saving there.
    ResourceError
        If the disk refuses; the version before is still the current one.
    """
    root = Path(directory)
    ready_to_save(root)
    if keep < 1:
        raise ConfigError(f"keep is {keep}; at least 1 is accepted")
    _check_parts(model, items, item_table, users, histories, codes, popularity)
    config = contents.config_document(model)
    parts = {
        layout.CONFIG: config,
        layout.SPLIT: split,
        layout.METRICS: metrics,
        layout.PROVENANCE: provenance,
    }
    documents = {
        name: layout.document_bytes(name, part) for name, part in parts.items() if part is not None
    }
    n_users = None if users is None else len(users)
    card = model_card(
        config,
        note=model.note,
        n_users=n_users,
        split=split,
        metrics=metrics,
        provenance=provenance,
    )
    documents[layout.CARD] = layout.bounded(layout.CARD, card.encode())
    if not root.exists():
        with disk_errors(root):
            root.mkdir(parents=True, exist_ok=True)
        fsync_directory(root.parent)
    with directory_lock(root / layout.RUN, name="save.lock"):
        _sweep(root)
        staging = root / layout.STAGING
        with disk_errors(staging):
            staging.mkdir()
        try:
            files: dict[str, tuple[str, int]] = {}
            for name, document in documents.items():
                files[name] = write_atomic(staging / name, document)
            files[layout.MODEL] = write_safetensors(staging / layout.MODEL, model.arrays())
            table = contents.items_table(items, item_table, popularity)
            files[layout.ITEMS] = write_parquet(staging / layout.ITEMS, table)
            if users is not None and histories is not None:
                people = pa.table({"user_id": users.to_arrow()})
                arrays = contents.history_arrays(histories)
                files[layout.USERS] = write_parquet(staging / layout.USERS, people, mode=0o640)
                files[layout.HISTORIES] = write_safetensors(
                    staging / layout.HISTORIES, arrays, mode=0o640
                )
                if codes is not None:
                    files[layout.CODES] = write_safetensors(
                        staging / layout.CODES, dict(codes), mode=0o640
                    )
            number = 1 + max(layout.version_numbers(root).values(), default=0)
            entries = {name: Entry(*written) for name, written in files.items()}
            manifest = layout.manifest_json(number, entries)
            write_atomic(staging / layout.MANIFEST, manifest)
            version, sha256 = layout.version_id(manifest)
            with disk_errors(root / version):
                _remove_version(root / version)  # one that was damaged: whole ones differ in number
                staging.rename(root / version)
            fsync_directory(root)
        except BaseException:
            with suppress(ResourceError):
                _remove_version(staging)
            raise
        pointer = root / layout.POINTER
        if pointer.is_symlink():  # links are not followed when it is read
            pointer.unlink()
        write_atomic(pointer, layout.pointer_line(version, sha256))
        _prune(root, keep, version)
    return version


def _check_parts(
    model: Recommender,
    items: IdMap,
    item_table: Any,
    users: IdMap | None,
    histories: Histories | None,
    codes: Mapping[str, np.ndarray] | None,
    popularity: Int64[np.ndarray, " items"],
) -> None:
    n_items = model.n_items
    for name, found in (
        ("items", len(items)),
        ("popularity", len(popularity)),
        ("item_table", n_items if item_table is None else item_table.num_rows),
        ("histories", n_items if histories is None else histories.n_items),
    ):
        if found != n_items:
            raise ConfigError(f"{name} are about {found} items; the model knows {n_items}")
    if (users is None) != (histories is None):
        raise ConfigError("users and histories go together; one of them was given")
    if users is not None and histories is not None and len(users) != len(histories):
        raise ConfigError(f"{len(users)} users for {len(histories)} histories")
    n_codes = None if codes is None else len(codes.get("codes", ()))
    if n_codes is not None and (users is None or n_codes != len(users)):
        raise ConfigError(f"{n_codes} codes for {0 if users is None else len(users)} users")


def _sweep(root: Path) -> None:
    """Remove what killed saves left: the staging directory, and versions half removed."""
    _remove_version(root / layout.STAGING)
    for path in root.iterdir():
        if layout.is_version(path.name) and not (path / layout.MANIFEST).exists():
            _remove_version(path)


def _prune(root: Path, keep: int, newest: str) -> None:
    """Remove all but `newest`, whether it can be read or not, and the ``keep - 1`` before it."""
    numbers = layout.version_numbers(root)
    numbers.pop(newest, None)
    for version in sorted(numbers, key=lambda name: numbers[name], reverse=True)[keep - 1 :]:
        _remove_version(root / version)


def _remove_version(path: Path) -> None:
    """Remove the files of a version, its manifest first, and the directory if that empties it."""
    if path.is_symlink() or not path.is_dir():
        return
    known = (layout.MANIFEST, *layout.REQUIRED, *layout.OPTIONAL)
    with disk_errors(path, "remove"):
        for name in known:
            for file in (path / name, path / partial_name(name)):
                file.unlink(missing_ok=True)
        if not any(path.iterdir()):  # somebody's own file stays, and so does the directory
            path.rmdir()
