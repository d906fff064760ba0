"""Codes of people and vectors of items to a Parquet file: streamed, in constant memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Float32

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.errors import ConfigError
from recae.ranking.capabilities import Codes, ItemVectors
from recae.serving.bundle import Bundle
from recae.storage import atomic_file

_CHUNK: Final = 4096  # rows of the file made and written at once


def write_codes(bundle: Bundle, histories: Histories, users: IdMap, path: Path) -> int:
    """Write the code of each history to `path`, which appears whole or not at all.

    Parameters
    ----------
    bundle
        A loaded version.
    histories, users
        Whose codes: a history a row, and the ids of the rows.
    path
        Parquet file of ``user_id`` and ``code``, a list of float32 of one length.

    Returns
    -------
    Width of the codes.

    Raises
    ------
    ConfigError
        If the model makes no codes.
    ResourceError
        If the disk is full.
    """
    model = bundle.model
    if not isinstance(model, Codes):
        raise ConfigError(
            f"the {model.name} model makes no codes of histories; autoencoders and factor models do"
        )
    return _write(path, users, ("user_id", "code"), lambda rows: model.encode(histories.take(rows)))


def write_item_vectors(bundle: Bundle, path: Path) -> int:
    """Write the vector of each item to `path`, which appears whole or not at all.

    Parameters
    ----------
    bundle
        A loaded version.
    path
        Parquet file of ``item_id`` and ``vector``, a list of float32 of one length.

    Returns
    -------
    Width of the vectors.

    Raises
    ------
    ConfigError
        If the model has no vectors of items.
    ResourceError
        If the disk is full.
    """
    model = bundle.model
    if not isinstance(model, ItemVectors):
        raise ConfigError(
            f"the {model.name} model has no vectors of items; autoencoders and factor models have"
        )
    vectors = model.item_vectors()
    return _write(path, bundle.items, ("item_id", "vector"), lambda rows: vectors[rows])


def _write(
    path: Path,
    ids: IdMap,
    names: tuple[str, str],
    vectors_of: Callable[[slice], Float32[np.ndarray, "rows width"]],
) -> int:
    """Write an id and a vector a row; an empty table has vectors of the width of no rows."""
    first = vectors_of(slice(0, min(len(ids), _CHUNK)))
    width = int(first.shape[1])
    schema = pa.schema([(names[0], pa.large_string()), (names[1], pa.list_(pa.float32(), width))])
    with atomic_file(path) as file, pa.parquet.ParquetWriter(file, schema) as writer:
        for start in range(0, len(ids), _CHUNK):
            rows = slice(start, min(len(ids), start + _CHUNK))
            vectors = first if start == 0 else vectors_of(rows)
            flat = pa.array(np.ascontiguousarray(vectors).ravel())
            column = pa.FixedSizeListArray.from_arrays(flat, width)
            id_column = ids.to_arrow().slice(rows.start, rows.stop - rows.start)
            writer.write_table(pa.table([id_column, column], schema=schema))
    return width
