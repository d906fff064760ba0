"""Files that commands write are what their endings say; files of ids are read as others are."""

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.test_cli import model, run, small

__all__ = ["model", "run", "small"]  # fixtures
ENDINGS = ["csv", "tsv", "jsonl", "json", "parquet", "csv.gz", "TSV.GZ", "json.gz"]
TEXTS = {"user_id": str, "item_id": str}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_is_what_its_ending_says(run, model: Path, tmp_path: Path, ending: str) -> None:
    """And the same lists are the same bytes, also where parts are put together."""
    asked = ["recommend", model, "--users", "all", "-k", 3, "-o"]
    file, again = tmp_path / f"lists.{ending}", tmp_path / f"again.{ending}"
    assert run(*asked, file)[0] == 0
    assert run(*asked, again, "--resume")[0] == 0
    plain = pd.read_csv(io.StringIO(run(*asked, "-")[1]), dtype=TEXTS)
    content = file.read_bytes()
    kind, _, compressed = ending.lower().partition(".")
    if compressed:
        content = gzip.decompress(content)
        assert gzip.decompress(again.read_bytes()) == content
    elif kind != "parquet":
        assert again.read_bytes() == content
    if kind == "parquet":
        found = pd.read_parquet(file)
    elif kind in ("json", "jsonl"):
        rows = [
            {"user_id": line["user_id"], **place, "rank": rank}
            for line in map(json.loads, content.splitlines())
            for rank, place in enumerate(line["items"], start=1)
        ]
        found = pd.DataFrame(rows)[plain.columns]
    else:
        sep = "\t" if kind == "tsv" else ","
        found = pd.read_csv(io.BytesIO(content), sep=sep, dtype=TEXTS)
    pd.testing.assert_frame_equal(found, plain, check_dtype=False)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["recommend", "MODEL", "--users", "all", "-o", "OUT/a.xlsx"], ".jsonl or .json"),
        (["recommend", "MODEL", "--users", "all", "-o", "OUT/a.parquet.gz"], "and .parquet are"),
        (
            ["recommend", "MODEL", "--users", "all", "--format", "csv", "-o", "OUT/a.parquet"],
            "as it ends in format csv",
        ),
        (["similar", "MODEL", "--all", "-o", "OUT/a.zip"], "cannot be written as it ends"),
        (["embed", "MODEL", "--items", "-o", "OUT/a.csv"], ".parquet is what is written here"),
        (["recommend", "MODEL", "--user", "000", "--rejects", "OUT/a.jsonl"], ".csv is what"),
        (["evaluate", "MODEL", "DATA", "--html", "OUT/a.json"], ".html is what is written"),
    ],
)
def test_an_ending_that_cannot_be_met_is_refused(
    run, small: Path, model: Path, tmp_path: Path, command: list[str], said: str
) -> None:
    places = {"MODEL": model, "DATA": small}
    words = [places.get(word, word.replace("OUT", str(tmp_path))) for word in command]
    code, printed, err = run(*words)
    assert (code, printed) == (2, "")
    assert said in err
    assert not list(tmp_path.iterdir())


def test_one_unknown_user_of_a_file_costs_nobody_else_the_list(
    run, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "users.txt"
    file.write_bytes(b"\xef\xbb\xbfuser_id\r\n000\r\nnobody\r\n001\r\n")
    code, printed, err = run("recommend", model, "--users", file, "-k", 2)
    assert code == 0
    assert [line.split(",")[0] for line in printed.split()[1:]] == ["000", "000", "001", "001"]
    assert f"1 people of {file} are not known and get nothing: 'nobody'" in err
    out = tmp_path / "lists.csv"
    text = run("recommend", model, "--users", file, "-k", 2, "-o", out)[1]
    assert "2 people" in text
    assert "left out 1 of whom nothing is known that counts: 'nobody'" in text
    file.write_text("nobody\n")
    assert run("recommend", model, "--users", file)[0] == 3


def test_files_of_ids_have_a_header_and_numbers_as_other_files_have(run, tmp_path: Path) -> None:
    rows = [f"{user},{item}" for user in range(1, 9) for item in range(1, 2 + user % 5)]
    (tmp_path / "rows.csv").write_text("\n".join(["user,item", *rows]))
    model = tmp_path / "model"
    assert run("train", tmp_path / "rows.csv", "--model", "popular", "-o", model)[0] == 0
    (tmp_path / "users.txt").write_text("user\n5.0\n")
    (tmp_path / "items.txt").write_text("item_id\n4.0\n3\n")
    asked = ["--users", tmp_path / "users.txt", "--candidates", tmp_path / "items.txt"]
    code, printed, err = run("recommend", model, *asked, "-k", 2)
    assert (code, err) == (0, "")
    assert [line.split(",")[:2] for line in printed.split()[1:]] == [["5", "3"], ["5", "4"]]


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero here")
def test_input_without_an_end_is_not_read_to_it(run, small: Path, model: Path) -> None:
    for option, said in (
        (["recommend", model, "--users", "/dev/zero"], "/dev/zero has a line of more than 1 MiB"),
        (["recommend", model, "--user", "000", "--candidates", "/dev/zero"], "more than 1 MiB"),
        (["similar", model, "--all", "--exclude", "/dev/zero"], "belong to one ITEM"),
        (["train", small, "--config", "/dev/zero"], "the config /dev/zero has more than 1 MiB"),
        (["keys", "list", "/dev/zero"], "more than 16 MiB"),
    ):
        code, printed, err = run(*option)
        assert code in (2, 3), err
        assert printed == ""
        assert said in err


def test_a_split_on_disk_has_what_was_seen_and_not_liked(run, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pairs = [(u, i) for u in range(60) for i in draw.choice(20, size=9, replace=False)]
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"], dtype=str)
    frame["rating"] = draw.integers(1, 6, size=len(frame))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    out = tmp_path / "split"
    assert run("data", "split", tmp_path / "rows.csv", out, "--min-rating", 4)[0] == 0
    low = set(map(tuple, frame.loc[frame.rating < 4, ["user_id", "item_id"]].to_numpy()))
    for part, fold_in in (("train", "train"), ("test", "test_fold_in")):
        seen = set(map(tuple, pd.read_parquet(out / f"{part}_seen.parquet").to_numpy()))
        users = set(pd.read_parquet(out / f"{fold_in}.parquet")["user_id"])
        assert seen
        assert seen <= {pair for pair in low if pair[0] in users}
        if part == "train":  # of people in training all of it, of others what they showed
            assert seen == {pair for pair in low if pair[0] in users}
    assert run("data", "split", tmp_path / "rows.csv", out)[0] == 0  # no minimum: nothing is seen
    assert not list(out.glob("*_seen.parquet"))
