"""Model directories: immutable versions, and one pointer that makes replacing a model atomic."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.errors import BundleError, ConfigError, shown
from recae.ranking.recommender import Recommender
from recae.serving import contents, layout
from recae.serving.layout import Manifest
from recae.storage import directory_handle, partial_name

_ATTEMPTS = 5  # a save may prune the version that is being read; then the pointer has moved on


@final
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Bundle:
    """One version of a model directory, loaded and proved.

    Attributes
    ----------
    model
        The fitted model.
    items
        Ids of its items, in index order.
    item_table
        Arrow table with one row an item: ``item_id``, ``popularity`` and, if known, ``title``, ...
    titles
        Title of each item, or None when there are none.
    popularity
        Training interactions of each item, shape ``(items,)``.
    users, histories
        People whose history is known, and these; both None when they were left out.
    codes
        Arrays about the codes of these people, by name: ``codes`` has a row for each of them. None
        where none were stored.
    manifest
        What the version consists of.
    split, metrics
        How the data was split and what was measured, as JSON values, where that was saved.
    provenance
        Data fingerprint, seeds, versions, command, ...
    """

    model: Recommender
    items: IdMap
    item_table: Any
    titles: list[str | None] | None
    popularity: Int64[np.ndarray, " items"]
    users: IdMap | None
    histories: Histories | None
    codes: Mapping[str, np.ndarray] | None
    manifest: Manifest
    split: Mapping[str, Any] | None
    metrics: Mapping[str, Any] | None
    provenance: Mapping[str, Any]

    @property
    def arrow_titles(self) -> Any:
        """Titles as an Arrow array, for files of lists; None where there are none."""
        return None if self.titles is None else pa.array(self.titles, pa.large_string())

    @property
    def version(self) -> str:
        """Id of the version, ``v-`` and 16 hexadecimal digits."""
        return self.manifest.version

    @property
    def reading(self) -> Mapping[str, Any]:
        """Options that the training data was read with, of `read_interactions`.

        When format 1 was written every text was an id, ``12.0`` and ``NA`` too.
        """
        before: dict[str, Any] = {"ids_as_written": True} if self.manifest.format == 1 else {}
        return before | dict(self.provenance.get("read", {}))


@final
@dataclass(frozen=True, slots=True)
class Version:
    """A version that lies in a model directory.

    Attributes
    ----------
    version
        Its id.
    number
        Counts up with each save.
    current
        Whether the pointer names it.
    """

    version: str
    number: int
    current: bool


def load_bundle(directory: str | Path, *, version: str | None = None) -> Bundle:
    """Load a version of a model directory, the current one by default.

    Pointer, manifest and the hash of every file are proved before any content is looked into; each
    file is read once; no code in it runs.

    Raises
    ------
    BundleError
        If anything is missing, damaged, foreign or of a newer format; the message names the file.
    """
    root = Path(directory)
    manifest, files = _read(root, version)
    where = root / manifest.version
    documents = {
        name: layout.parse_json(files.pop(name), where / name)
        for name in manifest.files
        if name.endswith(".json")
    }
    model = contents.load_model(documents[layout.CONFIG], files.pop(layout.MODEL), where)
    items, table, popularity = contents.read_items(
        files.pop(layout.ITEMS), model.n_items, where / layout.ITEMS
    )
    users = histories = codes = None
    if layout.HISTORIES in files:
        histories = contents.read_histories(
            files.pop(layout.HISTORIES), model.n_items, where / layout.HISTORIES
        )
        users = contents.read_users(files.pop(layout.USERS), len(histories), where / layout.USERS)
    if layout.CODES in files and users is not None:
        path = where / layout.CODES
        codes = contents.read_codes(files.pop(layout.CODES), len(users), path)
    return Bundle(
        model=model,
        items=items,
        item_table=table,
        titles=contents.titles_of(table, where / layout.ITEMS),
        popularity=popularity,
        users=users,
        histories=histories,
        codes=codes,
        manifest=manifest,
        split=documents.get(layout.SPLIT),
        metrics=documents.get(layout.METRICS),
        provenance=documents[layout.PROVENANCE],
    )


def verify(directory: str | Path, *, version: str | None = None) -> Manifest:
    """Prove every file of a version, the current one by default, and return what it consists of.

    Raises
    ------
    BundleError
        As `load_bundle`, but contents that are proved are not looked into.
    """
    return _read(Path(directory), version)[0]


def _read(root: Path, version: str | None) -> tuple[Manifest, dict[str, bytes]]:
    for attempt in range(_ATTEMPTS):
        with _opened(root) as handle:
            named, sha256 = (
                (version, None) if version is not None else layout.read_pointer(root, handle)
            )
            if not layout.is_version(named):
                raise BundleError(f"{named!r:.40} is no version; they look like v-0123456789abcdef")
            try:
                with directory_handle(root / named, within=handle) as inside:
                    manifest = layout.read_manifest(root, inside, named, sha256)
                    return manifest, layout.read_files(root, inside, manifest)
            except BundleError:
                moved = version is None and layout.read_pointer(root, handle)[0] != named
                if not moved or attempt == _ATTEMPTS - 1:
                    raise
    raise AssertionError("the last attempt returns or raises")


def current_version(directory: str | Path) -> str:
    """Id of the version that the pointer of a model directory names.

    Raises
    ------
    BundleError
        If there is no such directory or its pointer is damaged.
    """
    root = Path(directory)
    with _opened(root) as handle:
        return layout.read_pointer(root, handle)[0]


def list_versions(directory: str | Path) -> list[Version]:
    """Versions that lie in a model directory, newest first; their files are not proved.

    Raises
    ------
    BundleError
        If there is no such directory or its pointer is damaged.
    """
    root = Path(directory)
    current = current_version(root)
    numbers = layout.version_numbers(root)
    newest_first = sorted(numbers, key=lambda version: (-numbers[version], version))
    return [Version(version, numbers[version], version == current) for version in newest_first]


def _opened(root: Path) -> Any:
    if not root.exists():
        raise BundleError(f"there is no model directory {root}")
    return directory_handle(root, follow=True)


def ready_to_save(directory: str | Path) -> None:
    """Refuse a path that `save_bundle` would refuse, before hours of training.

    Raises
    ------
    ConfigError
        If it is a file, or a directory of something else.
    """
    root = Path(directory)
    if root.exists() and not root.is_dir():
        raise ConfigError(f"{root} is a file; a model needs a new, empty or model directory")
    if not root.exists() or _is_model_directory(root):
        return
    foreign = sorted(path.name for path in root.iterdir() if not _is_ours(path.name))
    if foreign:
        raise ConfigError(
            f"{root} holds other files ({shown(foreign)}) and is no model directory;"
            " a model needs a new, empty or model directory"
        )


def _is_model_directory(root: Path) -> bool:
    try:
        with directory_handle(root, follow=True) as handle:
            layout.read_pointer(root, handle)
    except BundleError:
        return False
    return True


def files_of(directory: str | Path) -> list[Path]:
    """Where the files of a model directory are, or will be; those of others lie elsewhere in it."""
    root = Path(directory)
    versions = [path for path in root.glob("*") if layout.is_version(path.name)]
    return [root / layout.POINTER, root / layout.RUN, root / layout.STAGING, *versions]


def _is_ours(name: str) -> bool:
    ours = (layout.POINTER, partial_name(layout.POINTER), layout.STAGING, layout.RUN)
    return name in ours or layout.is_version(name)
