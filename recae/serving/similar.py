"""Neighbours of items: of one as an answer, of all to a file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from recae.data.ids import Id, id_texts
from recae.models.similar import NearestItems
from recae.serving.batch import Done
from recae.serving.bundle import Bundle
from recae.serving.lists import Format, ListWriter
from recae.serving.recommendations import Similar
from recae.serving.snapshot import Snapshot, whole_length
from recae.storage import atomic_file

_CHUNK = 1024  # items asked for and written at once


def similar_to(
    snapshot: Snapshot,
    item: Id,
    *,
    k: SupportsIndex,
    exclude: Iterable[Id] = (),
    candidates: Iterable[Id] | None = None,
) -> Similar:
    """Neighbours of `item`; see `recae.serving.RecommendationService.similar`."""
    asked = whole_length(k)
    warnings: list[str] = []
    target = snapshot.item_of(item)
    refused = snapshot.known("exclude", id_texts("exclude", exclude), warnings)
    allowed = snapshot.allowed(
        None if candidates is None else id_texts("candidates", candidates), warnings
    )
    bundle = snapshot.bundle
    top = snapshot.nearest.nearest(
        np.array([target], dtype=np.int64),
        k=min(asked, len(bundle.items)),
        candidates=allowed,
        exclude=refused,
    )
    length = int((top.items[0] >= 0).sum())
    return Similar(
        item=bundle.items.ids_at([target])[0],
        title=snapshot.title(target),
        complete=length == asked,
        items=snapshot.listed(top.items[0, :length], top.scores[0, :length]),
        warnings=tuple(warnings),
        model_name=bundle.model.name,
        model_version=bundle.version,
    )


def write_similar(bundle: Bundle, path: Path, *, k: int, file_format: Format) -> Done:
    """Write the neighbours of every item to `path`, which appears whole or not at all.

    Parameters
    ----------
    bundle
        A loaded version.
    path
        The file: ``target_item_id, item_id, score, rank`` and, where there are any, ``title``, a
        row a neighbour, ranks from 1; for ``"jsonl"`` a line an item.
    k
        Length of the lists.
    file_format
        One of `recae.serving.lists.FORMATS`.

    Returns
    -------
    Done
        Items as ``users``, rows, and items whose list is shorter than `k`.

    Raises
    ------
    ConfigError
        If the model has neither item vectors nor item-item weights.
    ResourceError
        If the disk is full.
    """
    nearest = NearestItems(bundle.model)
    with atomic_file(path) as file:
        return _write(bundle, nearest, file, k, file_format)


def stream_similar(bundle: Bundle, file: Any, *, k: int, file_format: Format) -> Done:
    """Write the neighbours of every item to an open binary file, a standard output say."""
    return _write(bundle, NearestItems(bundle.model), file, k, file_format)


def _write(bundle: Bundle, nearest: NearestItems, file: Any, k: int, file_format: Format) -> Done:
    items = bundle.items
    total = Done(0, 0, 0)
    titles = bundle.arrow_titles
    with ListWriter(file, file_format, owner="target_item_id", titles=titles) as writer:
        for start in range(0, len(items), _CHUNK):
            rows = slice(start, min(len(items), start + _CHUNK))
            asked = np.arange(rows.start, rows.stop, dtype=np.int64)
            top = nearest.nearest(asked, k=min(k, len(items)))
            writer.write(top, items, rows, items)
            lengths = (top.items >= 0).sum(axis=1)
            total += Done(len(lengths), int(lengths.sum()), int((lengths < k).sum()))
    return total
