"""Text tables: blocks of lines to batches, by pyarrow where lines are clean, else exactly."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from recae.data.readers.batch import Batch, Checked, Lines, check, shifted
from recae.data.readers.blocks import BOM, Block, Blocks, lines_stand_alone
from recae.data.readers.exact import is_utf8, read_exactly
from recae.data.readers.layout import Layout
from recae.data.readers.options import ReadOptions

PIECE_BYTES = 64 << 10  # what a dirty line costs: this much is read again, or exactly
_IDS = pa.dictionary(pa.int32(), pa.string())
_TYPED = {"rating": pa.float64(), "time": pa.int64()}
_HEXADECIMAL = re.compile(rb"0[xX]")
_STAND_IN = b"\x1f"  # pyarrow cuts at one byte only

Parsed = tuple[list[Checked], int, int]


def checked_rows(
    blocks: Blocks, layout: Layout, options: ReadOptions
) -> Iterator[tuple[Checked, int]]:
    """Rows of a text table and, with each batch, the line its block starts with.

    Blocks of plain lines are read by several threads; the result does not depend on how many.

    Raises
    ------
    DataError
        If a line is too long, or times are counts in some rows and dates in others.
    """
    workers = min(4, os.cpu_count() or 1)
    pending: deque[Future[Parsed]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        while True:
            block = blocks.next(layout.sep)
            if block is not None and block.plain:
                pending.append(pool.submit(_parse_and_check, block, layout, options, blocks.name))
            enough = workers + 1 if block is not None and block.plain else 0
            while len(pending) > enough:
                checked, n_lines, _ = pending.popleft().result()
                yield from ((rows, blocks.line) for rows in checked)
                blocks.line += n_lines
            if block is None:
                return
            if not block.plain:  # where it ends is known only once it is read
                checked, n_lines, stop = _parse_and_check(block, layout, options, blocks.name)
                blocks.advance(stop)
                yield from ((rows, blocks.line) for rows in checked)
                blocks.line += n_lines


def _parse_and_check(block: Block, layout: Layout, options: ReadOptions, where: str) -> Parsed:
    batches, n_lines, stop = parse_block(block, layout)
    places = layout.columns
    header = (layout.names[places.user], layout.names[places.item]) if layout.has_header else None
    return [check(batch, options, header, where=where) for batch in batches], n_lines, stop


def parse_block(block: Block, layout: Layout) -> tuple[list[Batch], int, int]:
    """Batches of a block, the number of its lines, and the offset where its last row ends."""
    if block.plain:
        whole = parse_plain(block.text, layout) or parse_without_bad_lines(block.text, layout)
        if whole is not None:
            return [whole], _count_lines(block.text), block.stop
    batches = []
    start = line = 0
    while start < block.stop:
        end = block.text.find(b"\n", start + PIECE_BYTES, block.stop) + 1 or block.stop
        piece = block.text[start:end]
        batch = parse_plain(piece, layout) if _plain(piece, layout) else None
        if batch is not None:
            n_lines, start = _count_lines(piece), end
        else:
            batch, n_lines, start = _parse_exactly(block.text, start, end, layout)
        batches.append(_moved(batch, line))
        line += n_lines
    return batches, line, start


def parse_plain(text: bytes, layout: Layout) -> Batch | None:
    """Rows of lines that stand alone, by pyarrow; None if any is malformed or not UTF-8."""
    if not is_utf8(text):
        return None
    parsed = text
    if not layout.quoting:
        if _STAND_IN in text:
            return None
        parsed = text.replace(layout.sep, _STAND_IN)
    if text.startswith(BOM):
        parsed = b"\n" + parsed  # pyarrow takes the mark off every buffer; here it is text
    roles = layout.columns.roles()
    # Numbers straight from text, or, where pyarrow refuses one, texts to look at one by one.
    # It takes 0x1F for a whole number, which nothing else here does
    hexadecimal = (b"x" in text or b"X" in text) and _HEXADECIMAL.search(text)
    typed = roles.keys() & _TYPED.keys() and not hexadecimal
    for types in ([_TYPED] if typed else []) + [{}]:
        table = _arrow_table(parsed, layout, {r: types.get(r, _text_type(r)) for r in roles})
        if table is not None:
            lines = _row_lines(text, table.num_rows)
            columns = {r: _one_chunk(table.column(str(place))) for r, place in roles.items()}
            return Batch(columns, lines, _raw_of(text, lines))
    return None


def parse_without_bad_lines(text: bytes, layout: Layout) -> Batch | None:
    """Rows of lines without quotes, by pyarrow once malformed ones are taken out; else None."""
    if layout.quoting and b'"' in text:
        return None
    lines = text.split(b"\n")
    good, rejects = [], []
    for at, line in enumerate(lines):
        if not line:
            continue
        if not is_utf8(line):
            rejects.append((at, "not_utf8", line))
        elif line.count(layout.sep) != layout.n_fields - 1:
            rejects.append((at, "malformed", line))
        else:
            good.append(at)
    batch = parse_plain(b"\n".join([lines[at] for at in good]), layout) if good else None
    if batch is None:
        return None
    return Batch(batch.columns, np.array(good), batch.raw, rejects)


def _text_type(role: str) -> Any:
    return pa.string() if role in _TYPED else _IDS


def _arrow_table(text: bytes, layout: Layout, types: dict[str, Any]) -> Any:
    names = [str(i) for i in range(layout.n_fields)]
    columns = {names[place]: types[role] for role, place in layout.columns.roles().items()}
    try:
        return csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=names),
            csv.ParseOptions(
                delimiter=(layout.sep if layout.quoting else _STAND_IN).decode("latin-1"),
                quote_char='"' if layout.quoting else False,
            ),
            csv.ConvertOptions(
                check_utf8=False,  # checked before
                column_types=columns,
                include_columns=list(columns),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None


def _one_chunk(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _row_lines(text: bytes, n_rows: int) -> Lines:
    """Lines of `text` that hold its rows: all of them, or those that are not blank."""
    if n_rows == _count_lines(text):
        return range(n_rows)
    ends = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n"))
    lengths = np.diff(ends, prepend=-1, append=len(text)) - 1
    rows = np.flatnonzero(lengths > 0)
    assert len(rows) == n_rows
    return rows


def _count_lines(text: bytes) -> int:
    ends = int(np.count_nonzero(np.frombuffer(text, dtype=np.uint8) == ord("\n")))
    return ends + (not text.endswith(b"\n"))


def _raw_of(text: bytes, lines: Lines) -> Callable[[int], bytes]:
    split: list[bytes] = []

    def raw(row: int) -> bytes:
        if not split:  # only a batch with a row to reject is ever cut
            split.extend(text.split(b"\n"))
        return split[int(lines[row])]

    return raw


def _plain(piece: bytes, layout: Layout) -> bool:
    return not layout.quoting or lines_stand_alone(piece, layout.sep)


def _parse_exactly(text: bytes, start: int, stop: int, layout: Layout) -> tuple[Batch, int, int]:
    roles = layout.columns.roles()
    rows = read_exactly(
        text, start, stop, sep=layout.sep, n_fields=layout.n_fields, used=list(roles.values())
    )
    columns = {
        role: pa.array(fields, pa.binary()).cast(pa.string())
        for role, fields in zip(roles, rows.fields, strict=True)
    }
    lines = np.array(rows.lines, dtype=np.int64)
    return Batch(columns, lines, rows.raw.__getitem__, rows.rejects), rows.stop_line, rows.stop


def _moved(batch: Batch, by: int) -> Batch:
    rejects = [(line + by, reason, raw) for line, reason, raw in batch.rejects]
    return Batch(batch.columns, shifted(batch.lines, by), batch.raw, rejects)
