"""`read_interactions`: any table of interactions to `Interactions`, every row accounted for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import pandas as pd

from recae.arguments import refuse_other
from recae.data.interactions import Interactions
from recae.data.readers.account import Account, rejects_file
from recae.data.readers.assemble import Rows, assemble
from recae.data.readers.batch import Checked, check
from recae.data.readers.blocks import Blocks
from recae.data.readers.columnar import (
    ArrowStream,
    open_parquet,
    parquet_batches,
    table_batches,
    table_names,
    table_of,
)
from recae.data.readers.columns import Columns, by_name
from recae.data.readers.id_table import with_items
from recae.data.readers.layout import open_layout
from recae.data.readers.options import ReadOptions
from recae.data.readers.sources import Part, list_parts, open_part
from recae.data.readers.text import checked_rows
from recae.errors import DataError, shown
from recae.storage import refuse_overwriting

_SPLITS = ("split", "fold", "part", "subset")  # told, never taken


@final
@dataclass(frozen=True, slots=True)
class _Table:
    """One file on its way: its columns, its rows with the line where each batch starts."""

    names: tuple[str, ...]
    columns: Columns
    rows: Iterator[tuple[Checked, int]]
    lines_read: Callable[[], int]
    notes: tuple[str, ...] = ()


def read_interactions(
    source: str | Path | pd.DataFrame | ArrowStream,
    *,
    items: str | Path | pd.DataFrame | ArrowStream | None = None,
    rejects: str | Path | None = None,
    **options: object,
) -> Interactions:
    """Read a table with one interaction to a row.

    Ids are text, kept byte for byte; users and items are numbered by first appearance. Rows of one
    (user, item) pair are merged: the latest by time, else by position, gives time, part and rating,
    the first gives the position. Then the rating decides whether the pair is positive
    (`min_rating`; without a minimum all are) or only seen (`Interactions.seen`). Every stored value
    is 1; `keep_ratings` stores the rating.

    Parameters
    ----------
    source
        A CSV or TSV file in UTF-8, plain, gz or zst; a Parquet file; a folder of such files with
        the same columns, read in name order; ``"-"``, standard input; a DataFrame; or a table that
        hands itself over as Arrow data, of pyarrow or Polars say. What a file is follows from its
        first bytes, not from its name. Ids of typed tables are text or whole numbers, which become
        plain decimal text.
    items
        A table of items, whose columns become ``item_table``: a file, a DataFrame, Arrow data.
    rejects
        A CSV file to write every malformed row to.
    **options
        The fields of `ReadOptions`.

    Returns
    -------
    Interactions
        With a `ReadReport` whose counts add up. Lines are counted from 1, in a folder through all
        files; rows of Parquet and of DataFrames count as lines.

    Raises
    ------
    ConfigError
        If an option is not accepted, or `rejects` names no file, or one that is read.
    DataError
        If the input is missing, binary, damaged, ambiguous, has too many malformed rows or no
        usable one, mixes units of time, or changes while it is read.
    ResourceError
        If `rejects` cannot be written.
    BusyError
        If another process is writing it.

    Examples
    --------
    >>> frame = pd.DataFrame({"user": ["u1", "u1"], "item": ["007", "7"]})
    >>> read_interactions(frame)
    Interactions(1 users x 2 items, 2 interactions, density 100.00%)
    """
    given = ReadOptions.of(options, where="read_interactions")
    options = {name: getattr(given, name) for name in options}
    refuse_other("rejects", rejects, str | Path | None, "the path of a file")
    read, described = (one if isinstance(one, str | Path) else None for one in (source, items))
    refuse_overwriting([("rejects", rejects)], [("the input", read), ("items", described)])
    items = items if items is None or described is not None else table_of(items, "items")
    rows = Rows()
    with rejects_file(None if rejects is None else Path(rejects)) as rejected:
        account = Account(source_name(source), rejected)
        for checked, line in rows_of(source, account, given):
            rows.add(checked, line)
    account.refuse_if_bad(given.max_bad_rows)
    data = assemble(rows, given, account)
    assert data.report is not None
    if not data.matrix.nnz:
        counts = (
            f"{reason} {dropped.rows}" for reason, dropped in data.report.rows_dropped.items()
        )
        why = ", ".join(counts)
        raise DataError(
            f"{account.source} has no usable rows among {account.rows_read}{why and f' ({why})'}"
        )
    data = replace(data, report=replace(data.report, options=options))
    return data if items is None else with_items(data, items, given)


def source_name(source: object) -> str:
    """Name of an input, for people."""
    if not isinstance(source, str | Path):
        return type(source).__name__
    return "standard input" if str(source) == "-" else Path(source).name


def rows_of(
    source: str | Path | pd.DataFrame | ArrowStream, account: Account, options: ReadOptions
) -> Iterator[tuple[Checked, int]]:
    """Rows of an input that count, some at a time, each with the line that is their line 0.

    All rows are counted in `account`, and what people should know is noted there.

    Raises
    ------
    ConfigError, DataError, ResourceError
        As in `read_interactions`.
    """
    of_source = (
        _rows_of_parts(list_parts(source), account, options)
        if isinstance(source, str | Path)
        else _rows_of_table(table_of(source), account, options)
    )
    for checked, part, line, before in of_source:
        account.rows_read += len(checked.user) + len(checked.rejects)
        account.reject(checked.rejects, part=part, line=line, before=before)
        account.pointed(checked.pointed)
        yield checked, line + before


def _rows_of_table(
    table: Any, account: Account, options: ReadOptions
) -> Iterator[tuple[Checked, str, int, int]]:
    names = table_names(table)
    columns = by_name(names, options, where=account.source)
    _tell_columns(names, columns, account, options)
    line = 1
    for batch in table_batches(table, columns):
        yield check(batch, options, None, where=account.source), account.source, line, 0
        line += len(batch.lines)


def _rows_of_parts(
    parts: list[Path | None], account: Account, options: ReadOptions
) -> Iterator[tuple[Checked, str, int, int]]:
    """Rows, the name of their file, the line of it that is their line 0, and the lines before."""
    before = 0
    names: tuple[str, ...] | None = None
    if len(parts) > 1:
        account.notices.append(
            f"{len(parts)} files; line numbers count through all of them, in name order"
        )
    for path in parts:
        with open_part(path) as part:
            table = (_parquet if part.kind == "parquet" else _text)(part, options)
            if names is None:
                names = table.names
                _tell_columns(names, table.columns, account, options)
                account.notices += table.notes
            elif table.names != names:
                raise DataError(
                    f"{part.name} has columns {shown(table.names, 12)}; the files before it have"
                    f" {shown(names, 12)}"
                )
            for checked, line in table.rows:
                yield checked, part.name, line, before
            before += table.lines_read()


def _text(part: Part, options: ReadOptions) -> _Table:
    blocks = Blocks(part.stream, part.name)
    layout = open_layout(blocks, options, where=part.name)
    rows = checked_rows(blocks, layout, options)
    return _Table(layout.names, layout.columns, rows, lambda: blocks.line - 1, layout.notes)


def _parquet(part: Part, options: ReadOptions) -> _Table:
    file = open_parquet(part.stream, part.name)
    names = tuple(file.schema_arrow.names)
    columns = by_name(names, options, where=part.name)

    def rows() -> Iterator[tuple[Checked, int]]:
        line = 1
        for batch in parquet_batches(file, columns, part.name):
            yield check(batch, options, None, where=part.name), line
            line += len(batch.lines)

    return _Table(names, columns, rows(), lambda: int(file.metadata.num_rows))


def _tell_columns(
    names: Sequence[str], columns: Columns, account: Account, options: ReadOptions
) -> None:
    roles = columns.roles()
    said = ", ".join(
        f"{role} {names[place]!r}" + (f" ({place + 1})" if names.count(names[place]) > 1 else "")
        for role, place in roles.items()
    )
    account.notices.append(f"columns read: {said}")
    split = next((name for name in names if name.strip().casefold() in _SPLITS), None)
    if columns.split is None and split is not None:
        account.notices.append(
            f"column {split!r} is not read; if it holds the split, name it with split_col"
            " (--split-col)"
        )
    asked = "keep_ratings" if options.keep_ratings else "min_rating"
    if (options.keep_ratings or options.min_rating is not None) and columns.rating is None:
        raise DataError(
            f"{account.source}: {asked} needs a rating column, none among {shown(names, 12)};"
            " name it with rating_col (--rating-col)"
        )
    if options.min_rating is None and columns.rating is not None:
        account.notices.append(
            f"ratings in column {names[columns.rating]!r} and no minimum: every row counts as a"
            " positive (min_rating, --min-rating)"
        )
