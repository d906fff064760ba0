"""Items files: titles and other columns of items, in the order of the items' indices."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recae.data.interactions import Interactions
from recae.data.readers.batch import as_ids
from recae.data.readers.blocks import Blocks
from recae.data.readers.columnar import open_parquet
from recae.data.readers.columns import ALIASES, find_column
from recae.data.readers.exact import read_exactly, split_line
from recae.data.readers.layout import choose_separator, header_names
from recae.data.readers.options import ReadOptions
from recae.data.readers.sources import Part, list_parts, open_part
from recae.errors import DataError

MAX_ITEMS_BYTES = 1 << 30  # items are held as texts


def with_items(data: Interactions, path: str | Path, options: ReadOptions) -> Interactions:
    """`data` with the columns of an items file as its item table.

    The item column becomes ``item_id``, the title column, if any, ``title``. Items the file does
    not list have nulls; of items listed twice the first row counts.

    Raises
    ------
    DataError
        If the file is missing, damaged, not in ``items_encoding``, or has no column of item ids.
    """
    name = Path(path).name
    parts = list_parts(path)
    if len(parts) > 1:
        raise DataError(f"{name} is a folder; accepted for items: one file")
    said: list[str] = []
    with open_part(parts[0]) as part:
        if part.kind == "parquet":
            table = open_parquet(part.stream, part.name).read(use_threads=False)
        else:
            table = _text_table(part, options, said)
    table = _with_known_names(table, options, where=name)
    ids = table["item_id"]
    row_of = pc.index_in(data.items.to_arrow(), ids)
    known = len(row_of) - row_of.null_count
    aligned = table.take(row_of).set_column(0, "item_id", data.items.to_arrow())
    said.append(f"{known} of {len(data.items)} items are in {name}")
    repeated = len(ids) - pc.count_distinct(ids, mode="all").as_py()
    if repeated:
        said.append(f"{repeated} rows of {name} repeat an item; its first row counts")
    assert data.report is not None
    report = replace(data.report, notices=(*data.report.notices, *said))
    return replace(data, item_table=aligned, report=report)


def _with_known_names(table: Any, options: ReadOptions, *, where: str) -> Any:
    """Table whose first column is ``item_id``, as text, and whose title column is ``title``."""
    names = list(table.column_names)
    place = _item_place(names, options, where=where)
    folded = [name.casefold() for name in names]
    title = next((folded.index(alias) for alias in ALIASES["title"] if alias in folded), None)
    if title is not None:
        names[title] = "title"
    names[place] = "item_id"
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{where}: column {twice[0]!r} occurs more than once")
    ids = as_ids(table.column(place).combine_chunks(), "item").dictionary_decode()
    order = [place, *(i for i in range(len(names)) if i != place)]
    named = table.rename_columns(names).set_column(place, "item_id", ids.cast(pa.large_string()))
    return named.select(order)


def _item_place(names: list[str], options: ReadOptions, *, where: str) -> int:
    given = options.item_col if options.item_col in names else None
    place = find_column(names, "item", given, needed=True, where=where)
    assert place is not None
    return place


def _text_table(part: Part, options: ReadOptions, said: list[str]) -> Any:
    """All columns of a text file of items, as texts; rows that are malformed are told in `said`."""
    blocks = Blocks(io.BytesIO(_utf8(part, options.items_encoding)), part.name)
    head = blocks.head(20)
    if not head:
        raise DataError(f"{part.name} has no rows")
    sep, names = _layout(head, options, where=part.name)
    if options.header:
        blocks.skip_line()
    chunks: list[list[list[bytes]]] = []
    rejected: list[tuple[int, str]] = []
    while (block := blocks.next(sep)) is not None:
        every = range(len(names))
        place = _item_place(names, options, where=part.name)
        rows = read_exactly(
            block.text, 0, block.stop, sep=sep, n_fields=len(names), used=every,
            multiline=[i for i in every if i != place],
        )  # fmt: skip
        if not block.plain:
            blocks.advance(rows.stop)
        chunks.append(rows.fields)
        rejected += [(blocks.line + line, reason) for line, reason, _ in rows.rejects]
        blocks.line += rows.stop_line
    columns = [
        pa.array([field for chunk in chunks for field in chunk[i]], pa.binary()).cast(pa.string())
        for i in range(len(names))
    ]
    if rejected:
        total = len(rejected) + len(columns[0])
        message = f"{len(rejected)} of {total} rows of {part.name} are malformed, the first in line"
        allowed = options.max_bad_rows * (total if options.max_bad_rows < 1 else 1)
        if len(rejected) > allowed:
            raise DataError(f"{message} {rejected[0][0]} (max_bad_rows, --max-bad-rows)")
        said.append(f"{message} {rejected[0][0]}; they are left out")
    return pa.table(columns, names=names)


def _utf8(part: Part, encoding: str) -> bytes:
    data = part.stream.read(MAX_ITEMS_BYTES + 1)
    if len(data) > MAX_ITEMS_BYTES:
        raise DataError(f"{part.name} is larger than {MAX_ITEMS_BYTES >> 30} GiB")
    try:
        return data.decode(encoding).encode()
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        line = data.count(b"\n", 0, at) + 1
        byte = at - data.rfind(b"\n", 0, at)
        raise DataError(
            f"{part.name}: line {line}, byte {byte} is not {encoding}; name its encoding with"
            " items_encoding (--items-encoding), such as latin-1"
        ) from error


def _layout(head: list[bytes], options: ReadOptions, *, where: str) -> tuple[bytes, list[str]]:
    """Separator and column names; without a header: ``item_id``, ``title``, ``column_3``, ..."""

    def attempt(sep: str) -> tuple[bytes, list[str]]:
        names = list(header_names(head[0], sep, where=where))
        if not options.header:
            widths = {len(split_line(line, sep.encode()) or ()) for line in head}
            if widths != {len(names)} or len(names) < 2:
                raise DataError(f"{where}: separator {sep!r} cuts the first lines unevenly")
            names = ["item_id", "title", *(f"column_{i}" for i in range(3, len(names) + 1))]
        _item_place(names, options, where=where)
        return sep.encode(), names

    if options.sep is not None:
        try:
            return attempt(options.sep)
        except DataError:
            pass  # the option is about the interactions; the items may differ
    return choose_separator(head[0], None, attempt, where=where)
