"""Files of lists for many people: whatever moment a process dies at, nobody is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recae
from recae.cli.main import run
from recae.errors import BusyError, ConfigError
from recae.serving import batch
from recae.serving.batch import Asked, Done, write_recommendations
from recae.serving.lists import format_of
from recae.storage import directory_lock

CHANGES = (
    *("open", "write", "ftruncate", "fchmod", "fsync"),
    *("replace", "rename", "unlink", "mkdir", "rmdir"),
)


class Died(BaseException):
    """The process is gone: nothing catches it, and nothing of it reaches the disk any more."""


class Disk:
    """What changes the disk, one change after another, until the process dies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left: int | None = None
        self.seen: list[str] = []
        for name in CHANGES:
            real = getattr(os, name) if name != "fsync" else lambda _: None  # the power stays on
            monkeypatch.setattr(os, name, self._counted(name, real))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **options: Any) -> Any:
            if self._left == 0 and name == "write":
                real(args[0], bytes(args[1])[: len(args[1]) // 2])  # half of it arrives
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    raise Died
            self.seen.append(name)
            return real(*args, **options)

        return change

    def dies_after(self, changes: int, work: Callable[[], object]) -> bool:
        """Whether `work` was cut short after so many changes."""
        self._left, self.seen = changes, []
        try:
            work()
        except Died:
            return True
        finally:
            self._left = None
        return False


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.fixture(autouse=True)
def parts_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "PART", 3)


@pytest.fixture(scope="module")
def data() -> recae.Interactions:
    """Eight people, so parts of three, three and two, each of whom has seen another item."""
    return recae.read_interactions(
        pd.DataFrame({"user": [f"u{i}" for i in range(8)], "item": [f"i{i}" for i in range(8)]})
    )


@pytest.fixture(scope="module")
def write(data: recae.Interactions) -> Callable[..., Done]:
    """Write lists of length `k` of everybody to a path, resuming."""
    model = recae.Popularity().fit(data)

    def _write(path: Path, k: int = 4) -> Done:
        return write_recommendations(
            Asked(model, data.items, k), [(data.histories(), data.users)], path,
            file_format=format_of(path), resume=True,
        )  # fmt: skip

    return _write


@pytest.fixture
def unbroken(write: Callable[..., Done], tmp_path: Path, suffix: str) -> dict[int, bytes]:
    """What a run that nothing interrupts writes, for each `k`."""
    path = tmp_path / f"unbroken{suffix}"
    found = {}
    for k in (4, 3):
        assert write(path, k) == Done(users=8, rows=8 * k, short=0)
        assert sorted(tmp_path.iterdir()) == [path]  # nothing is left beside it
        found[k] = path.read_bytes()
    assert found[4] != found[3]
    return found


@pytest.mark.parametrize(
    ("suffix", "k", "before"),
    [
        (".csv", 3, "nothing"),
        (".parquet", 4, "another file"),
        pytest.param(".csv", 4, "nothing", marks=pytest.mark.slow),
        pytest.param(".jsonl", 3, "another file", marks=pytest.mark.slow),
    ],
)
def test_whatever_change_a_process_dies_at_the_next_run_loses_nobody(
    write: Callable[..., Done],
    disk: Disk,
    tmp_path: Path,
    unbroken: dict[int, bytes],
    suffix: str,
    k: int,
    before: str,
) -> None:
    refused: list[str] = []
    for changes in count():
        path = tmp_path / str(changes) / f"lists{suffix}"
        path.parent.mkdir()
        if before == "another file":
            path.write_bytes(b"before")
        died = disk.dies_after(changes, lambda path=path: write(path))
        if path.exists():
            assert path.read_bytes() in (b"before", unbroken[4])
        else:
            assert before == "nothing"
        if not died:
            break
        try:
            done = write(path, k)
        except ConfigError as error:  # another question; the first one still goes on
            refused.append(str(error))
            assert write(path, 4).users == 8
            assert path.read_bytes() == unbroken[4]
        else:
            assert done == Done(users=8, rows=8 * k, short=0)
            assert path.read_bytes() == unbroken[k]
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    # The question, three parts with their counts, and the file; all but the last are removed, and
    # so is the lock.
    assert disk.seen.count("replace") == 1 + 3 * 2 + 1
    assert disk.seen.count("unlink") == 1 + 3 * 2 + 1
    assert disk.seen[0] == "mkdir"
    assert disk.seen[-1] == "rmdir"
    assert changes == len(disk.seen) > 50
    assert bool(refused) == (k != 4)
    assert all("parts of another question" in message for message in refused)


@pytest.mark.parametrize("suffix", [".csv"])
def test_runs_that_die_one_after_another_end_with_the_file_of_their_question(
    write: Callable[..., Done], disk: Disk, tmp_path: Path, unbroken: dict[int, bytes]
) -> None:
    path = tmp_path / "lists.csv"
    rng = np.random.default_rng(0)
    ended = []
    for _ in range(200):
        k = int(rng.choice([4, 3], p=[0.8, 0.2]))
        try:
            died = disk.dies_after(int(rng.integers(100)), lambda k=k: write(path, k))
        except ConfigError:
            continue
        if not died:
            ended.append(k)
            assert path.read_bytes() == unbroken[k]
    assert set(ended) == {4, 3}


@pytest.mark.parametrize("suffix", [".csv"])
@pytest.mark.parametrize("damage", ["gone", "short", "other", "counts", "of fewer people"])
def test_a_part_that_is_not_what_was_written_is_made_again(
    write: Callable[..., Done],
    tmp_path: Path,
    unbroken: dict[int, bytes],
    damage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "lists.csv"
    if damage == "of fewer people":  # of a version that cut people otherwise
        monkeypatch.setattr(batch, "PART", 2)
    real = batch._Parts.join
    monkeypatch.setattr(batch._Parts, "join", lambda *_: None)
    write(path)
    monkeypatch.setattr(batch._Parts, "join", real)
    monkeypatch.setattr(batch, "PART", 3)
    part = tmp_path / "lists.csv.parts" / f"part-{0 if damage == 'of fewer people' else 3:012d}"
    content = part.read_bytes()
    if damage == "gone":
        part.unlink()
    elif damage == "short":
        part.write_bytes(content[:-1])
    elif damage == "other":
        part.write_bytes(content.replace(b"u3", b"u4"))
    elif damage == "counts":
        part.with_suffix(".json").unlink()
    assert write(path) == Done(users=8, rows=32, short=0)
    assert path.read_bytes() == unbroken[4]


@pytest.mark.parametrize("suffix", [".csv"])
def test_parts_of_an_unknown_question_are_not_taken(
    write: Callable[..., Done], disk: Disk, tmp_path: Path, unbroken: dict[int, bytes]
) -> None:
    path = tmp_path / "lists.csv"
    assert disk.dies_after(50, lambda: write(path))
    parts = tmp_path / "lists.csv.parts"
    assert (parts / "part-000000000000.json").exists()
    (parts / "question.json").unlink()
    (parts / "note.txt").write_text("of somebody else")
    assert write(path, 3) == Done(users=8, rows=24, short=0)
    assert path.read_bytes() == unbroken[3]
    assert [p.name for p in parts.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_shards_that_die_leave_no_sign_of_success_over_two_questions(
    data: recae.Interactions, disk: Disk, tmp_path: Path, step: int
) -> None:
    model, out = tmp_path / "model", tmp_path / "lists"
    recae.save(recae.Popularity().fit(data), model, data=data)

    def shard(number: int, k: int) -> int:
        asked = ["recommend", model, "--users", "all", "-o", out, "--resume", "-k", k]
        return run([*map(str, asked), "--shard", f"{number}/2"], debug=False)

    def content() -> list[bytes]:
        return [(out / f"part-0000{i}-of-00002.csv").read_bytes() for i in (1, 2)]

    def both(k: int) -> list[bytes]:
        for name in out.glob("*.parts"):
            shutil.rmtree(name)
        shard(1, k)  # exits with 2 while the other is of another question
        assert shard(2, k) == 0
        assert (out / "_SUCCESS").exists()
        return content()

    unbroken = {k: both(k) for k in (3, 4)}
    died = 0
    for number in (1, 2):
        for changes in count(number - 1, step):
            assert both(4) == unbroken[4]
            if not disk.dies_after(changes, lambda n=number: shard(n, 3)):
                break
            died += 1
            if (out / "_SUCCESS").exists() or (out / "manifest.json").exists():
                assert content() == unbroken[4]
            shard(3 - number, 4)  # the other again: the one that died is still not whole
            if (out / "_SUCCESS").exists():
                assert content() == unbroken[4]
    assert died > 100 // step
    assert both(3) == unbroken[3]


@pytest.mark.parametrize("suffix", [".csv"])
def test_two_processes_do_not_resume_one_file(
    write: Callable[..., Done], tmp_path: Path, unbroken: dict[int, bytes]
) -> None:
    path = tmp_path / "lists.csv"
    with directory_lock(tmp_path / "lists.csv.parts"), pytest.raises(BusyError, match="in use by"):
        write(path)
    assert not path.exists()
    write(path)
    assert path.read_bytes() == unbroken[4]


# ---------------------------------------------------------------- reading and ranking at once


def test_the_next_group_is_made_while_one_is_used_and_no_more() -> None:
    made: list[int] = []
    used: list[int] = []
    second = Event()

    def groups() -> Iterator[Any]:
        for number in range(4):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    def use(group: Any, left: Event) -> None:
        if group == 0:
            assert second.wait(30)  # the next is made meanwhile
            sleep(0.05)
            assert made == [0, 1]
        assert not left.is_set()
        used.append(group)

    batch._while_reading(groups(), use)
    assert used == [0, 1, 2, 3]


def test_what_goes_wrong_on_either_side_is_raised_and_ends_the_other() -> None:
    told: list[bool] = []
    closed = Event()

    def groups(bad: bool) -> Iterator[Any]:
        try:
            yield 0
            if bad:
                raise ConfigError("no second group")
            yield 1
            yield 2
        finally:
            closed.set()

    def until_left(_: Any, left: Event) -> None:
        told.append(left.wait(30))
        raise CancelledError

    with pytest.raises(ConfigError, match="no second group"):
        batch._while_reading(groups(bad=True), until_left)
    assert told == [True]

    def fail(_: Any, __: Event) -> None:
        raise ConfigError("no list")

    closed.clear()
    with pytest.raises(ConfigError, match="no list"):
        batch._while_reading(groups(bad=False), fail)
    assert closed.is_set()


def test_lists_that_nobody_asks_for_any_more_are_no_part(
    data: recae.Interactions, tmp_path: Path
) -> None:
    left = Event()
    left.set()
    parts = batch._Parts(tmp_path / "lists.csv", tmp_path, "csv", {})
    asked = Asked(recae.Popularity().fit(data), data.items, 4)
    with pytest.raises(CancelledError):
        parts.write(0, asked, (data.histories(), data.users), left)
    assert [p.name for p in tmp_path.iterdir()] == ["question.json"]


@pytest.mark.parametrize("options", [["--resume"], []])
@pytest.mark.parametrize("sent", ["", "user,item\nu1,i1\nu2,i2\n"])
def test_a_pipe_that_says_nothing_more_does_not_keep_a_process_that_is_stopped(
    data: recae.Interactions, tmp_path: Path, options: list[str], sent: str
) -> None:
    recae.save(recae.Popularity().fit(data), tmp_path / "model", data=data)
    out = tmp_path / "out"
    out.mkdir()
    asked = ["--interactions", "-", "--grouped", "-o", out / "lists.csv", "--rejects", out / "bad"]
    with subprocess.Popen(
        [sys.executable, "-m", "recae", "recommend", tmp_path / "model", *asked, *options],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(sent)
        process.stdin.flush()
        while not any(name.name.startswith(".bad") for name in out.iterdir()):
            sleep(0.01)  # until it reads
        for _ in range(5):  # one that comes just before the read is only noticed with the next
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)  # a second signal would stop the clean-up
                break
        assert process.returncode == 130
        assert "Fatal" not in process.stderr.read()
    left = {path.name for path in out.iterdir()}
    assert left == ({"lists.csv.parts"} if options else set())


@pytest.mark.parametrize("resume", [False, True])
def test_titles_are_a_last_column_where_there_are_any(
    data: recae.Interactions, tmp_path: Path, resume: bool
) -> None:
    titles = pa.array(["One", None, 'a "b", c', *"45678"], pa.large_string())
    of_item = dict(zip(data.items, titles.to_pylist(), strict=True))
    asked = Asked(recae.Popularity().fit(data), data.items, 7, titles=titles)
    people = [(data.histories(), data.users)]
    for name in ("t.csv", "t.parquet", "t.jsonl"):
        path = tmp_path / name
        done = write_recommendations(
            asked, people, path, file_format=format_of(path), resume=resume
        )
        assert done.rows == 56
    frame = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)
    assert list(frame.columns) == ["user_id", "item_id", "score", "rank", "title"]
    assert frame["title"].tolist() == [of_item[item] or "" for item in frame["item_id"]]
    table = pq.read_table(tmp_path / "t.parquet")
    assert table["title"].to_pylist() == [of_item[item] for item in table["item_id"].to_pylist()]
    lines = [json.loads(text) for text in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert all(at["title"] == of_item[at["item_id"]] for one in lines for at in one["items"])
