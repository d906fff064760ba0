"""Whatever the bytes: no crash, counts that add up, and the fast path equal to the exact one."""

import io
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recae.data.readers import ReadOptions, read_interactions, text
from recae.data.readers.blocks import Blocks
from recae.data.readers.columns import Columns
from recae.data.readers.exact import MAX_LINE_BYTES, read_exactly, split_line
from recae.data.readers.layout import Layout
from recae.errors import ConfigError, DataError

# Noise, so that quotes, separators, line ends and repeated ids meet often.
TOKENS = st.sampled_from(
    [b"u", b"v", b"1", b"2.5", b",", b",", b",", b'"', b'"', b"\n", b"\n", b"\n", b"\r", b"\r\n"]
    + [b" ", b"\t", b"::", b";", b"\x00", b"\xff", b"\xc3\xa9", b"user,item\n", b"u,a,1\n", b"nan"]
    + [b'"v","b","2"\n', b"1500000000", b"0x1F", b"\x1f", b"\xef\xbb\xbf"]
)
NOISE = st.lists(TOKENS, max_size=60).map(b"".join)
# What a column holds, by the letter it has below.
FIELDS = {
    "u": st.sampled_from([b"u", b"v", b"w", b'"x"', b"\xc3\xa9"]),
    "i": st.sampled_from([b"a", b"b", b"1", b'"c d"', b"007"]),
    "r": st.sampled_from([b"1", b"2.5", b'"4"', b"-3e1"]),
    "t": st.sampled_from([b"1500000000", b"1500000001", b'"1600000000"', b"5"]),
    "n": st.sampled_from([b"", b"note", b'"two words"']),
}
ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\n\n"])


@st.composite
def rows_of(draw: st.DrawFn, columns: str, sep: bytes) -> bytes:
    """Well-formed rows with a few tokens of noise before, between and behind them, or many."""
    texts = [
        sep.join(draw(FIELDS[column]) for column in columns) + draw(ENDS)
        for _ in range(draw(st.integers(3, 12)))
    ]
    for _ in range(draw(st.integers(0, 3))):
        texts.insert(draw(st.integers(0, len(texts))), draw(st.one_of(TOKENS, TOKENS, NOISE)))
    return b"".join(texts)


HEADERS = st.sampled_from(
    [
        (b"", "ui", b","),
        (b"user,item\n", "ui", b","),
        (b"user,item,rating\n", "uir", b","),
        (b"user;item;ts\n", "uit", b";"),
        (b'"user","item"\n', "ui", b","),
    ]
)
LAYOUTS = st.sampled_from(
    [
        (Layout(b",", ("user", "item"), Columns(0, 1), True), "ui"),
        (Layout(b",", ("user", "item", "rating"), Columns(0, 1, 2), True), "uir"),
        (Layout(b",", ("time", "item", "user"), Columns(2, 1, None, 0), True), "tiu"),
        (Layout(b",", ("user", "item", "note"), Columns(0, 1), True), "uin"),
        (Layout(b"::", ("1", "2"), Columns(0, 1), False), "ui"),
    ]
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[bytes, dict[str, object]]:
    """A text file and how to read it."""
    header, columns, sep = draw(HEADERS)
    told = draw(st.sampled_from([True] * 9 + [False]))  # whether the option says what is there
    bad = draw(st.sampled_from([0.01, 0.9, 1000, 1000]))
    options = {"header": bool(header) == told, "max_bad_rows": bad}
    return header + draw(rows_of(columns, sep)), options


@st.composite
def blocks(draw: st.DrawFn) -> tuple[bytes, Layout]:
    """The rows of a text file and their layout."""
    layout, columns = draw(LAYOUTS)
    return draw(rows_of(columns, layout.sep)), layout


def accounted(source: bytes, **options: object) -> bool:
    """Whether `source` was read rather than refused; if so, every row is accounted for."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(source)
        try:
            data = read_interactions(path, rejects=Path(folder) / "rejects.csv", **options)
        except (ConfigError, DataError) as error:
            if "rows read are not" in str(error):  # an account that does not add up
                raise
            return False
        report = data.report
        assert report is not None
        dropped = sum(d.rows for d in report.rows_dropped.values())
        assert report.rows_read == report.rows_kept + report.rows_merged + dropped
        assert report.rows_kept == data.matrix.nnz > 0
        lines = source.count(b"\n") + source.count(b"\r") + 1
        assert report.rows_read <= lines
        assert all(1 <= line <= lines for d in report.rows_dropped.values() for line in d.lines)
        return True


MAGIC = st.sampled_from([b"", b"user,item\nu,a\n", b"\x1f\x8b", b"PAR1", b"\x28\xb5\x2f\xfd"])


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300), MAGIC)
def test_any_bytes(noise: bytes, magic: bytes) -> None:
    accounted(magic + noise, max_bad_rows=0.99)


@settings(max_examples=100, deadline=None)
@given(tables())
def test_any_polluted_table(table: tuple[bytes, dict[str, object]]) -> None:
    accounted(table[0], **table[1])


@pytest.mark.slow
@settings(max_examples=800, deadline=None)
@given(tables())
def test_any_polluted_table_of_many(table: tuple[bytes, dict[str, object]]) -> None:
    accounted(table[0], **table[1])


def all_rows(source: bytes, layout: Layout, size: int) -> tuple[list[object], list[object]]:
    options = ReadOptions()
    kept: list[object] = []
    rejected: list[object] = []
    blocks = Blocks(io.BytesIO(source), "table", size=size)
    for rows, line in text.checked_rows(blocks, layout, options):
        times = [None] * len(rows.user) if rows.times is None else rows.times.tolist()
        lines = [int(at) + line for at in rows.lines]
        kept += zip(rows.user.to_pylist(), rows.item.to_pylist(), times, lines, strict=True)
        rejected += [(at + line, reason, raw) for at, reason, raw in rows.rejects]
    return kept, rejected


def kept_by_both(source: bytes, layout: Layout, size: int, piece: int) -> int:
    """Rows that the fast reader and the exact one keep alike; 0 where one of them refuses all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "PIECE_BYTES", piece)
        try:
            fast = all_rows(source, layout, size)
            patch.setattr(text, "parse_plain", lambda *_: None)
            exact = all_rows(source, layout, 1 << 20)
        except DataError:
            # which texts are shown depends on the block; that some mix is refused does not, but it
            # may be told only once all rows are in
            return 0
    assert fast == exact
    return len(fast[0])


SIZES, PIECES = st.sampled_from([1, 2, 5, 13, 50, 4096]), st.sampled_from([0, 3, 20])


@settings(max_examples=100, deadline=None)
@given(blocks(), SIZES, PIECES)
def test_fast_and_exact_agree_at_any_block_size(
    rows: tuple[bytes, Layout], size: int, piece: int
) -> None:
    kept_by_both(*rows, size, piece)


def test_most_tables_are_read_to_the_end() -> None:
    """The properties above hold of something: refusals end them before their assertions."""
    read: list[bool] = []
    kept: list[int] = []

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(tables(), blocks(), SIZES, PIECES)
    def drawn(
        table: tuple[bytes, dict[str, object]], rows: tuple[bytes, Layout], size: int, piece: int
    ) -> None:
        read.append(accounted(table[0], **table[1]))
        kept.append(kept_by_both(*rows, size, piece))

    drawn()
    assert np.mean(read) >= 0.5
    assert np.mean(np.array(kept) > 0) >= 0.8


@given(st.lists(st.text("ab,\"\n :;'", max_size=6), min_size=1, max_size=5))
def test_what_a_csv_writer_quotes_comes_back(fields: list[str]) -> None:
    line = ",".join('"' + f.replace('"', '""') + '"' for f in fields).encode()
    assert split_line(line, b",") == [f.encode() for f in fields]
    every = range(len(fields))
    rows = read_exactly(
        line + b"\n", 0, len(line) + 1, sep=b",", n_fields=len(fields), used=every, multiline=every
    )
    assert [column[0].decode() for column in rows.fields] == fields
    assert rows.rejects == []


def test_unclosed_quotes_cost_linear_time(tmp_path: Path) -> None:
    source = b"user,item\n" + b'u,"a\n' * 20_000 + b'v,"' + b"x" * 1000
    path = tmp_path / "table.csv"
    path.write_bytes(source)
    start = time.monotonic()
    with pytest.raises(DataError, match="20001 of 20001 rows are malformed"):
        read_interactions(path)
    assert time.monotonic() - start < 20


def test_the_longest_record_ends_no_row(tmp_path: Path) -> None:
    """The limit falls into an id, which would otherwise be read as its first characters."""
    text = (b"x" * 1023 + b"\n") * (MAX_LINE_BYTES >> 10)
    path = tmp_path / "table.csv"
    path.write_bytes(b'note,user,item\n"' + text[:-11] + b',",uuuu,iiii\nz,v,b\n')
    data = read_interactions(path, max_bad_rows=MAX_LINE_BYTES)
    assert data.users.to_arrow().to_pylist() == ["v"]
    assert data.items.to_arrow().to_pylist() == ["b"]
