"""Whatever the bytes: no crash, counts that add up, and the fast path equal to the exact one."""

import io
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recae.data.readers import ReadOptions, read_interactions, text
from recae.data.readers.blocks import Blocks
from recae.data.readers.columns import Columns
from recae.data.readers.exact import read_exactly, split_line
from recae.data.readers.layout import Layout
from recae.errors import RecaeError

# Few characters, so that quotes, separators, line ends and repeated ids meet often.
TOKENS = st.sampled_from(
    [b"u", b"v", b"1", b"2.5", b",", b",", b",", b'"', b'"', b"\n", b"\n", b"\n", b"\r", b"\r\n"]
    + [b" ", b"\t", b"::", b";", b"\x00", b"\xff", b"\xc3\xa9", b"user,item\n", b"u,a,1\n", b"nan"]
    + [b'"v","b","2"\n', b"1500000000", b"0x1F", b"\x1f", b"\xef\xbb\xbf"]
)
TEXTS = st.lists(TOKENS, max_size=60).map(b"".join)
HEADERS = st.sampled_from(
    [b"", b"user,item\n", b"user,item,rating\n", b"user;item;ts\n", b'"user","item"\n']
)
LAYOUTS = st.sampled_from(
    [
        Layout(b",", ("user", "item"), Columns(0, 1), True),
        Layout(b",", ("user", "item", "rating"), Columns(0, 1, 2), True),
        Layout(b",", ("time", "item", "user"), Columns(2, 1, None, 0), True),
        Layout(b",", ("user", "item", "note"), Columns(0, 1), True),
        Layout(b"::", ("1", "2"), Columns(0, 1), False),
    ]
)


def accounted(source: bytes, **options: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_bytes(source)
        try:
            data = read_interactions(path, rejects=Path(folder) / "rejects.csv", **options)
        except RecaeError:
            return
        report = data.report
        assert report is not None
        dropped = sum(d.rows for d in report.rows_dropped.values())
        assert report.rows_read == report.rows_kept + report.rows_merged + dropped
        assert report.rows_kept == data.matrix.nnz > 0
        lines = source.count(b"\n") + source.count(b"\r") + 1
        assert report.rows_read <= lines
        assert all(1 <= line <= lines for d in report.rows_dropped.values() for line in d.lines)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"\x1f\x8b", b"PAR1", b"\x28\xb5\x2f\xfd"]))
def test_any_bytes(noise: bytes, magic: bytes) -> None:
    accounted(magic + noise, max_bad_rows=0.99)


TABLES = given(HEADERS, TEXTS, st.sampled_from([0.01, 0.9, 1000]), st.booleans())


@settings(max_examples=200, deadline=None)
@TABLES
def test_any_polluted_table(header: bytes, rows: bytes, bad: float, has_header: bool) -> None:
    accounted(header + rows, max_bad_rows=bad, header=has_header)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@TABLES
def test_any_polluted_table_of_many(
    header: bytes, rows: bytes, bad: float, has_header: bool
) -> None:
    accounted(header + rows, max_bad_rows=bad, header=has_header)


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


@settings(max_examples=600, deadline=None)
@given(TEXTS, LAYOUTS, st.sampled_from([1, 2, 5, 13, 50, 4096]), st.sampled_from([0, 3, 20]))
def test_fast_and_exact_agree_at_any_block_size(
    source: bytes, layout: Layout, size: int, piece: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "PIECE_BYTES", piece)
        try:
            fast = all_rows(source, layout, size)
        except RecaeError as error:
            fast = str(error)  # type: ignore[assignment]
        patch.setattr(text, "parse_plain", lambda *_: None)
        try:
            exact = all_rows(source, layout, 1 << 20)
        except RecaeError as error:
            exact = str(error)  # type: ignore[assignment]
    if isinstance(fast, str) or isinstance(exact, str):
        # which texts are shown depends on the block; that some mix is refused does not, but it
        # may be told only once all rows are in
        return
    assert fast == exact


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
    with pytest.raises(RecaeError, match="20001 of 20001 rows are malformed"):
        read_interactions(path)
    assert time.monotonic() - start < 20
