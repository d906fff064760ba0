"""Files about items or users: titles, countries and other columns, a row an id."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.data.readers.batch import as_ids, without_point
from recae.data.readers.blocks import Blocks
from recae.data.readers.columnar import open_parquet
from recae.data.readers.columns import find_column, named_alike
from recae.data.readers.exact import read_exactly, split_line
from recae.data.readers.layout import choose_separator, header_names
from recae.data.readers.options import ReadOptions
from recae.data.readers.sources import Part, list_parts, open_part
from recae.errors import ConfigError, DataError, shown

Role = Literal["item", "user"]

MAX_TABLE_BYTES = 1 << 30  # it is held as texts
MAX_LABELS = 50


def with_items(data: Interactions, items: Any, options: ReadOptions) -> Interactions:
    """`data` with the columns of an items file, a DataFrame or an Arrow table, as its item table.

    The item column becomes ``item_id``, the title column, if any, ``title``; which these are is
    noted. Items the file does not list have nulls; of items listed twice the first row counts.

    Raises
    ------
    DataError
        If the file is missing, damaged, not in ``items_encoding``, or has no column of item ids or,
        where one is named, of titles.
    """
    said: list[str] = []
    if isinstance(items, str | Path):
        name, table = Path(items).name, _table(items, "item", options, said)
    else:
        name = f"the {type(items).__name__} of items"
        table = _with_known_names(_arrow(items, name), "item", options, said, where=name)
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


def _arrow(table: Any, name: str) -> Any:
    """A DataFrame, whose index is no column, or an Arrow table, as an Arrow table."""
    if not isinstance(table, pd.DataFrame):
        return table
    try:
        named = table.rename(columns=str)
        return pa.Table.from_pandas(named, preserve_index=False).replace_schema_metadata()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(
            f"{name} has a column of several types ({error}); make it text with .astype(str)"
        ) from error


def user_labels(path: str | Path, names: Sequence[str], users: IdMap) -> dict[str, list[str]]:
    """Text of each of `users` in each column of `names`; ``"unknown"`` where the file has none.

    Of users listed twice the first row counts.

    Raises
    ------
    DataError
        If the file is missing, damaged, not UTF-8, or has no column of user ids.
    ConfigError
        If it has no column of such a name, or one has more than `MAX_LABELS` texts: groups that
        small tell nothing.
    """
    table = _table(path, "user", ReadOptions(), [])
    columns = table.column_names[1:]
    row_of = pc.index_in(users.to_arrow(), table["user_id"])
    found: dict[str, list[str]] = {}
    for name in names:
        if name not in columns:
            raise ConfigError(
                f"{Path(path).name} has no column {name!r}; it has {shown(columns, 12)}"
            )
        texts = table[name].take(row_of).cast(pa.string()).to_pylist()
        found[name] = [text or "unknown" for text in texts]
        if (n := len(set(found[name]))) > MAX_LABELS:
            raise ConfigError(f"column {name!r} has {n} texts; at most {MAX_LABELS} are accepted")
    return found


def _table(path: str | Path, role: Role, options: ReadOptions, said: list[str]) -> Any:
    """All of the file; what is worth telling about it goes to `said`."""
    name = Path(path).name
    parts = list_parts(path)
    if len(parts) > 1:
        raise DataError(f"{name} is a folder; accepted for {role}s: one file")
    with open_part(parts[0]) as part:
        if part.kind == "parquet":
            table = open_parquet(part.stream, part.name).read(use_threads=False)
        else:
            table = _text_table(part, role, options, said)
    return _with_known_names(table, role, options, said, where=name)


def _with_known_names(
    table: Any, role: Role, options: ReadOptions, said: list[str], *, where: str
) -> Any:
    """Table whose first column is ``item_id``, as text, and whose title column is ``title``.

    That of users has ``user_id``.
    """
    names = list(table.column_names)
    place = _id_place(names, role, options, where=where)
    renamed = {place: f"{role}_id"}
    if role == "item":
        title = _title_place(names, place, options, said, where=where)
        if title is not None:
            renamed[title] = "title"
        elif options.items_title_col == "" and "title" in names:
            renamed[names.index("title")] = f"column_{names.index('title') + 1}"
    for at, name in enumerate(names):
        clash = at not in renamed and name in renamed.values()
        names[at] = renamed.get(at, f"column_{at + 1}" if clash else name)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{where}: column {twice[0]!r} occurs more than once")
    ids = as_ids(table.column(place).combine_chunks(), role)
    if not options.ids_as_written:
        pointed: dict[str, tuple[int, str]] = {}
        ids = without_point(ids, role, pointed)
        said += [
            f"ids of {where} such as {w!r} are read as {w[:-2]!r}" for _, w in pointed.values()
        ]
    texts = ids.dictionary_decode().cast(pa.large_string())
    order = [place, *(i for i in range(len(names)) if i != place)]
    return table.rename_columns(names).set_column(place, f"{role}_id", texts).select(order)


def _id_place(names: list[str], role: Role, options: ReadOptions, *, where: str) -> int:
    """Position of the ids; the file may name them as the interactions do, or just ``id``."""
    asked = options.item_col if role == "item" else options.user_col
    given, option, hint = None, "", ""
    if role == "item":
        given, option = options.items_id_col, "items_id_col (--items-id-col)"
    else:
        option, hint = "its header", ": user_id"
    place = find_column(
        names,
        role,
        given or (asked if asked in names else None),
        needed=True,
        where=where,
        option=option,
        more=("id",),
        hint=hint,
    )
    assert place is not None
    return place


def _title_place(
    names: list[str], ids: int, options: ReadOptions, said: list[str], *, where: str
) -> int | None:
    """Position of the titles, if there are any; lists would come without them unnoticed."""
    given, option = options.items_title_col, "items_title_col (--items-title-col)"
    if given is None:
        found = [place for place in named_alike(names, "title") if place != ids]
        title = found[0] if len(found) == 1 else None
        few = shown([names[place] for place in found] or names, 12)
        none = f"{'more than one' if found else 'no'} column of titles in {where}: {few}; {option}"
    else:
        title = find_column(names, "title", given, needed=False, where=where, option=option)
        none = ""
    if title is not None:
        said.append(f"titles are column {names[title]!r} of {where}")
    elif none:
        said.append(f"{none} names it")
    return title


def _text_table(part: Part, role: Role, options: ReadOptions, said: list[str]) -> Any:
    """All columns of a text file, as texts; rows that are malformed are told in `said`."""
    blocks = Blocks(io.BytesIO(_utf8(part, role, options.items_encoding)), part.name)
    head = blocks.head(20)
    if not head:
        raise DataError(f"{part.name} has no rows")
    sep, names = _layout(head, role, options, where=part.name)
    if options.header:
        blocks.skip_line()
    chunks: list[list[list[bytes]]] = []
    rejected: list[tuple[int, str]] = []
    while (block := blocks.next(sep)) is not None:
        every = range(len(names))
        place = _id_place(names, role, options, where=part.name)
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


def _utf8(part: Part, role: Role, encoding: str) -> bytes:
    if role == "user":
        encoding = "utf-8"
    data = part.stream.read(MAX_TABLE_BYTES + 1)
    if len(data) > MAX_TABLE_BYTES:
        raise DataError(f"{part.name} is larger than {MAX_TABLE_BYTES >> 30} GiB")
    try:
        return data.decode(encoding).encode()
    except UnicodeError as error:
        at = getattr(error, "start", 0)
        line = data.count(b"\n", 0, at) + 1
        byte = at - data.rfind(b"\n", 0, at)
        do = "name its encoding with items_encoding (--items-encoding), such as latin-1"
        raise DataError(
            f"{part.name}: line {line}, byte {byte} is not {encoding};"
            f" {do if role == 'item' else 'nothing else is read'}"
        ) from error


def _layout(
    head: list[bytes], role: Role, options: ReadOptions, *, where: str
) -> tuple[bytes, list[str]]:
    """Separator and column names; without a header: ``item_id``, ``title``, ``column_3``, ..."""

    def attempt(sep: str) -> tuple[bytes, list[str]]:
        names = list(header_names(head[0], sep, where=where))
        if not options.header:
            widths = {len(split_line(line, sep.encode()) or ()) for line in head}
            if widths != {len(names)} or len(names) < 2:
                raise DataError(f"{where}: separator {sep!r} cuts the first lines unevenly")
            names = ["item_id", "title", *(f"column_{i}" for i in range(3, len(names) + 1))]
        _id_place(names, role, options, where=where)
        return sep.encode(), names

    if options.sep is not None:
        try:
            return attempt(options.sep)
        except DataError:
            pass  # the option is about the interactions; the items may differ
    return choose_separator(head[0], None, attempt, where=where)
