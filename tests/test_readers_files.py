"""Files that are compressed, binary, missing, in parts, or change: what reaches the reader."""

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recae.data.readers import ReadOptions, read, read_interactions, sources
from recae.errors import BusyError, ConfigError, DataError, ResourceError
from recae.storage import atomic_file

TABLE = b"user,item,rating\n" + b"".join(b"u%d,i%d,%d\n" % (i, i * 7, i % 5) for i in range(2000))


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def written(folder: Path, data: bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(TABLE),
        gzip.compress(TABLE[:5000]) + gzip.compress(TABLE[5000:]),
        zstd(TABLE),
        zstd(TABLE[:5000]) + zstd(TABLE[5000:]),
    ],
    ids=["gz", "gz, two members", "zst", "zst, two frames"],
)
def test_compressed_is_read_whatever_its_name(data: bytes, tmp_path: Path) -> None:
    plain = read_interactions(written(tmp_path, TABLE))
    packed = read_interactions(written(tmp_path, data, "anything.txt"))
    assert packed.fingerprint() == plain.fingerprint()
    assert packed.matrix.nnz == 2000


def crc_damaged(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(TABLE)[:-9],
        gzip.compress(TABLE)[:2000],
        gzip.compress(TABLE)[:3],
        crc_damaged(gzip.compress(TABLE)),
        gzip.compress(TABLE) + b"tail",
        zstd(TABLE)[:-3],
        zstd(TABLE)[:500],
        zstd(TABLE) + b"tail",
    ],
    ids=["gz end", "gz cut", "gz head", "gz crc", "gz tail", "zst end", "zst cut", "zst tail"],
)
def test_damaged_compression_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="table.csv is damaged or cut short"):
        read_interactions(written(tmp_path, data))


def test_compressed_without_an_end_never_trains_on_half(tmp_path: Path) -> None:
    for cut in range(20, len(gzip.compress(TABLE)) - 1, 997):
        with pytest.raises(DataError):
            read_interactions(written(tmp_path, gzip.compress(TABLE)[:cut]))


def test_a_bomb_of_rows_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FREE_EXPANSION_BYTES", 1 << 20)
    bomb = gzip.compress(b"user,item\n" + b"u,i\n" * 4_000_000)
    with pytest.raises(DataError, match="expands more than 250 times"):
        read_interactions(written(tmp_path, bomb))


def test_a_bomb_of_one_line_is_refused_early(tmp_path: Path) -> None:
    bomb = gzip.compress(b"user,item\n" + b"u" * (1 << 26))
    with pytest.raises(DataError, match="more than 1 MiB"):
        read_interactions(written(tmp_path, bomb))


def binary_files() -> dict[str, bytes]:
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("table.csv", TABLE)
    array = io.BytesIO()
    np.save(array, np.arange(5))
    return {
        "zip": zipped.getvalue(),
        "PNG": b"\x89PNG\r\n\x1a\n" + bytes(50),
        "bzip2": bz2.compress(TABLE),
        "xz": lzma.compress(TABLE),
        "NumPy": array.getvalue(),
        "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01K\x02e.",
        "compressed twice": gzip.compress(gzip.compress(TABLE)),
        "binary": bytes(range(1, 9)) + bytes(90),
        "UTF-16": "user,item\nu,i\n".encode("utf-16"),
        "tar": b"table.csv".ljust(257, b"a") + b"ustar" + bytes(200),
        "Office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50),
    }


@pytest.mark.parametrize(("kind", "data"), binary_files().items(), ids=binary_files())
def test_binary_under_csv_is_refused_by_name(kind: str, data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"table.csv is .*{kind}"):
        read_interactions(written(tmp_path, data))


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path, b"", "t.parquet")
    pd.DataFrame({"user": ["u"] * 50, "item": [str(i) for i in range(50)]}).to_parquet(whole)
    data = whole.read_bytes()
    for damaged in (data[:40], b"PAR1", data[:-20] + data[-12:], data[:4] + bytes(60) + data[64:]):
        with pytest.raises(DataError, match="no readable Parquet"):
            read_interactions(written(tmp_path, damaged))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nested" / "sub").mkdir(parents=True)
    start = time.monotonic()
    for source, message in [
        (tmp_path / "missing.csv", "cannot read .*missing.csv: no such file"),
        (tmp_path / "fifo", "no regular file"),
        (Path("/dev/null"), "no regular file"),
        (tmp_path / "loop", "cannot read .*loop: too many levels"),
        (tmp_path / "empty", "folder without files"),
        (tmp_path / "nested", "nested/sub is no regular file; accepted: a file"),
        (tmp_path / "a\x00b", "cannot read"),
    ]:
        with pytest.raises(DataError, match=message):
            read_interactions(source)
    assert time.monotonic() - start < 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, TABLE)
    path.chmod(0)
    with pytest.raises(DataError, match="permission denied"):
        read_interactions(path)


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, TABLE)
    original = read.checked_rows

    def meanwhile(*args: object) -> object:
        yield from original(*args)  # type: ignore[arg-type]
        with path.open("ab") as file:
            file.write(b"u,i,1\n")

    monkeypatch.setattr(read, "checked_rows", meanwhile)
    with pytest.raises(DataError, match="table.csv changed while it was read"):
        read_interactions(path)


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    written(folder, b"user,item\nu,a\nv,b\n", "part-0.csv")
    written(folder, gzip.compress(b"user,item\nw,a\n,b\n"), "part-1.csv.gz")
    written(folder, b"", "_SUCCESS")
    written(folder, b"junk", ".part-0.crc")
    data = read_interactions(folder, rejects=tmp_path / "rejects.csv", max_bad_rows=1)
    assert data.users.to_arrow().to_pylist() == ["u", "v", "w"]
    assert data.report is not None
    assert data.report.rows_dropped["empty_user"].lines == (6,)
    assert any("2 files" in notice for notice in data.report.notices)
    text = (tmp_path / "rejects.csv").read_text()
    assert text == 'file,line,reason,text\npart-1.csv.gz,3,empty_user,",b"\n'
    written(folder, b"item,user\na,x\n", "part-2.csv")
    with pytest.raises(DataError, match=r"part-2.csv has columns 'item', 'user'; the files before"):
        read_interactions(folder)


def test_parquet_parts_count_lines_through(tmp_path: Path) -> None:
    for i, users in enumerate((["u", "v"], ["w", None])):
        pq.write_table(pa.table({"user": users, "item": ["a", "b"]}), tmp_path / f"{i}.parquet")
    data = read_interactions(tmp_path, max_bad_rows=1)
    assert data.report is not None
    assert data.report.rows_dropped["empty_user"].lines == (4,)


@pytest.mark.parametrize("data", [TABLE, gzip.compress(TABLE)], ids=["plain", "gz"])
def test_standard_input(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    piped = read_interactions("-")
    assert piped.fingerprint() == read_interactions(written(tmp_path, TABLE)).fingerprint()
    assert piped.report is not None
    assert piped.report.source == "standard input"


def test_a_real_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.write(writing, TABLE[:3000])
    os.close(writing)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        data = read_interactions("-", max_bad_rows=1)
    assert data.matrix.nnz > 100


def test_rejects_file_holds_every_malformed_row_and_nothing_else(tmp_path: Path) -> None:
    path = written(tmp_path, b"user,item,rating\nu,a\nv\xff,a,1\nv\x1b,a,1\nu,a,1\nu,b,5\n")
    rejects = tmp_path / "rejects.csv"
    read_interactions(path, rejects=rejects, max_bad_rows=0.9, min_rating=4)
    assert pd.read_csv(rejects, dtype=str).values.tolist() == [
        ["table.csv", "2", "malformed", "u,a"],
        ["table.csv", "3", "not_utf8", "v\\xff,a,1"],
        ["table.csv", "4", "control_character", "v\\x1b,a,1"],
    ]
    assert list(tmp_path.glob("*.partial")) == []


def test_rejects_are_kept_when_there_are_too_many(tmp_path: Path) -> None:
    path = written(tmp_path, b"user,item\nu,a\n,b\n")
    rejects = tmp_path / "rejects.csv"
    with pytest.raises(DataError, match=r"1 of 2 rows are malformed \(empty_user 1\).*line 3"):
        read_interactions(path, rejects=rejects)
    assert rejects.read_text().endswith('table.csv,3,empty_user,",b"\n')


def test_rejects_never_touch_the_input(tmp_path: Path) -> None:
    path = written(tmp_path, TABLE)
    items = tmp_path / "items.csv"
    items.write_bytes(b"item,title\nb,B\n")
    for source, rejects in ((path, path), (tmp_path, tmp_path / "rejects.csv"), (path, items)):
        with pytest.raises(ConfigError, match="rejects .* would change (the input|items) "):
            read_interactions(source, rejects=rejects, items=items)
    assert path.read_bytes() == TABLE


def test_rejects_need_a_place(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot write .*rejects\.csv: no such file"):
        read_interactions(written(tmp_path, TABLE), rejects=tmp_path / "no" / "rejects.csv")


def test_rejects_are_written_as_every_file_is(tmp_path: Path) -> None:
    path = written(tmp_path, b"user,item\nu,a\nu,b\n,c\n")
    rejects = tmp_path / "out" / "rejects.csv"
    rejects.parent.mkdir()
    with (
        atomic_file(rejects),
        pytest.raises(BusyError, match=r"rejects\.csv is being written by another process"),
    ):
        read_interactions(path, rejects=rejects, max_bad_rows=0.9)
    rejects.write_text("before")
    (rejects.parent / ".rejects.csv.partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ResourceError, match="links are not followed"):
        read_interactions(path, rejects=rejects, max_bad_rows=0.9)
    assert not (tmp_path / "elsewhere").exists()
    (rejects.parent / ".rejects.csv.partial").unlink()
    for name in ("damaged.csv", "missing.csv"):
        (tmp_path / "damaged.csv").write_bytes(b"user,item\n,b\n" + b"u" * (1 << 21))
        with pytest.raises(DataError):
            read_interactions(tmp_path / name, rejects=rejects, max_bad_rows=0.9)
        assert [p.name for p in rejects.parent.iterdir()] == ["rejects.csv"]
        assert rejects.read_text() == "before"
    read_interactions(path, rejects=rejects, max_bad_rows=0.9)
    assert rejects.read_text().splitlines()[1:] == ['table.csv,4,empty_user,",c"']


def test_a_full_disk_under_the_rejects_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    path = written(tmp_path, b"user,item\nu,a\n" + b",b\n" * 5)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ResourceError, match=r"cannot write .*rejects\.csv: no space left"):
        read_interactions(path, rejects=tmp_path / "rejects.csv", max_bad_rows=0.9)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize(
    ("bad", "limit", "accepted"),
    [(1, 0.01, True), (2, 0.01, False), (0, 0, True), (1, 0, False), (3, 3, True), (4, 3, False)],
)
def test_limit_of_malformed_rows(bad: int, limit: float, accepted: bool, tmp_path: Path) -> None:
    rows = [b",x"] * bad + [b"u,%d" % i for i in range(100 - bad)]
    path = written(tmp_path, b"user,item\n" + b"\n".join(rows))
    if accepted:
        data = read_interactions(path, max_bad_rows=limit)
        assert data.matrix.nnz == 100 - bad
    else:
        with pytest.raises(DataError, match=f"{bad} of 100 rows are malformed"):
            read_interactions(path, max_bad_rows=limit)


@pytest.mark.parametrize(
    "options",
    [
        {"sep": ""},
        {"sep": '"'},
        {"min_user": -1},
        {"min_rating": float("nan")},
        {"max_bad_rows": -0.1},
        {"max_id_length": 0},
        {"items_encoding": "utf-9"},
    ],
)
def test_options_that_make_no_sense(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=name):
        ReadOptions(**options)  # type: ignore[arg-type]


def test_unknown_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no option 'min_ratings'; it accepts .*min_rating"):
        read_interactions(written(tmp_path, TABLE), min_ratings=3)


def test_options_of_other_types_are_refused_and_numbers_of_numpy_are_numbers(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, TABLE)
    for options, said in (
        ({"min_rating": "4"}, "min_rating is '4'; it is of type float | int | None"),
        ({"min_user": True}, "min_user is True; it is of type int"),
        ({"user_col": 1.5}, "user_col is 1.5; it is of type str | None"),
    ):
        with pytest.raises(ConfigError, match=re.escape(f"read_interactions: option {said}")):
            read_interactions(path, **options)
    typed = read_interactions(path, min_user=np.int64(1))
    assert typed.report is not None
    assert type(typed.report.options["min_user"]) is int  # it is stored as JSON


def test_wide_tables_and_many_blocks(tmp_path: Path) -> None:
    header = b"user," + b",".join(b"c%d" % i for i in range(5000)) + b",item\n"
    rows = b"".join(b"u%d" % i + b",1" * 5000 + b",i\n" for i in range(900))
    data = read_interactions(written(tmp_path, header + rows))
    assert data.matrix.nnz == 900


# ---------------------------------------------------------------- what people are told to change


def test_no_flag_is_told_without_the_option_it_is_in_python() -> None:
    texts = {path: path.read_text() for path in Path(str(sources.__file__)).parent.glob("*.py")}
    flags = [
        (path.name, text[: found.start()], found.group(1))
        for path, text in texts.items()
        for found in re.finditer(r"--([a-z{][a-z{}-]*)", text)
    ]
    assert len(flags) > 10
    for name, before, flag in flags:
        option = "header=False" if flag == "no-header" else flag.replace("-", "_")
        assert option in before[-160:], (name, flag)


def test_a_frame_without_the_column_is_told_the_option_of_python() -> None:
    frame = pd.DataFrame({"who": ["u"], "item": ["i"], "rating": [5]})
    with pytest.raises(DataError, match=r"name it with user_col \(--user-col\)"):
        read_interactions(frame)
    data = read_interactions(frame, user_col="who")
    assert data.report is not None
    assert any("(min_rating, --min-rating)" in notice for notice in data.report.notices)
