"""Tables that have types already: Parquet files and DataFrames, to batches of rows."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from recae.data.readers.batch import Batch
from recae.data.readers.columns import Columns
from recae.errors import DataError

BATCH_ROWS = 1 << 19


def open_parquet(stream: io.BufferedReader, name: str) -> Any:
    """Open a Parquet file.

    Raises
    ------
    DataError
        If it is damaged.
    """
    try:
        return pq.ParquetFile(stream)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is no readable Parquet file: {error}") from error


def parquet_batches(file: Any, columns: Columns, name: str) -> Iterator[Batch]:
    """Batches of a Parquet file, as many rows at a time as `BATCH_ROWS`.

    Raises
    ------
    DataError
        If the file is damaged.
    """
    names = file.schema_arrow.names
    wanted = [names[place] for place in columns.roles().values()]
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
            yield _batch({r: batch.column(names[p]) for r, p in columns.roles().items()})
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is no readable Parquet file: {error}") from error


def frame_names(frame: pd.DataFrame) -> list[str]:
    """Column names of a DataFrame as text; its index is no column."""
    return [str(name) for name in frame.columns]


def frame_batches(frame: pd.DataFrame, columns: Columns) -> Iterator[Batch]:
    """Batches of a DataFrame.

    Raises
    ------
    DataError
        If a column mixes types, so that there is no one way to write its values as text.
    """
    for start in range(0, len(frame), BATCH_ROWS):
        rows = frame.iloc[start : start + BATCH_ROWS]
        arrays = {}
        for role, place in columns.roles().items():
            try:
                array = pa.Array.from_pandas(rows.iloc[:, place])
            except (pa.ArrowException, OverflowError) as error:
                raise DataError(
                    f"the {role} column {frame.columns[place]!r} holds values of several types"
                    f" or too large ({error}); make it text with .astype(str)"
                ) from error
            arrays[role] = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        yield _batch(arrays)


def _batch(arrays: dict[str, Any]) -> Batch:
    columns: Sequence[Any] = list(arrays.values())

    def raw(row: int) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow([c[row].as_py() for c in columns])
        return text.getvalue().encode("utf-8", "backslashreplace")

    return Batch(arrays, range(len(columns[0])), raw)
