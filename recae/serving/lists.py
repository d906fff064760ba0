"""Ranked lists as CSV, Parquet or JSON lines: appended to an open file, a chunk at a time."""

import gzip
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recae.data.ids import IdMap
from recae.errors import ConfigError
from recae.ranking.topk import TopK

Format = Literal["csv", "tsv", "parquet", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz"]
FORMATS: tuple[Format, ...] = ("csv", "tsv", "parquet", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz")
_ENDINGS = {"csv": "csv", "tsv": "tsv", "json": "jsonl", "jsonl": "jsonl", "ndjson": "jsonl"}
_ENDINGS |= {"parquet": "parquet"}
_OTHERS = frozenset({"arrow", "bz2", "feather", "html", "md", "xls", "xlsx", "xz", "zip", "zst"})


def format_of(path: Path, given: Format | None = None) -> Format:
    """Format that the name of a file tells, and that is `given`; CSV where neither tells one.

    ``.json`` is JSON lines; ``.gz`` after another ending compresses.

    Raises
    ------
    ConfigError
        If the ending is of a format that lists are not written in, or not of the one given.
    """
    endings = path.name.lower().split(".")[1:]
    compressed = endings[-1:] == ["gz"]
    ending = (["", *endings])[-2 if compressed else -1]
    told = _ENDINGS.get(ending, given or "csv")
    meant = told if told.endswith(".gz") or not compressed else f"{told}.gz"
    if meant not in FORMATS or ending in _OTHERS or (given or meant) not in (told, meant):
        asked = "" if given is None else f" in format {given}"
        raise ConfigError(
            f"{path} cannot be written as it ends{asked}; .csv, .tsv, .jsonl or .json (JSON lines),"
            " each with or without .gz, and .parquet are accepted"
        )
    found: Format = next(one for one in FORMATS if one == meant)
    return found


@final
class ListWriter:
    """Appends chunks of lists to an open binary file; a context manager.

    Parameters
    ----------
    file
        Where to.
    file_format
        ``"csv"``, ``"tsv"`` and ``"parquet"``: a row an item, ranks from 1; ``"jsonl"``: a line a
        list; ``".gz"`` compresses. CSV has quotes around the ids that need them (RFC 4180), and no
        others.
    owner
        Name of the column that says whose list it is; ``item_id``, ``score`` and ``rank`` follow.
    titles
        Title of each item, an Arrow array of texts and nulls: a last column ``title``.
    header
        Whether CSV starts with the names of the columns.
    """

    def __init__(
        self,
        file: Any,
        file_format: Format,
        *,
        owner: str = "user_id",
        titles: Any = None,
        header: bool = True,
    ) -> None:
        self._file = file
        self._format, _, compressed = file_format.partition(".")
        self._compressed = bool(compressed)
        self._between = "\t" if self._format == "tsv" else ","
        self._owner = owner
        self._header = header
        self._titles = titles
        self._schema = pa.schema(
            [
                (owner, pa.large_string()),
                ("item_id", pa.large_string()),
                ("score", pa.float32()),
                ("rank", pa.int32()),
                *([] if titles is None else [("title", pa.large_string())]),
            ]
        )
        self._stack = ExitStack()
        self._arrow: Any = None

    def __enter__(self) -> "ListWriter":
        if self._compressed:  # the same lists are the same bytes: no name and no time in them
            self._file = self._stack.enter_context(
                gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._file, mtime=0)
            )
        if self._format == "parquet":
            self._arrow = pa.parquet.ParquetWriter(self._file, self._schema, compression="zstd")
            self._stack.enter_context(self._arrow)
        elif self._format != "jsonl" and self._header:
            self._file.write(self._between.join(self._schema.names).encode() + b"\n")
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def write(self, top: TopK, owners: IdMap, rows: slice, items: IdMap) -> None:
        """Append the lists of `rows` of `owners`, without the padding of short lists."""
        there = top.items >= 0
        owner, place = np.nonzero(there)
        whose = owners.to_arrow().slice(rows.start, rows.stop - rows.start)
        listed = pa.array(top.items[there])
        table = pa.table(
            [
                whose.take(pa.array(owner)),
                items.to_arrow().take(listed),
                pa.array(top.scores[there]),
                pa.array((place + 1).astype(np.int32)),
                *([] if self._titles is None else [self._titles.take(listed)]),
            ],
            schema=self._schema,
        )
        if self._arrow is not None:
            self._arrow.write_table(table)
            return
        if self._format != "jsonl":
            self._file.write(_csv_lines(table, self._between))
            return
        scores = table["score"].cast(pa.string()).to_pylist()  # the shortest text of a float32
        places = [
            {"item_id": item, "score": float(score)}
            for item, score in zip(table["item_id"].to_pylist(), scores, strict=True)
        ]
        if self._titles is not None:
            for at, title in zip(places, table["title"].to_pylist(), strict=True):
                at["title"] = title
        stops = np.cumsum(there.sum(axis=1)).tolist()
        for id_, start, stop in zip(whose.to_pylist(), [0, *stops[:-1]], stops, strict=True):
            line = json.dumps({self._owner: id_, "items": places[start:stop]}, ensure_ascii=False)
            self._file.write(line.encode() + b"\n")

    def copy(self, source: Any) -> None:
        """Append an open file that another writer of the same format wrote without a header."""
        if self._format == "parquet":
            for batch in pa.parquet.ParquetFile(source).iter_batches():
                self._arrow.write_batch(batch)
            return
        if self._compressed:
            source = gzip.GzipFile(fileobj=source)
        while block := source.read(1 << 20):
            self._file.write(block)


def _csv_lines(table: Any, between: str) -> memoryview:
    """Rows of lists as CSV or TSV: numbers as Arrow writes them, texts quoted where they need it.

    Arrow's own writer quotes either all texts of a file or none.
    """
    owner, item, score, rank, *titles = (column.combine_chunks() for column in table.columns)
    text = pa.large_string()
    cells = [_quoted(owner, between), _quoted(item, between), score.cast(text), rank.cast(text)]
    cells += [_quoted(pc.fill_null(column, ""), between) for column in titles]
    end, nothing = pa.scalar("\n", text), pa.scalar("", text)
    cells[-1] = pc.binary_join_element_wise(cells[-1], end, nothing)
    lines = pc.binary_join_element_wise(*cells, pa.scalar(between, text))
    _, offsets, content = lines.buffers()
    if not len(lines):
        return memoryview(b"")
    stop = np.frombuffer(offsets, dtype=np.int64)[lines.offset + len(lines)]
    return memoryview(content)[:stop]


def _quoted(texts: Any, between: str) -> Any:
    needed = pc.match_substring_regex(texts, f'["{between}\r\n]')
    if not pc.any(needed, min_count=0).as_py():
        return texts
    inside = pc.replace_substring(texts, '"', '""')
    quote = pa.scalar('"', pa.large_string())
    quoted = pc.binary_join_element_wise(quote, inside, quote, pa.scalar("", pa.large_string()))
    return pc.if_else(needed, quoted, texts)
