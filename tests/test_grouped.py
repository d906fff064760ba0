"""People read in groups: the same lists as reading all at once, in memory that does not grow."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import recae
from recae.cli import grouped_people
from recae.cli.main import run as run_command
from recae.data.readers import GroupedReading, columnar, text
from recae.data.readers.grouped import _Hashes
from recae.errors import ConfigError, DataError
from recae.serving import batch


def table(n_people: int, seed: int = 0) -> pd.DataFrame:
    """People with one to nine rows each, pairs repeated and ratings of 1 to 5 among them."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, 10, n_people)
    return pd.DataFrame(
        {
            "user": np.repeat([f"u{rng.integers(1 << 40)}-{i}" for i in range(n_people)], rows),
            "item": [f"i{i}" for i in rng.integers(0, 12, rows.sum())],
            "rating": rng.integers(1, 6, rows.sum()),
            "timestamp": rng.integers(1_000_000_000, 1_600_000_000, rows.sum()),
        }
    )


def rows_of(data: recae.Interactions) -> dict[str, list[tuple[str, float, int]]]:
    """Items of each person in order, with value and time."""
    out = {}
    for user, id_ in enumerate(data.users.ids_at(range(data.n_users))):
        at = slice(data.matrix.indptr[user], data.matrix.indptr[user + 1])
        items = data.items.ids_at(data.matrix.indices[at])
        assert data.times is not None
        found = zip(data.order[at], items, data.matrix.data[at], data.times[at], strict=True)
        out[id_] = [tuple(entry[1:]) for entry in sorted(found)]
    return out


def small_blocks(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Let files be read so few rows at a time that groups lie across."""
    monkeypatch.setattr(columnar, "BATCH_ROWS", rows)
    real = text.Blocks
    monkeypatch.setattr("recae.data.readers.read.Blocks", lambda *a: real(*a, size=30 * rows))


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
@pytest.mark.parametrize("rows_at_once", [3, 40, 100_000])
@pytest.mark.parametrize(
    ("people", "rows"), [(1, 99), (7, 1 << 20), (1 << 20, 25), (10_000, 10_000)]
)
@pytest.mark.parametrize("minimum", [None, 4, 5])
def test_groups_hold_what_reading_all_at_once_holds(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    rows_at_once: int,
    people: int,
    rows: int,
    minimum: int | None,
) -> None:
    frame = table(25)
    small_blocks(monkeypatch, rows_at_once)
    source: object = frame
    if kind != "frame":
        source = tmp_path / f"people.{kind}"
        frame.to_csv(source, index=False) if kind == "csv" else frame.to_parquet(source)
    options = {"min_rating": minimum, "keep_ratings": True}
    reading = GroupedReading(source, people=people, rows=rows, **options)
    groups = list(reading)
    whole = recae.read_interactions(source, **options)
    found: dict[str, list[tuple[str, float, int]]] = {}
    for group in groups:
        if group.data is not None:
            found |= rows_of(group.data)
    assert found == rows_of(whole)
    assert list(found) == whole.users.ids_at(range(whole.n_users))
    nobody = [user for user in frame["user"].unique() if user not in found]
    assert [id_ for group in groups for id_ in group.below] == nobody
    # Groups end with the person who fills them, whatever is read at once.
    sizes = frame.groupby("user", sort=False).size().tolist()
    wanted, count = [], [0, 0]
    for size in sizes:
        count = [count[0] + 1, count[1] + size]
        if count[0] >= people or count[1] >= rows:
            wanted.append(count[0])
            count = [0, 0]
    wanted += [count[0]] if count[0] else []
    assert [(0 if g.data is None else g.data.n_users) + len(g.below) for g in groups] == wanted
    told, report = reading.report, whole.report
    assert told is not None
    assert report is not None
    assert (told.rows_read, told.rows_kept, told.rows_merged) == (
        report.rows_read, report.rows_kept, report.rows_merged,
    )  # fmt: skip
    assert told.rows_dropped == report.rows_dropped
    assert told.options == report.options


@pytest.mark.parametrize("rows_at_once", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("users", "line"),
    [("aba", 4), ("aabba", 6), ("abcdeb", 7), ("abcdefghijklmnaz", 16), ("abcdefghijklmnzn", 17)],
)
def test_who_comes_back_is_refused_with_the_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows_at_once: int, users: str, line: int
) -> None:
    small_blocks(monkeypatch, rows_at_once)
    path = tmp_path / "people.csv"
    path.write_text("user,item,rating\n" + "".join(f"{u},i{n},3\n" for n, u in enumerate(users)))
    with pytest.raises(DataError, match=f"people.csv: line {line}: user '{users[line - 2]}' was"):
        list(GroupedReading(path, people=2))


def test_rows_below_the_minimum_belong_to_the_person_too(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("user,item,rating\na,x,1\na,y,5\nb,x,1\nb,y,1\nc,x,5\nc,y,1\n")
    one, two, three = GroupedReading(path, people=1, min_rating=4)
    assert one.data is not None and three.data is not None  # noqa: PT018
    assert (one.data.n_users, two.data, three.data.n_users) == (1, None, 1)
    assert (one.below, two.below, three.below) == ((), ("b",), ())
    path.write_text("user,item,rating\na,x,1\nb,x,5\na,y,5\n")
    with pytest.raises(DataError, match="line 4: user 'a' was there before"):
        list(GroupedReading(path, people=1, min_rating=4))


def test_the_whole_input_is_judged_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rejects = tmp_path / "people.csv", tmp_path / "rejects.csv"
    path.write_text("user,item\n" + "a,x\n" * 5 + "b\n" * 3)
    with pytest.raises(DataError, match="3 of 8 rows are malformed"):
        list(GroupedReading(path, people=1, rejects=rejects))
    assert not rejects.exists()
    reading = GroupedReading(path, people=1, rejects=rejects, max_bad_rows=3)
    (group,) = reading
    assert group.data is not None
    assert group.data.users.ids_at([0]) == ["a"]
    assert len(rejects.read_text().splitlines()) == 1 + 3
    path.write_text("user,item,rating\na,x,1\n")
    with pytest.raises(DataError, match="no usable rows among 1"):
        list(GroupedReading(path, people=1, min_rating=2))
    times = np.repeat([1_500_000_000, 5, 1_500_000_000_000], 9)  # between them no unit shows
    small_blocks(monkeypatch, 3)
    frame = pd.DataFrame({"user": np.repeat(["a", "b", "c"], 9), "item": "x", "time": times})
    with pytest.raises(DataError, match="more than one unit"):
        list(GroupedReading(frame, people=1))
    with pytest.raises(ConfigError, match="min_user counts rows of the whole input"):
        GroupedReading(path, people=1, min_user=2)
    with pytest.raises(ConfigError, match="would change the input"):
        GroupedReading(path, people=1, rejects=path)


def test_hashes_are_found_again_in_any_order_of_arrival() -> None:
    rng = np.random.default_rng(0)
    hashes, known = _Hashes(), set()
    for size in rng.integers(0, 200, 300):
        new = rng.integers(0, 60_000, size).astype(np.uint64)
        wanted = []
        for value in new.tolist():
            wanted.append(value in known)
            known.add(value)
        assert hashes.add(new).tolist() == wanted
    assert sum(map(len, hashes._arrays)) >= len(known)
    lengths = [len(array) for array in hashes._arrays]
    assert all(a >= 2 * b for a, b in zip(lengths, lengths[1:], strict=False))


# ---------------------------------------------------------------- recae recommend --grouped


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EASE that knows ``i0`` to ``i9``, not ``i10`` and ``i11``, by ratings of at least 2."""
    rows = table(200, seed=1)
    data = recae.read_interactions(rows[~rows["item"].isin(["i10", "i11"])], min_rating=2)
    directory = tmp_path_factory.mktemp("models") / "ease"
    recae.save(recae.EASE(l2=5).fit(data), directory, data=data)
    return directory


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(model: Path, capfd: pytest.CaptureFixture[str]) -> Ask:
    """Run ``recae recommend``; its exit code and what it printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = run_command(["recommend", *map(str, (model, *arguments))], debug=False)
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def parts_of_nine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped_people, "PART", 9)
    monkeypatch.setattr(batch, "PART", 9)


@pytest.mark.usefixtures("parts_of_nine")
@pytest.mark.parametrize("file_format", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize("resume", [False, True])
def test_lists_are_the_same_bytes_and_the_same_people_are_named(
    ask: Ask, tmp_path: Path, file_format: str, resume: bool
) -> None:
    people = tmp_path / "people.csv"
    rows = table(100, seed=2)
    rows.loc[rows["user"].isin(rows["user"].unique()[[4, 50, 99]]), "item"] = "i11"
    rows.loc[rows["user"].isin(rows["user"].unique()[[0, 51, 98]]), "rating"] = 1
    rows.to_csv(people, index=False)
    found = []
    for options in ([], ["--grouped"]):
        out = tmp_path / f"lists{len(options)}.{file_format}"
        code, said, err = ask(
            *("--interactions", people, "-o", out, "-k", 3, "--json", *options),
            *(["--resume"] if resume else []),
        )
        assert code == 0, err
        counts = {k: v for k, v in json.loads(said).items() if k != "file"}
        told = {
            line for line in err.splitlines()
            if "get nothing" in line or line.startswith("read ") or "not known" in line
        }  # fmt: skip
        found.append((counts, told, out.read_bytes()))
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(out.name)] == [out.name]
    if file_format == "parquet":  # row groups follow the people written at once
        frames = [pd.read_parquet(tmp_path / f"lists{n}.parquet") for n in (0, 1)]
        pd.testing.assert_frame_equal(*frames)
        found = [each[:2] for each in found]
    assert found[0] == found[1]
    counts, told, *_ = found[0]
    assert counts["left_out"] >= 6
    assert len(told) == 4


@pytest.mark.usefixtures("parts_of_nine")
def test_a_reading_that_was_interrupted_goes_on(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, out, whole = (tmp_path / name for name in ("people.csv", "lists.csv", "whole.csv"))
    rows = table(40, seed=3).replace({"item": {"i10": "i1", "i11": "i2"}}).assign(rating=5)
    rows.to_csv(people, index=False)
    question = ("--interactions", people, "--grouped", "--resume", "-o")
    assert ask(*question, whole)[0] == 0
    real, written = batch._Parts.write, []

    def stop_at_the_third(self, start, *rest):
        written.append(start)
        if len(written) == 3:
            raise KeyboardInterrupt
        return real(self, start, *rest)

    monkeypatch.setattr(batch._Parts, "write", stop_at_the_third)
    assert ask(*question, out)[0] == 130
    assert not out.exists()
    code, _, err = ask("--interactions", people, "--grouped", "--resume", "-o", out, "-k", 3)
    assert (code, "parts of another question" in err) == (2, True)
    last = rows["user"].unique()[-1]
    more = pd.concat([rows, rows[rows["user"] == last].assign(item="i3", user="new")])
    more.to_csv(people, index=False)  # who comes after the finished parts changes nothing of them
    assert ask(*question, out)[0] == 0
    assert written[:3] == [0, 9, 18]
    assert written[3] == 18
    assert out.read_bytes().startswith(whole.read_bytes())
    assert b"\nnew," in out.read_bytes()
    whole.unlink()
    written.clear()
    assert ask(*question, whole)[0] == 130
    first = rows["user"] == rows.loc[0, "user"]
    rows.loc[first, "item"] = "i8" if set(rows.loc[first, "item"]) == {"i9"} else "i9"
    rows.to_csv(people, index=False)
    code, _, err = ask(*question, whole)
    assert (code, "parts of another question" in err) == (2, True)


def test_what_is_wrong_is_said_and_leaves_no_file(ask: Ask, tmp_path: Path) -> None:
    people, out = tmp_path / "people.csv", tmp_path / "lists.csv"
    question = ("--interactions", people, "--grouped", "-o", out)
    people.write_text("user,item,rating\na,i1,5\nb,i1,5\na,i2,5\n")
    code, _, err = ask(*question)
    assert (code, "line 4: user 'a' was there before" in err) == (3, True), err
    people.write_text("user,item,rating\na,x,5\n")
    code, _, err = ask(*question)
    assert (code, "has no item that the model knows" in err) == (3, True), err
    assert "note: columns read: user 'user', item 'item'" in err
    assert not out.exists()
    for options, message in (
        (("--users", "all", "--grouped"), "--grouped says how a file is read; it goes with"),
        ((*question, "--shard", "1/2"), "goes with neither --shard"),
        ((*question, "--items", people), "nor --items"),
        ((*question, "--min-user", "3"), "min_user counts rows of the whole input"),
    ):
        code, said, err = ask(*options)
        assert (code, said, message in err) == (2, "", True), err
        assert "Traceback" not in err


def test_ids_that_need_quotes_are_quoted_and_no_others(ask: Ask, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    ids = ["plain", 'say "hi"', "a,b", "two\nlines", " spaced "]
    pd.DataFrame({"user": ids, "item": "i1", "rating": 5}).to_csv(people, index=False)
    code, said, err = ask("--interactions", people, "--grouped", "-k", 1, "--max-bad-rows", 1)
    assert code == 0, err
    lines = said.split("\n", 1)[1]
    assert lines.startswith("plain,i")
    assert '\n"say ""hi""",i' in lines
    assert '\n"a,b",i' in lines
    assert "\n spaced ,i" in lines
    assert "two" not in lines  # a line end is a control character, which no id may hold


def test_memory_does_not_grow_with_the_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columnar, "BATCH_ROWS", 5_000)
    monkeypatch.setattr(grouped_people, "PART", 500)
    bundle = recae.serving.load_bundle(model)
    peaks = []
    for people in (5_000, 20_000):
        table(people).to_parquet(tmp_path / "people.parquet", row_group_size=5_000)
        asking = grouped_people.GroupedPeople(bundle, str(tmp_path / "people.parquet"), {})
        tracemalloc.start()
        try:
            assert sum(len(users) for _, users in asking) > 0.9 * people
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    more_rows = 15_000 * 5  # held all at once, each takes some 40 bytes
    assert peaks[1] - peaks[0] < 8 * more_rows
