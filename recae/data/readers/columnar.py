"""Tables that have types already: Parquet files and DataFrames, to batches of rows."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recae.arguments import refuse_other
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
        return pq.ParquetFile(stream, pre_buffer=False)  # else the whole file is held, compressed
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

    def column(batch: Any, place: int) -> Any:  # names may occur twice
        same = [at for at, name in enumerate(batch.schema.names) if name == names[place]]
        return batch.column(same[names[:place].count(names[place])])

    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(dict.fromkeys(wanted))):
            yield _batch({role: column(batch, place) for role, place in columns.roles().items()})
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is no readable Parquet file: {error}") from error


@runtime_checkable
class ArrowStream(Protocol):
    """A table that hands itself over in the Arrow format: of pyarrow, Polars, DuckDB, ..."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the capsule of the Arrow PyCapsule interface."""
        ...


def table_of(source: object, name: str = "source") -> Any:
    """DataFrame or Arrow table that `source` is; `name` is what it is called, for errors.

    Raises
    ------
    ConfigError
        If it is neither.
    DataError
        If it hands over what is no table.
    """
    if isinstance(source, pd.DataFrame):
        return source
    accepted = "a path, a DataFrame, a table of Arrow data"
    refuse_other(name, source, ArrowStream, accepted)
    try:
        return pa.table(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{type(source).__name__} is no readable table: {error}") from error


def table_names(table: Any) -> list[str]:
    """Column names of what `table_of` returned, as text; an index is no column."""
    names = table.columns if isinstance(table, pd.DataFrame) else table.column_names
    return [str(name) for name in names]


def table_batches(table: Any, columns: Columns) -> Iterator[Batch]:
    """Batches of what `table_of` returned.

    Raises
    ------
    DataError
        If a column mixes types, so that there is no one way to write its values as text.
    """
    if isinstance(table, pd.DataFrame):
        yield from _frame_batches(table, columns)
        return
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        yield _batch(
            {role: _common(batch.column(place)) for role, place in columns.roles().items()}
        )


def _common(array: Any) -> Any:
    """`array`, texts in the layout that every function of Arrow takes."""
    return array.cast(pa.large_string()) if pa.types.is_string_view(array.type) else array


def _frame_batches(frame: pd.DataFrame, columns: Columns) -> Iterator[Batch]:
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


def _each_once(array: Any) -> Any:
    """`array`; if it has a dictionary that holds a value twice, or none, with another one."""
    if not pa.types.is_dictionary(array.type):
        return array
    values = array.dictionary
    if not values.null_count and pc.count_distinct(values).as_py() == len(values):
        return array
    return array.dictionary_decode().dictionary_encode()


def _batch(arrays: dict[str, Any]) -> Batch:
    arrays = {role: _each_once(array) for role, array in arrays.items()}
    columns: Sequence[Any] = list(arrays.values())

    def raw(row: int) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow([c[row].as_py() for c in columns])
        return text.getvalue().encode("utf-8", "backslashreplace")

    return Batch(arrays, range(len(columns[0])), raw)
