"""The command line: the chain, its messages, its exit codes."""

import csv
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow.parquet as pq
import pytest

from recae.cli.main import run as run_command
from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.readers import user_labels
from recae.data.sample import sample_directory
from recae.errors import ConfigError
from recae.models.ease import EASE
from recae.serving import bundle, current_version
from recae.serving.batch import Asked, people_sha256, question
from recae.training.checkpoint import CheckpointStore

Result = tuple[int, str, str]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command line in this process: exit code, stdout, stderr."""

    def _call(*arguments: object) -> Result:
        capfd.readouterr()
        code = run_command([str(a) for a in arguments], debug=False)
        out, err = capfd.readouterr()
        return code, out, err

    return _call


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 120 users and 40 items in two tastes, with times and ratings."""
    path = tmp_path_factory.mktemp("data") / "plays.csv"
    rng = np.random.default_rng(0)
    lines = ["userId,movieId,rating,timestamp"]
    for user in range(120):
        half = np.arange(20) + 20 * (user % 2)
        for item in rng.choice(half, size=8, replace=False):
            lines.append(f"{user:03d},m{item},{rng.integers(1, 6)},{1_500_000_000 + len(lines)}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def model(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory of an EASE trained on `small`."""
    out = tmp_path_factory.mktemp("models") / "ease"
    assert (
        run_command(
            ["train", str(small), "-o", str(out), "--model", "ease", "--set", "ease.l2=5"],
            debug=False,
        )
        == 0
    )
    return out


def test_a_column_of_users_is_a_segment(
    run: Callable[..., Result], small: Path, model: Path, tmp_path: Path
) -> None:
    people = tmp_path / "people.csv"
    ids = [f"{user:03d}" for user in range(120)]
    lines = [f"{id_},{'odd' if int(id_) % 2 else 'even'},{id_}" for id_ in ids if int(id_) % 3]
    people.write_text("\n".join(["user_id,half,number", *lines]) + "\n")
    html, per_user = tmp_path / "r.html", tmp_path / "u.parquet"
    asked = ("evaluate", model, small, "--json", "--user-table", people, "--metrics", "recall@5")
    code, out, err = run(*asked, "--by", "half", "--per-user", per_user, "--html", html)
    assert code == 0, err
    table = pq.read_table(per_user).to_pydict()
    found = {s["label"]: s["metrics"]["recall@5"] for s in json.loads(out)["segments"]}
    expected: dict[str, list[float]] = {}
    for id_, value in zip(table["user_id"], table["recall@5"], strict=True):
        label = "unknown" if int(id_) % 3 == 0 else ("odd" if int(id_) % 2 else "even")
        expected.setdefault(label, []).append(value)
    assert set(expected) == {"even", "odd", "unknown"}
    assert {label: figure["n"] for label, figure in found.items()} == {
        label: len(values) for label, values in expected.items()
    }
    for label, values in expected.items():
        assert found[label]["mean"] == pytest.approx(np.mean(values))
    assert "By half" in html.read_text()
    code, _, err = run(*asked, "--by", "country")
    assert (code, "has no column 'country'; it has 'half', 'number'" in err) == (2, True), err
    code, _, err = run("evaluate", model, small, "--by", "half")
    assert (code, "segment 'half' is unknown" in err) == (2, True), err
    with pytest.raises(ConfigError, match="column 'number' has 81 texts; at most 50"):
        user_labels(people, ["number"], IdMap(ids))


def test_graded_metrics_are_of_ratings_that_were_kept(
    run: Callable[..., Result], small: Path, model: Path, tmp_path: Path
) -> None:
    metrics = ("--metrics", "ndcg@5,ndcg-graded@5")
    split = ("--held-out-users", "30", "--set", "split.target_fraction=0.5")
    asked = ("compare", small, "--models", "popular", *split, "--json", *metrics)
    stop = ("--model", "mult-dae", "--set", "mult-dae.validation_metric=ndcg-graded@5")
    trained = ("train", small, "-o", tmp_path / "no", *stop)
    for refused in (asked, trained, ("evaluate", model, small, *metrics)):
        code, out, err = run(*refused)
        assert (code, out) == (2, "")
        assert "ndcg-graded@5 needs ratings" in err
        assert "--keep-ratings" in err
    code, out, err = run(*asked, "--keep-ratings")
    assert code == 0, err
    of_lists = json.loads(out)["models"]["popular"]
    rated = tmp_path / "rated"
    options = ("--model", "popular", *split, "--keep-ratings")
    assert run("train", small, "-o", rated, *options)[0] == 0
    code, out, err = run("evaluate", rated, small, "--json", *metrics)
    assert code == 0, err
    of_stored = json.loads(out)["metrics"]
    for name in ("ndcg@5", "ndcg-graded@5"):
        assert of_stored[name]["mean"] == of_lists[name]["mean"]
    assert of_lists["ndcg@5"]["mean"] != of_lists["ndcg-graded@5"]["mean"]
    seen = run("recommend", rated, "--user", "000", "--json")[1]
    without = tmp_path / "without"
    assert run("train", small, "-o", without, *options[:-1])[0] == 0
    assert json.loads(run("recommend", without, "--user", "000", "--json")[1]) == json.loads(seen)


def test_a_usage_error_is_one_clause_and_where_to_look(run: Callable[..., Result]) -> None:
    code, out, err = run("recommend", "films")
    assert (code, out) == (2, "")
    assert err.endswith("got none; see 'recae recommend --help'\n")
    code, out, err = run("recommend", "films", "--zzzz")
    assert "--zzzz" in err
    assert "." not in err
    assert err.endswith("; see 'recae recommend --help'\n")


def test_data_check_accounts_for_every_row(run, small: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(small.read_text() + "007,m1\n,m2,5,1500000000\n008,m3,NaN,1500000000\n")
    code, out, err = run("data", "check", path, "--json")
    assert code == 0, err
    report = json.loads(out)
    dropped = sum(d["rows"] for d in report["rows_dropped"].values())
    assert report["rows_read"] == 963 == report["rows_kept"] + report["rows_merged"] + dropped
    assert dropped == 3
    assert "every row counts as a positive" in err
    assert (report["per_user"]["median"], report["per_user"]["max"]) == (8, 8)
    assert (len(report["popular"]), report["days"][0]) == (5, "2017-07-14")
    (tmp_path / "items.csv").write_text("id,movie_name\nm1,Alien\n")
    items = ("--items", tmp_path / "items.csv")
    code, out, err = run("data", "check", path, *items)
    assert code == 0, err
    assert "rows read 963, kept 960, merged 0\ndropped 1: malformed (first lines 962)\n" in out
    assert f"120 users, 40 items, 960 interactions, density {8 / 40:.2%}\n" in out
    assert "interactions per user: median 8, 8 to 8\n" in out
    assert "times: 2017-07-14 to " in out
    assert "titles are column 'movie_name'" in err
    assert not set(out.splitlines()) & set(err.splitlines())
    code, out, err = run("data", "check", path, *items, "--items-title-col", "name")
    assert (code, "no column 'name' among 'id', 'movie_name'" in err) == (3, True)


def test_the_chain(run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "vae"
    code, text, err = run(
        "train", small, "-o", out, "--epochs", 3, "--set", "mult-vae.latent_dim=8",
        "--set", "mult-vae.hidden=[16]", "--min-rating", 2, "--held-out-users", 20, "--json",
    )  # fmt: skip
    assert code == 0, err
    result = json.loads(text)
    assert result["split"]["test_users"] == 20
    assert "mult-vae: 3 epochs in " in err
    code, text, err = run("evaluate", out, small, "--json", "--per-user", tmp_path / "u.parquet")
    assert code == 0, err
    assert json.loads(text)["metrics"]["ndcg@100"]["n"] == 20
    assert pq.read_table(tmp_path / "u.parquet").num_rows == 20
    code, text, err = run("inspect", out, "--verify")
    assert code == 0
    assert "agrees with its hash" in text
    code, text, err = run("recommend", out, "--users", "all", "-k", 5, "-o", tmp_path / "o.csv")
    assert code == 0, err
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert list(rows[0]) == ["user_id", "item_id", "score", "rank"]
    assert rows[0]["user_id"] == "000"
    assert [row["rank"] for row in rows[:5]] == ["1", "2", "3", "4", "5"]


def test_evaluate_refuses_other_data(run, model: Path, small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(small.read_text() + "999,m1,5,1600000000\n")
    code, out, err = run("evaluate", model, other)
    assert (code, out) == (3, "")
    assert "is not the data the model was trained on" in err
    assert err.count("recae: error:") == 1


def test_compare_prints_the_promised_json(run, small: Path) -> None:
    code, out, err = run(
        "compare", small, "--models", "popular,ease", "--set", "ease.l2=5", "--json"
    )
    assert code == 0, err
    result = json.loads(out)
    assert set(result["models"]) == {"popular", "ease"}
    figure = result["models"]["ease"]["ndcg@100"]
    assert set(figure) == {"mean", "se", "n", "interval"}
    assert figure["interval"][0] < figure["mean"] < figure["interval"][1]
    assert result["definitions"]["recall@20"] == "hits in the first 20 / min(20, targets)"
    assert result["exam"]["users"] == figure["n"]
    assert result["exam"]["fingerprint"]
    assert {s["by"] for s in result["models"]["ease"]["segments"]} == {"history", "popularity"}
    assert result["models"]["ease"]["config"]["l2"] == 5
    assert result["models"]["ease"]["fit_s"] >= 0
    assert result["protocol"]["protocol"] == "strong"
    assert result["data"]["fingerprint"]


def test_a_requirement_that_is_not_met_exits_with_8(run, small: Path) -> None:
    code, _, err = run("compare", small, "--models", "popular", "--require-beat", "popular")
    assert code == 8
    assert "no model beats popular" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "popular,ease", "--require-beat", "als"], "no model 'als' is compared"),
        (["--models", "popular,eease"], "there is no model 'eease'"),
        (["--models", "popular,ease,popular"], "'popular' is compared twice"),
        (["--models", ","], "no model is named"),
        (["--models", "popular,ease", "--set", "ease.l3=5"], "ease has no option 'l3'"),
        (["--models", "popular,ease", "--set", "ease.l2=-1"], "l2 is -1"),
        (["--models", "popular,ease", "--set", "ease.l2=x"], "l2 is 'x'"),
        (
            ["--models", "popular,ease", "--metrics", "coverage@10", "--require-beat", "popular"],
            "coverage@10 decides no comparison",
        ),
        (["--models", "popular", "--metrics", ","], "no metric is named"),
        (
            ["--models", "popular,mult-vae", "--set", "mult-vae.validation_metric=gini@10"],
            "validation_metric is 'gini@10'",
        ),
        (
            ["--models", "popular,mult-dae", "--set", "mult-dae.validation_metric=ndgc@10"],
            "'ndgc@10' is unknown",
        ),
    ],
)
def test_compare_refuses_before_anything_is_fitted(
    run, small: Path, options: list[str], message: str
) -> None:
    code, out, err = run("compare", small, *options)
    assert (code, out) == (2, ""), err
    assert message in err
    assert "done: " not in err


def test_the_same_split_again_gives_the_same_model(run, small: Path, tmp_path: Path) -> None:
    hashes = []
    for name in ("a", "b"):
        args = ["--epochs", 2, "--set", "mult-vae.hidden=[16]", "--seed", 7]
        code, _, err = run("train", small, "-o", tmp_path / name, *args)
        assert code == 0, err
        version = (tmp_path / name / "CURRENT").read_text().split()[0]
        manifest = json.loads((tmp_path / name / version / "manifest.json").read_text())
        hashes.append(manifest["files"]["model.safetensors"]["sha256"])
    assert hashes[0] == hashes[1]


def test_settings_files_flags_and_their_order(run, small: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        'model = "ease"\nmetrics = ["recall@5"]\n[ease]\nl2 = 3.0\n[split]\nheld_out_users = 10\n'
    )
    code, out, err = run(
        "train", small, "-o", tmp_path / "m", "--config", config, "--set", "ease.l2=4", "--json"
    )
    assert code == 0, err
    assert json.loads(out)["split"]["test_users"] == 10
    assert "recall@5" in json.loads(out)["validation"]["metrics"]
    version = (tmp_path / "m" / "CURRENT").read_text().split()[0]
    stored = json.loads((tmp_path / "m" / version / "provenance.json").read_text())
    assert stored["run"]["models"]["ease"]["l2"] == 4
    code, _, err = run(
        "train", small, "-o", tmp_path / "n", "--set", "ease.depth=4", "--model", "ease"
    )
    assert code == 2
    assert "ease has no option 'depth'; it accepts l2" in err
    code, _, err = run("train", small, "-o", tmp_path / "n", "--set", "mult-vae.epochs=many")
    assert code == 2
    assert "epochs is 'many'" in err
    code, _, err = run("train", small, "-o", tmp_path / "n", "--set", "speed=4")
    assert code == 2
    assert "there is no setting 'speed'" in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[read]\nmin_rating = "x"', "read: option min_rating is 'x'; it is of type float | int"),
        ('[read]\nmin_rating = "4"', "read: option min_rating is '4'; it is of type float | int"),
        ("[read]\nmin_rating = [4]", "read: option min_rating is [4]"),
        ("[read]\nsep = true", "read: option sep is True; it is of type str | None"),
        ("[read]\nheader = 5", "read: option header is 5; it is of type bool"),
        ("[read]\nmin_user = true", "read: option min_user is True; it is of type int"),
        ("[read]\nmin_user = 1.5", "read: option min_user is 1.5"),
        ("[read]\nmax_bad_rows = -1", "read: option max_bad_rows is -1; at least 0 is accepted"),
        ("[read]\nmin_item = {a = 1}", "read: option min_item is {'a': 1}"),
        ("[read]\nheard = 1", "read has no option 'heard'; it accepts user_col, item_col"),
        ('[split]\nheld_out_users = "ten"', "split: option held_out_users is 'ten'"),
        ("[split]\nrng = 1.5", "split: option rng is 1.5; it is of type int"),
        (
            "[split]\ntarget_fraction = 2.0",
            "split: option target_fraction is 2.0; above 0 and below 1",
        ),
        ('[mult-vae]\nhidden = "x"', "mult-vae: option hidden is 'x'"),
        (
            "[mult-vae]\nlatent_dim = true",
            "mult-vae: option latent_dim is True; it is of type int",
        ),
        ('[ease]\nl2 = "5"', "ease: option l2 is '5'; it is of type float"),
        ("[als]\nfactors = 0.5", "als: option factors is 0.5"),  # not the model that is trained
        ("seed = 1.5", "seed is 1.5"),
        ("metrics = 5", "metrics is 5"),
        ("metrics = []", "no metric is named"),
        ("protocol = 5", "unknown protocol 5"),
        ("protocol = []", "unknown protocol []"),
        ("model = []", "there is no model []"),
        ("read = 5", "read is 5; a table is expected"),
    ],
)
def test_wrong_types_in_a_config_file_are_refused_by_name(
    run, small: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "run.toml").write_text(text)
    code, out, err = run(
        "train", small, "-o", tmp_path / "m", "--config", tmp_path / "run.toml", "--dry-run"
    )
    assert (code, out) == (2, ""), err
    assert message in err.splitlines()[-1]


def test_people_who_are_not_in_the_model(run, model: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("user,item\nann,m1\nann,m2\nbob,m30\nbob,nowhere\n")
    code, out, err = run("recommend", model, "--interactions", new, "-k", 3, "--format", "jsonl")
    assert code == 0, err
    assert "1 items of" in err
    ann, bob = (json.loads(line) for line in out.splitlines())
    assert (ann["user_id"], bob["user_id"]) == ("ann", "bob")
    assert all(int(i["item_id"][1:]) < 20 for i in ann["items"])
    assert all(int(i["item_id"][1:]) >= 20 for i in bob["items"])
    code, out, err = run(
        "recommend", model, "--history", "m1", "--history", "m2", "-k", 3, "--json"
    )
    assert [i["item_id"] for i in json.loads(out)] == [i["item_id"] for i in ann["items"]]


@pytest.fixture
def odd(small: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A file laid out in its own way, and an EASE trained on it."""
    header, *lines = small.read_text().splitlines()
    path = tmp_path / "odd.csv"
    path.write_text("\n".join(["who;what;stars;when", *lines]).replace(",", ";") + "\n")
    columns = ["--user-col", "who", "--item-col", "what", "--rating-col", "stars", "--sep", ";"]
    out = tmp_path / "odd"
    options = [*columns, "--min-rating", 3, "--min-user", 2, "--model", "ease"]
    assert run_command([str(a) for a in ["train", path, "-o", out, *options]], debug=False) == 0
    return out, path


def test_people_are_read_as_the_training_data_was(run, odd, tmp_path: Path) -> None:
    directory, path = odd
    code, stored, err = run("recommend", directory, "--users", "all", "-k", 3)
    assert code == 0, err
    code, read, err = run("recommend", directory, "--interactions", path, "-k", 3)
    assert code == 0, err
    assert "user_col='who'" in err
    assert "min_rating=3.0" in err
    # one person had too few interactions to be trained on, and may ask all the same
    more = set(read.splitlines()) - set(stored.splitlines())
    assert len({line.split(",")[0] for line in more}) == 1
    assert set(stored.splitlines()) <= set(read.splitlines())
    # a flag wins over what is stored
    (tmp_path / "new").write_text("user;what;stars\nann;m1;5\nann;m2;2\nbob;m3;2\n")
    ask = ["recommend", directory, "--interactions", tmp_path / "new", "-k", 3]
    code, _, err = run(*ask)
    assert code == 3
    assert "no column 'who'" in err
    code, out, err = run(*ask, "--user-col", "user")
    assert code == 0, err
    assert {row["user_id"] for row in csv.DictReader(out.splitlines())} == {"ann"}
    (tmp_path / "new").write_text("who;what\nann;m1\nbob;m3\n")  # no ratings: no minimum
    code, out, err = run(*ask)
    assert (code, "options say otherwise, --rating-col '' that there are no" in err) == (3, True)
    code, out, err = run(*ask, "--rating-col", "")
    assert code == 0, err
    assert {row["user_id"] for row in csv.DictReader(out.splitlines())} == {"ann", "bob"}


def test_people_without_a_known_item_are_named_and_get_nothing(
    run, model: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new.csv"
    strangers = [f"stranger{i},nowhere" for i in range(7)]
    new.write_text("\n".join(["user,item", strangers[0], "ann,m1", *strangers[1:]]) + "\n")
    ask = ["recommend", model, "--interactions", new, "-k", 3, "-o", tmp_path / "o.csv"]
    code, out, err = run(*ask, "--json")
    assert code == 0, err
    (warning,) = [line for line in err.splitlines() if line.startswith("warning:")]
    assert "7 people of" in warning
    assert "'stranger0', 'stranger1'" in warning
    assert "and 2 more" in warning
    summary = json.loads(out)
    assert (summary["users"], summary["rows"], summary["left_out"]) == (1, 3, 7)
    assert summary["left_out_first"] == [f"stranger{i}" for i in range(5)]
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text().splitlines()))
    assert {row["user_id"] for row in rows} == {"ann"}
    assert "left out 7 of whom nothing is known that counts: 'stranger0'" in run(*ask)[1]


def test_candidates_and_exclusions(run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "c").write_text("m1\nm2\nm3\nm30\n")
    (tmp_path / "e").write_text("m2\n")
    code, out, err = run(
        "recommend", model, "--user", "000", "--candidates", tmp_path / "c", "--exclude",
        tmp_path / "e", "--include-seen", "-o", "-",
    )  # fmt: skip
    assert code == 0, err
    listed = {row["item_id"] for row in csv.DictReader(out.splitlines())}
    assert listed == {"m1", "m3"}  # nothing in the history speaks for m30


@pytest.mark.parametrize("text", ["", "unheard-of\n"])
def test_candidates_of_which_none_is_known_leave_empty_lists(
    run, model: Path, tmp_path: Path, text: str
) -> None:
    only, out = tmp_path / "only.txt", tmp_path / "o.csv"
    only.write_text(text)
    ask = ["recommend", model, "--user", "000", "--candidates", only]
    code, found, err = run(*ask, "-o", out, "--json")
    assert code == 0, err
    assert (json.loads(found)["rows"], json.loads(found)["short_lists"]) == (0, 1)
    assert out.read_text() == "user_id,item_id,score,rank\n"
    assert "no candidate is known; the list is empty" in err
    code, found, err = run("recommend", model, "--history", "m1", "--candidates", only, "--json")
    assert (code, json.loads(found)) == (0, [])
    assert "no candidate is known; the list is empty" in err
    code, found, err = run("recommend", model, "--user", "000", "--exclude", only, "-k", 3)
    assert code == 0, err
    assert len(found.splitlines()) == 4


def test_shards_and_resumed_parts_give_the_same_rows(run, model: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    assert run("recommend", model, "--users", "all", "-o", whole)[0] == 0
    table = pq.read_table(whole)
    assert (
        run("recommend", model, "--users", "all", "-o", tmp_path / "r.parquet", "--resume")[0] == 0
    )
    assert pq.read_table(tmp_path / "r.parquet").equals(table)
    assert not (tmp_path / "r.parquet.parts").exists()
    for i in (1, 2, 3):
        code, _, err = run(
            "recommend", model, "--users", "all", "-o", tmp_path / "parts", "--shard", f"{i}/3",
            "--format", "parquet",
        )  # fmt: skip
        assert code == 0, err
        assert (tmp_path / "parts" / "_SUCCESS").exists() == (i == 3)
    parts = [pq.read_table(p) for p in sorted((tmp_path / "parts").glob("part-*.parquet"))]
    assert sum(p.num_rows for p in parts) == table.num_rows
    assert [v for p in parts for v in p["item_id"].to_pylist()] == table["item_id"].to_pylist()
    manifest = json.loads((tmp_path / "parts" / "manifest.json").read_text())
    assert sum(part["rows"] for part in manifest["parts"].values()) == table.num_rows


def test_parts_of_two_cuts_do_not_lie_in_one_directory(run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    ask = ["recommend", model, "--users", "all", "-o", out]
    assert run(*ask, "--shard", "2/3", "--resume")[0] == 0
    for options in (["--shard", "2/4"], ["--shard", "1/3", "--format", "jsonl"]):
        code, _, err = run(*ask, *options)
        assert (code, "part-00002-of-00003.csv is of another cut" in err) == (2, True), err
    assert run(*ask, "--shard", "1/3", "--resume")[0] == 0
    assert run(*ask, "--shard", "3/3")[0] == 0
    assert (out / "_SUCCESS").exists()


def test_parts_of_two_questions_are_no_success(run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "parts"
    ask = ["recommend", model, "--users", "all", "-o", out, "--format", "csv"]
    assert run(*ask, "--shard", "1/2")[0] == 0
    assert run(*ask, "--shard", "2/2")[0] == 0
    assert (out / "_SUCCESS").exists()
    code, _, err = run(*ask, "--shard", "1/2", "-k", 7)
    assert code == 2
    assert "another model or question" in err
    assert not (out / "_SUCCESS").exists()


def test_parts_of_other_candidates_or_people_are_no_success(
    run, model: Path, tmp_path: Path
) -> None:
    for name, lines in {
        "c1": "m1\nm2\n",
        "c2": "m1\nm3\n",
        "u1": "000\n001\n",
        "u2": "002\n001\n",
    }.items():
        (tmp_path / name).write_text(lines)
    everybody = ["--users", "all"]
    questions = [
        (
            [*everybody, "--candidates", tmp_path / "c1"],
            [*everybody, "--candidates", tmp_path / "c2"],
        ),
        ([*everybody, "--exclude", tmp_path / "c1"], [*everybody, "--candidates", tmp_path / "c1"]),
        (["--users", tmp_path / "u1"], ["--users", tmp_path / "u2"]),
    ]
    for number, (first, second) in enumerate(questions):
        out = tmp_path / f"parts{number}"
        assert run("recommend", model, *first, "-o", out, "--shard", "1/2")[0] == 0
        code, _, err = run("recommend", model, *second, "-o", out, "--shard", "2/2")
        assert (code, "another model or question" in err) == (2, True), err
        assert not (out / "_SUCCESS").exists()
        assert run("recommend", model, *first, "-o", out, "--shard", "2/2")[0] == 0
        assert (out / "_SUCCESS").exists()


def test_an_interrupted_batch_goes_on_and_another_question_is_refused(
    run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recae.serving import batch

    monkeypatch.setattr(batch, "PART", 50)
    plain = tmp_path / "plain.csv"
    assert run("recommend", model, "--users", "all", "-o", plain)[0] == 0
    path = tmp_path / "lists.csv"
    real = batch._Parts.write
    calls = []

    def stop_at_the_second(self, *args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(batch._Parts, "write", stop_at_the_second)
    assert run("recommend", model, "--users", "all", "-o", path, "--resume")[0] == 130
    assert not path.exists()
    code, _, err = run("recommend", model, "--users", "all", "-o", path, "--resume", "-k", 3)
    assert code == 2
    assert "parts of another question" in err
    assert run("recommend", model, "--users", "all", "-o", path, "--resume")[0] == 0
    assert len(calls) == 4  # one done, one interrupted, two after it
    assert path.read_bytes() == plain.read_bytes()


def test_questions_are_told_apart() -> None:
    base = Asked(EASE(l2=1), IdMap(["a", "b", "c"]), 5)
    people = Histories.from_lists([[0], [1]], n_items=3)

    def asked(*, candidates=None, exclude=None, ids=("u", "v"), lists=None) -> str:
        some = [
            None if array is None else np.array(array, dtype=np.int64)
            for array in (candidates, exclude)
        ]
        histories = people if lists is None else Histories.from_lists(lists, n_items=3)
        changed = replace(base, candidates=some[0], exclude=some[1])
        return json.dumps(
            [question(changed, "csv"), people_sha256((histories, IdMap(ids)), ordered=False)]
        )

    questions = [
        asked(),
        asked(candidates=[]),
        asked(exclude=[]),
        asked(candidates=[0, 1], exclude=[2]),
        asked(candidates=[0], exclude=[1, 2]),
        asked(candidates=[0, 1, 2]),
        asked(exclude=[0, 1, 2]),
        asked(lists=[[0, 1], []]),
        asked(lists=[[0], [2]]),
        asked(ids=("u\nv", "w")),
        asked(ids=("u", "v\nw")),
    ]
    assert len(set(questions)) == len(questions)
    assert asked() == questions[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "missing.csv", "-o", "OUT"], 3, "cannot read missing.csv"),
        (["train", "DATA", "-o", "OUT", "--user-col", "nobody"], 3, "nobody"),
        (["train", "EMPTY", "-o", "OUT"], 3, "no usable rows"),
        (["recommend", "MODEL", "--users", "all", "-k", "0"], 2, "0 is not in the range"),
        (["recommend", "MODEL", "--user", "nobody"], 3, "unknown ids: 'nobody'"),
        (["recommend", "DATA", "--user", "000"], 4, "is no directory"),
        (["train", "DATA", "-o", "OUT", "--nonsense"], 2, "No such option"),
        (["train", "DATA", "-o", "OUT", "--model", "magic"], 2, "there is no model 'magic'"),
        (["train", "DATA", "-o", "OUT", "--device", "cuda:9"], 5, "not available"),
        (["train", "missing.csv", "-o", "OUT", "--device", "gpu"], 2, "device is 'gpu'; auto, cpu"),
        (["train", "missing.csv", "-o", "OUT", "--set", "mult-vae.device=gpu"], 2, "device is"),
        (["evaluate", "MISSING", "DATA"], 4, "MISSING"),
        (["compare", "DATA", "--models", "popular", "--metrics", "accuracy"], 2, "accuracy"),
        (["compare", "DATA", "--models", "popular", "--protocol", "all"], 2, "no test part"),
        (["compare", "DATA", "--held-out-users", "5000"], 2, "5000"),
        (["recommend", "MODEL"], 2, "give one of"),
        (["recommend", "MODEL", "--users", "all", "--resume"], 2, "name one with -o"),
        (["recommend", "MODEL", "--users", "all", "--format", "parquet"], 2, "Parquet does not go"),
        (
            ["train", "DATA", "-o", "OUT", "--protocol", "leave-last", "--split-seed", "1"],
            *(2, "--split-seed does not go with protocol 'leave-last'"),
        ),
        (
            ["compare", "DATA", "--set", 'protocol="temporal"', "--held-out-users", "9"],
            *(2, "--held-out-users does not go with protocol 'temporal', which has no such"),
        ),
        (
            ["train", "DATA", "-o", "OUT", "--model", "ease", "--epochs", "3"],
            *(2, "--epochs does not go with model 'ease'"),
        ),
    ],
)  # fmt: skip
def test_wrong_uses_are_one_line_and_a_code(
    run, arguments: list[str], code: int, message: str, small: Path, model: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("user,item\n")
    places = {"DATA": small, "MODEL": model, "OUT": tmp_path / "out", "EMPTY": empty}
    found, out, err = run(*[places.get(a, a) for a in arguments])
    assert (found, out) == (code, ""), err
    errors = [line for line in err.splitlines() if line.startswith("recae: error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in err


@pytest.mark.parametrize("flag", ["--per-user", "--html"])
@pytest.mark.parametrize(
    ("name", "message"),
    [("", "an empty name"), ("no/such/file", "no directory to lie in"), (".", "is a directory")],
)
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    run, model: Path, small: Path, flag: str, name: str, message: str
) -> None:
    code, out, err = run("evaluate", model, small, flag, name)
    assert (code, out) == (2, ""), err
    assert flag in err
    assert message in err
    assert "read " not in err


def test_all_of_an_evaluation_is_about_the_version_it_began_with(
    run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "m"
    train = ["train", small, "-o", out, "--model", "ease", "--set"]
    assert run(*train, "ease.l2=5")[0] == 0
    ask = ["evaluate", out, small, "--json"]
    before = json.loads(run(*ask)[1])
    first = current_version(out)
    real, later = bundle._read, []

    def then_saved_again(*args):
        found = real(*args)
        if not later:
            later.append("")  # a train evaluates, too
            assert run_command([str(a) for a in (*train, "ease.l2=5000")], debug=False) == 0
        return found

    monkeypatch.setattr(bundle, "_read", then_saved_again)
    code, text, err = run(*ask, "--html", tmp_path / "r.html")
    assert code == 0, err
    assert current_version(out) != first
    assert json.loads(text[text.index("{") :]) == before
    assert first in (tmp_path / "r.html").read_text()
    assert json.loads(run(*ask)[1]) != before


def test_inspect_proves_the_older_versions_too(run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    for l2 in (4, 5):
        options = ["--model", "ease", "--set", f"ease.l2={l2}"]
        assert run("train", small, "-o", out, *options)[0] == 0
    code, text, _ = run("inspect", out, "--verify", "--json")
    assert code == 0
    versions = json.loads(text)["versions"]
    assert sorted(v["current"] for v in versions) == [False, True]
    older = next(v["version"] for v in versions if not v["current"])
    with (out / older / "model.safetensors").open("r+b") as file:
        file.seek(200)
        file.write(b"?")
    assert run("inspect", out)[0] == 0
    code, _, err = run("inspect", out, "--verify")
    assert code == 4
    assert older in err


def test_a_split_leaves_no_parts_of_an_earlier_one(run, small: Path, tmp_path: Path) -> None:
    assert run("data", "split", small, tmp_path / "sp")[0] == 0
    assert (tmp_path / "sp" / "test_target.parquet").exists()
    assert run("data", "split", small, tmp_path / "sp", "--protocol", "all")[0] == 0
    assert sorted(p.name for p in (tmp_path / "sp").iterdir()) == ["split.json", "train.parquet"]


def test_wrong_metrics_are_refused_before_the_training(run, small: Path, tmp_path: Path) -> None:
    code, _, err = run("train", small, "-o", tmp_path / "m", "--metrics", "nosuch@3")
    assert code == 2
    assert "nosuch@3" in err
    assert "epoch" not in err
    code, _, err = run("train", small, "-o", tmp_path / "m", "--epochs", 0)
    assert code == 2
    assert (
        err.splitlines()[-1] == "recae: error: mult-vae: option epochs is 0; at least 1 is accepted"
    )


def test_resuming_without_a_checkpoint_says_so(run, small: Path, tmp_path: Path) -> None:
    options = ["-o", tmp_path / "m", "--epochs", 1, "--set", "mult-vae.hidden=[8]", "--resume"]
    code, _, err = run("train", small, *options)
    assert code == 0, err
    assert "note: there is no checkpoint; training starts anew" in err
    code, _, err = run("train", small, *options)
    assert code == 0, err
    assert "note: there is no checkpoint; training starts anew" in err  # a finished one has none
    assert sorted(path.name for path in (tmp_path / "m" / "run").iterdir()) == [
        "lock",
        "save.lock",
        "training.json",
    ]
    code, _, err = run("train", small, "-o", tmp_path / "e", "--model", "ease", "--resume")
    assert code == 0, err
    assert "note: ease writes no checkpoints and starts anew" in err


def test_the_seed_of_a_split_has_two_names(run, small: Path, tmp_path: Path) -> None:
    for protocol, name in (("mult-vae", "seed"), ("strong", "rng"), ("random", "rng")):
        code, out, err = run(
            "data", "split", small, tmp_path / protocol, "--protocol", protocol,
            "--split-seed", 7, "--json", *(["--held-out-users", 9] if name == "seed" else []),
        )  # fmt: skip
        assert code == 0, err
        assert json.loads(out)["options"][name] == 7


def test_resuming_with_another_exam_is_refused(
    run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that ends before its model is stored keeps its checkpoint."""
    options = ["-o", tmp_path / "m", "--epochs", 1, "--set", "mult-vae.hidden=[8]"]
    monkeypatch.setattr(CheckpointStore, "pause_s", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr("recae.experiment.run.evaluate", Mock(side_effect=KeyboardInterrupt))
        code, _, err = run("train", small, *options)
    assert code == 130
    assert "note: give --resume to go on from where it stopped" in err
    code, _, err = run("train", small, *options, "--resume", "--set", "split.target_fraction=0.5")
    assert code == 2
    assert "validation was" in err
    code, _, err = run("train", small, *options, "--resume")
    assert code == 0, err
    assert "resuming after epoch 1" in err
    assert not list((tmp_path / "m" / "run").glob("step-*"))


def test_the_card_tells_what_was_measured(model: Path) -> None:
    card = next(model.glob("v-*/README.md")).read_text()
    assert "| validation | ndcg@100 |" in card


def test_a_damaged_model_exits_with_4(run, model: Path, small: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "damaged"
    shutil.copytree(model, copy)
    weights = next(copy.glob("v-*/model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    code, out, err = run("recommend", copy, "--users", "all")
    assert (code, out) == (4, "")
    assert "model.safetensors" in err


def _recae(*arguments: object, **options) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "recae", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.slow
def test_a_full_disk_exits_with_5_and_keeps_the_model(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    assert (
        run_command(["train", str(small), "-o", str(out), "--model", "popular"], debug=False) == 0
    )
    before = (out / "CURRENT").read_text()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = _recae("train", small, "-o", out, "--epochs", 1, preexec_fn=limit)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 5, err
    assert "Traceback" not in err
    assert (out / "CURRENT").read_text() == before
    assert run_command(["inspect", str(out), "--verify"], debug=False) == 0


def _listen_to_sigint() -> None:
    """Undo what a shell does to commands in the background, and a child would inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _until_it_trains(process: "subprocess.Popen[str]") -> None:
    """Read what `process` says until it has trained an epoch."""
    assert process.stderr is not None
    while "epoch 1/" not in (line := process.stderr.readline()):
        assert line, "it ended before"


@pytest.mark.slow
def test_a_second_trainer_is_told_that_the_directory_is_busy(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    first = _recae(
        "train",
        small,
        "-o",
        out,
        "--epochs",
        100_000,
        "--set",
        "mult-vae.patience=99999",
        preexec_fn=_listen_to_sigint,
    )
    _until_it_trains(first)
    second = _recae("train", small, "-o", out, "--epochs", 1)
    _, err = second.communicate(timeout=600)
    assert second.returncode == 6, err
    assert str(first.pid) in err
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=600)
    assert first.returncode == 130
    assert "recae: error: stopped" in err
    assert "note: give --resume to go on from where it stopped" in err
    assert "Traceback" not in err


def test_test_users_with_nothing_to_ask_for_are_told(run, tmp_path: Path) -> None:
    path = tmp_path / "one.csv"
    path.write_text("user_id,item_id\n" + "".join(f"u{i},m{i % 7}\n" for i in range(60)))
    ask = ["compare", path, "--models", "popular,random", "--seeds", 2]
    code, out, err = run(*ask, "--json")
    assert code == 0, err

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    json.loads(out, parse_constant=refuse)
    code, _, err = run(*ask, "--require-beat", "popular")
    assert code == 8, err
    assert "no value" in err


def test_a_dash_is_refused_where_nothing_goes_to_stdout(run, model: Path) -> None:
    code, _, err = run("embed", model, "--items", "-o", "-")
    assert code == 2
    assert "not written to stdout" in err


def test_a_name_where_a_file_of_users_is_expected_is_explained(run, model: Path) -> None:
    code, _, err = run("recommend", model, "--users", "nobody")
    assert code == 3
    assert "--users nobody: no such file" in err
    assert "--user ID" in err


@pytest.mark.slow
def test_sigterm_exits_with_143_and_resume_goes_on(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    options = ["--epochs", 600, "--set", "mult-vae.patience=9999", "--set", "mult-vae.hidden=[16]"]
    process = _recae("train", small, "-o", out, *options)
    _until_it_trains(process)
    process.terminate()
    _, err = process.communicate(timeout=600)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert len(list(out.glob("run/step-*.json"))) == 1
    resumed = _recae("train", small, "-o", out, *options, "--resume")
    _, err = resumed.communicate(timeout=600)
    assert resumed.returncode == 0, err
    assert "resuming after epoch" in err
    assert not list(out.glob("run/step-*"))


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(model: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m recae recommend {model} --users all | head -1;"
        " echo ${PIPESTATUS[0]}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert done.stdout.splitlines()[0] == "user_id,item_id,score,rank"
    assert done.stdout.splitlines()[-1] in {"0", "141"}  # all written before head left, or not
    assert "Traceback" not in done.stderr


def test_the_sample_is_there() -> None:
    assert (sample_directory() / "items.csv").is_file()


# ---------------------------------------------------------------- where -o says


@pytest.mark.parametrize("name", ["pipe", "link"])
@pytest.mark.parametrize(
    "command", [["recommend", "MODEL", "--user", "000"], ["similar", "MODEL", "--all"]]
)
def test_what_is_no_file_is_never_replaced_by_one(
    run, model: Path, tmp_path: Path, name: str, command: list[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    path = tmp_path / name
    code, out, err = run(*[str(model) if a == "MODEL" else a for a in command], "-o", path)
    assert (code, out) == (2, ""), err
    assert f"{path} is a device, pipe or socket; a file is accepted (- is stdout)" in err
    assert path.is_fifo()


def test_a_link_is_written_through(run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target.csv", tmp_path / "link.csv"
    target.write_text("old\n")
    link.symlink_to(Path("far") / "target.csv")
    code, _, err = run("recommend", model, "--user", "000", "-k", 2, "-o", link)
    assert code == 0, err
    assert link.is_symlink()
    assert target.read_text().startswith("user_id,item_id,score,rank\n")
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["target.csv"]


_PEOPLE = ["recommend", "MODEL", "--interactions", "DATA"]


@pytest.mark.parametrize("known_as", ["name", "link", "hard link"])
@pytest.mark.parametrize(
    ("command", "source"),
    [
        ([*_PEOPLE, "-o", "OUT"], "--interactions"),
        ([*_PEOPLE, "--grouped", "-o", "OUT"], "--interactions"),
        ([*_PEOPLE, "--rejects", "OUT"], "--interactions"),
        ([*_PEOPLE, "--items", "FILE", "-o", "OUT"], "--items"),
        (["recommend", "MODEL", "--users", "FILE", "-o", "OUT"], "--users"),
        (["recommend", "MODEL", "--users", "FILE", "-o", "OUT", "--resume"], "--users"),
        (["recommend", "MODEL", "--user", "000", "--candidates", "FILE", "-o", "OUT"],
         "--candidates"),
        (["recommend", "MODEL", "--user", "000", "--exclude", "FILE", "-o", "OUT"], "--exclude"),
        (["embed", "MODEL", "--users", "FILE", "-o", "OUT"], "--users"),
        (["embed", "MODEL", "--interactions", "FILE", "-o", "OUT"], "--interactions"),
        (["evaluate", "MODEL", "FILE", "--per-user", "OUT"], "FILE"),
        (["evaluate", "MODEL", "FILE", "--markdown", "OUT"], "FILE"),
        (["evaluate", "MODEL", "DATA", "--user-table", "FILE", "--html", "OUT"], "--user-table"),
        (["compare", "FILE", "-o", "OUT"], "FILE"),
        (["compare", "DATA", "--items", "FILE", "--html", "OUT"], "--items"),
        (["compare", "DATA", "--config", "FILE", "--markdown", "OUT"], "--config"),
        (["train", "DATA", "--config", "FILE", "--rejects", "OUT", "-o", "new"], "--config"),
        (["tune", "DATA", "--items", "FILE", "--rejects", "OUT"], "--items"),
        (["data", "split", "DATA", "new", "--config", "FILE", "--rejects", "OUT"], "--config"),
        (["data", "check", "FILE", "--rejects", "OUT"], "the input"),
    ],
)  # fmt: skip
def test_no_output_is_written_over_an_input(
    run, small: Path, model: Path, tmp_path: Path, command: list[str], source: str, known_as: str
) -> None:
    data, file, out = (tmp_path / name for name in ("plays.csv", "file", "other"))
    data.write_bytes(small.read_bytes())
    file.write_text("model = 'ease'\n" if source == "--config" else data.read_text())
    read = data if "DATA" in command and source in ("--interactions", "FILE") else file
    if known_as == "name":
        out = read
    elif known_as == "link":
        out.symlink_to(read)
    else:
        out.hardlink_to(read)
    places = {"MODEL": model, "DATA": data, "FILE": file, "OUT": out, "new": tmp_path / "new"}
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, printed, err = run(*[places.get(word, word) for word in command])
    assert (code, printed) == (2, ""), err
    assert f" would change {source} {read}; name another file" in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_file_of_a_model_is_written_over(run, small: Path, model: Path, tmp_path: Path) -> None:
    version = model / current_version(model)
    link = tmp_path / "link.csv"
    link.hardlink_to(version / "items.parquet")
    for out in (model / "CURRENT", version / "items.parquet", version / "new.csv", link):
        for command in (
            ["recommend", model, "--user", "000", "-o", out],
            ["recommend", model, "--interactions", small, "--rejects", out],
            ["similar", model, "--all", "-o", out],
            ["embed", model, "--items", "-o", out],
            ["evaluate", model, small, "--per-user", out],
            ["train", small, "--rejects", out, "-o", model],
        ):
            written = {"--rejects": ".csv", "embed": ".parquet", "--per-user": ".parquet"}
            (ending,) = {written[word] for word in command if word in written} or {out.suffix}
            if out.suffix not in ("", ending):
                continue  # refused for its ending
            code, printed, err = run(*command)
            assert (code, printed) == (2, ""), err
            assert f" {out} would change the model " in err
    parts = ["--shard", "1/2", "-o", version / "parts"]
    assert run("recommend", model, "--users", "all", *parts)[0] == 2
    assert run("inspect", model, "--verify")[0] == 0
    assert run("recommend", model, "--user", "000", "-o", model / "lists.csv")[0] == 0
    (model / "lists.csv").unlink()


def test_no_directory_is_written_over_an_input(run, small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plays"
    folder.mkdir()
    (folder / "train.parquet").write_bytes(small.read_bytes())
    (folder / "best.toml").write_text("model = 'ease'\n")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "CURRENT").write_bytes(small.read_bytes())
    for command, said in (
        (["data", "split", folder / "train.parquet", folder], "OUT"),
        (["data", "split", folder, folder / "new"], "OUT"),
        (["train", folder, "-o", folder / "new"], "-o"),
        (["train", tmp_path / "m" / "CURRENT", "-o", tmp_path / "m"], "-o"),
        (["tune", small, "--config", folder / "best.toml", "-o", folder], "-o"),
        (["data", "check", folder, "--rejects", folder / "r.csv"], "rejects"),
    ):
        code, out, err = run(*command)
        assert (code, out) == (2, ""), err
        assert f"recae: error: {said} " in err
        assert " would change " in err
    assert sorted(path.name for path in folder.iterdir()) == ["best.toml", "train.parquet"]


def test_two_outputs_are_two_files(run, small: Path, model: Path, tmp_path: Path) -> None:
    out = ["--html", tmp_path / "r", "--markdown", tmp_path / "r"]
    code, _, err = run("evaluate", model, small, *out)
    assert (code, "--markdown and --html are both" in err) == (2, True)


def test_lists_of_piped_people_are_not_written_over_them(
    run, small: Path, model: Path, tmp_path: Path
) -> None:
    data = tmp_path / "plays.csv"
    data.write_bytes(small.read_bytes())
    stdin = os.dup(0)
    with data.open() as piped:
        os.dup2(piped.fileno(), 0)
        try:
            code, _, err = run("recommend", model, "--interactions", "-", "-o", data)
        finally:
            os.dup2(stdin, 0)
            os.close(stdin)
    assert (code, "would change --interactions -; name another file" in err) == (2, True), err


@pytest.mark.parametrize(
    "command",
    [
        ["train", "DATA", "-o", ""],
        ["data", "split", "DATA", ""],
        ["data", "fetch", "ml-latest-small", "-o", ""],
        ["demo", "-o", ""],
        ["tune", "DATA", "-o", ""],
        ["recommend", "MODEL", "--users", "all", "--shard", "1/2", "-o", ""],
    ],
)
def test_an_empty_name_is_not_the_current_directory(
    run, small: Path, model: Path, command: list[str], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"DATA": small, "MODEL": model}
    code, out, err = run(*[places.get(a, a) for a in command])
    assert (code, out) == (2, ""), err
    assert "an empty name is no directory" in err
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- lists longer than the catalogue


@pytest.mark.parametrize(
    "command", [["recommend", "--users", "all", "--include-seen"], ["similar", "--all"]]
)
def test_a_length_beyond_the_catalogue_needs_no_memory(
    run, model: Path, tmp_path: Path, command: list[str]
) -> None:
    name, *options = command
    huge = 10**12  # as many places have no address
    code, text, err = run(name, model, *options, "-o", tmp_path / "o.csv", "--json", "-k", huge)
    assert code == 0, err
    counts = json.loads(text)
    assert counts["short_lists"] == counts.get("users", counts.get("items")) > 0
    code, streamed, err = run(name, model, *options, "-k", huge)
    assert code == 0, err
    code, expected, err = run(name, model, *options, "-k", 40)
    assert code == 0, err
    assert (tmp_path / "o.csv").read_text() == streamed == expected


# ---------------------------------------------------------------- lists as JSON


def test_the_list_of_one_person_is_json_whoever_asks(run, model: Path) -> None:
    code, known, err = run("recommend", model, "--user", "000", "-k", 3, "--json")
    assert code == 0, err
    code, lines, err = run("recommend", model, "--user", "000", "-k", 3, "--format", "jsonl")
    assert code == 0, err
    (places,) = [json.loads(line)["items"] for line in lines.splitlines()]
    found = json.loads(known)
    assert [i["item_id"] for i in found] == [i["item_id"] for i in places]
    assert np.array_equal(*(np.float32([i["score"] for i in some]) for some in (found, places)))
    code, folded_in, err = run("recommend", model, "--history", "m1", "-k", 3, "--json")
    assert code == 0, err
    assert [list(i) for i in json.loads(folded_in)] == [list(i) for i in found]


@pytest.mark.parametrize(
    "ask",
    [
        ["recommend", "--users", "all"],
        ["recommend", "--user", "000", "--user", "001", "-o", "-"],
        ["recommend", "--users", "all", "--shard", "1/2"],
        ["similar", "--all"],
    ],
)
def test_lists_of_many_are_lines_of_json(run, model: Path, ask: list[str]) -> None:
    name, *options = ask
    code, lines, err = run(name, model, *options, "-k", 2, "--json")
    assert code == 0, err
    owner = "user_id" if name == "recommend" else "target_item_id"
    assert {tuple(json.loads(line)) for line in lines.splitlines()} == {(owner, "items")}
    assert run(name, model, *options, "-k", 2, "--format", "jsonl") == (0, lines, err)
    code, out, err = run(name, model, *options, "--json", "--format", "csv")
    assert (code, out) == (2, "")
    assert "--json prints the lists as JSON; --format csv does not go with it" in err


# ---------------------------------------------------------------- options without effect


@pytest.mark.parametrize(
    "ask",
    [
        ["recommend", "--user", "000"],
        ["recommend", "--users", "all"],
        ["recommend", "--history", "m1"],
        ["embed", "--items", "-o", "OUT"],
    ],
)
@pytest.mark.parametrize(
    "option", [["--min-rating", "0"], ["--user-col", "nope"], ["--no-header"], ["--min-user", "0"]]
)
def test_reading_options_are_refused_where_nothing_is_read(
    run, model: Path, tmp_path: Path, ask: list[str], option: list[str]
) -> None:
    name, *options = [str(tmp_path / "o.parquet") if a == "OUT" else a for a in ask]
    code, out, err = run(name, model, *options, *option)
    assert (code, out) == (2, ""), err
    assert f"{option[0]} says how a file is read; it goes with --interactions" in err


def test_settings_of_models_that_have_no_part_are_refused(run, small: Path, tmp_path: Path) -> None:
    setting = ["--set", "mult-vae.latent_dim=4"]
    for ask, asked in (
        (["train", small, "-o", tmp_path / "m", "--model", "ease"], "ease"),
        (["train", small, "-o", tmp_path / "m", "--set", "model=popular"], "popular"),
        (["compare", small, "--models", "popular,ease"], "popular, ease"),
        (["tune", small, "--models", "ease"], "ease"),
        (["data", "split", small, tmp_path / "s"], "none"),
    ):
        code, out, err = run(*ask, *setting)
        assert (code, out) == (2, ""), err
        assert "read " not in err
        assert f"is about a model that has no part in this; asked for: {asked}" in err
    config = tmp_path / "shared.toml"
    config.write_text("[mult-vae]\nlatent_dim = 4\n[ease]\nl2 = 5.0\n")
    assert run("compare", small, "--models", "popular,ease", "--config", config)[0] == 0


# ---------------------------------------------------------------- nobody vanishes


def test_people_all_of_whose_rows_are_below_a_minimum_are_named(
    run, odd: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, _ = odd
    new = tmp_path / "new.csv"
    new.write_text("who;what;stars\nann;m1;5\nbob;m1;1\ncho;m2;1\ndee;nowhere;5\n")
    out = tmp_path / "o.csv"
    ask = ["recommend", directory, "--interactions", new, "-k", 3, "-o", out, "--json"]
    code, text, err = run(*ask)
    assert code == 0, err
    assert f"all rows of 2 people of {new} are below a minimum, and they get nothing" in err
    assert (json.loads(text)["users"], json.loads(text)["left_out"]) == (1, 3)
    assert json.loads(text)["left_out_first"] == ["dee", "bob", "cho"]
    code, text, err = run(*ask, "--min-rating", 1)
    assert code == 0, err
    assert "below a minimum" not in err
    assert json.loads(text)["left_out_first"] == ["dee"]
    rows = new.read_text()
    none = "all rows of 2 people of - are below a minimum, and they get nothing: 'bob', 'cho'"
    not_named = "people all of whose rows are below a minimum are not named"
    for more, given, said in (
        ([], rows, none),
        (["--min-item", "2"], rows.replace("cho;m2;1", "cho;m1;5"), not_named),
    ):
        piped = subprocess.run(
            [sys.executable, "-m", "recae", *map(str, ask[:3]), "-", "-k", "3", *more],
            input=given, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert said in piped.stderr


# ---------------------------------------------------------------- data split


def test_a_split_over_another_one_says_so(run, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "sp"
    code, _, err = run("data", "split", small, out)
    assert code == 0, err
    assert "earlier split" not in err
    code, _, err = run("data", "split", small, out, "--protocol", "all")
    assert code == 0, err
    assert f"note: {out} holds an earlier split, which is replaced" in err


def test_a_split_that_cannot_be_written_leaves_nothing_that_looks_whole(
    run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recae.errors import ResourceError

    old, new = tmp_path / "old", tmp_path / "new"
    assert run("data", "split", small, old)[0] == 0

    def full(path: Path, _table: object) -> None:
        raise ResourceError(f"cannot write {path}: no space left on device")

    monkeypatch.setattr("recae.storage.write_parquet", full)
    for out in (old, new):
        code, _, err = run("data", "split", small, out)
        assert code == 5, err
    assert not new.exists()
    assert list(old.iterdir()) == []


def test_a_split_onto_a_file_is_refused_before_reading(run, small: Path) -> None:
    code, out, err = run("data", "split", small, small)
    assert (code, out) == (2, ""), err
    assert "is a file" in err
    assert "read " not in err


def test_a_split_is_told_without_python(run, small: Path, tmp_path: Path) -> None:
    code, out, err = run("data", "split", small, tmp_path / "a", "--protocol", "all")
    assert code == 0, err
    assert not set("{}") & set(out)
    assert "  validation_fraction: none" in out.splitlines()
    code, out, err = run("data", "split", small, tmp_path / "b")
    assert code == 0, err
    assert not set("{}") & set(out)
    assert "None" not in out
    assert "  target_fraction: 0.2" in out.splitlines()


# ---------------------------------------------------------------- starting and stopping


@pytest.mark.parametrize(
    ("value", "traced"), [("0", False), ("", False), ("no", False), ("1", True)]
)
def test_debugging_is_turned_on_by_yes_only(tmp_path: Path, value: str, traced: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "recae", "data", "check", str(tmp_path / "missing.csv")],
        env={**os.environ, "RECAE_DEBUG": value}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert ("Traceback" in done.stderr) is traced


@pytest.mark.parametrize(
    ("arguments", "stderr", "code"),
    [
        ("data split DATA OUT", "2>/dev/full", 0),
        ("data check missing.csv", "2>/dev/full", 3),
        ("train DATA -o OUT --model mult-dae --epochs 1 --set mult-dae.hidden=[8]", "2>&-", 0),
    ],
)
def test_work_is_done_where_stderr_cannot_be_written(
    small: Path, tmp_path: Path, arguments: str, stderr: str, code: int
) -> None:
    given = arguments.replace("DATA", str(small)).replace("OUT", str(tmp_path / "out"))
    command = f"{sys.executable} -m recae {given} {stderr}"
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, check=False)
    assert (done.returncode, bool(done.stdout)) == (code, code == 0)
    whole = [*tmp_path.glob("out/split.json"), *tmp_path.glob("out/CURRENT")]
    assert len(whole) == (code == 0)


def test_a_narrow_address_space_is_enough_or_refused(small: Path, model: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (960_000 << 10, 960_000 << 10))

    for arguments, code, said in (
        (["data", "check", small], 0, "960 interactions"),
        (["recommend", model, "--user", "000"], 5, "0.98 GB of address space are allowed"),
    ):
        process = _recae(*arguments, preexec_fn=limit)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert said in (err if code else out)


_INTERRUPTED = """
import sys
import recae.__main__

class Interrupted:
    def find_spec(self, name, path, target=None):
        if name == "recae.cli.main":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
recae.__main__.main()
"""


def test_an_interrupt_while_the_command_line_is_loaded_is_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "recae: error: stopped\n")
