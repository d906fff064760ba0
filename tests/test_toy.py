"""A network in a file of its own goes the whole way: no other file of the package knows it."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from waitress.server import create_server

import recae
from recae.cli.main import run
from recae.serving.bundle import load_bundle
from recae_api import create_app
from tests.toy import Toy, known

ROOT = Path(__file__).parents[1]
SETTINGS = ["--model", "toy", "--epochs", "4", "--set", "toy.width=8", "--set", "toy.batch_size=64"]


@pytest.fixture(scope="module", autouse=True)
def toy() -> Iterator[None]:
    with known():
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few hundred people of the sample, in time."""
    data = recae.sample().take_users(np.arange(300))
    users, items = data.users.ids_at(range(300)), data.items.ids_at(range(data.n_items))
    path = tmp_path_factory.mktemp("toy") / "rows.csv"
    lines = ["user_id,item_id,timestamp"]
    assert data.times is not None
    for user in range(300):
        for entry in range(data.matrix.indptr[user], data.matrix.indptr[user + 1]):
            time = data.times[entry] // 1_000_000
            lines.append(f"{users[user]},{items[data.matrix.indices[entry]]},{time}")
    path.write_text("\n".join(lines) + "\n")
    return path


def recae_run(*arguments: str) -> None:
    assert run(list(arguments), debug=True) == 0, arguments


@pytest.fixture(scope="module")
def directory(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "toy"
    recae_run("train", str(source), "-o", str(out), *SETTINGS)
    return out


def weights(directory: Path) -> bytes:
    (version,) = directory.glob("v-*")
    return (version / "model.safetensors").read_bytes()


def test_a_killed_training_goes_on_to_the_same_bytes(
    source: Path, directory: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    often = "CheckpointStore.pause_s = CheckpointStore.spacing = 0.0"
    command = [
        sys.executable,
        "-c",
        f"from recae.training.checkpoint import CheckpointStore; {often};"
        "from recae.cli.main import main; main()",
        "--import",
        "tests.toy_registered",
        "train",
        str(source),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'api'}"}
    process = subprocess.Popen(
        [*command, "-o", str(out), *SETTINGS], env=environment, cwd=ROOT, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not any(out.glob("run/step-*.json")):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert any(out.glob("run/step-*.json"))
    recae_run("train", str(source), "-o", str(out), *SETTINGS, "--resume")
    assert weights(out) == weights(directory)


def test_lists_are_the_same_in_python_file_and_http(directory: Path, tmp_path: Path) -> None:
    films = recae.load(directory)
    assert films.model_name == "toy"
    path = tmp_path / "lists.csv"
    recae_run("recommend", str(directory), "--users", "all", "-k", "5", "-o", str(path))
    listed: dict[str, list[str]] = {}
    for row in csv.DictReader(path.read_text().splitlines()):
        listed.setdefault(row["user_id"], []).append(row["item_id"])
    server = create_server(create_app(films), host="127.0.0.1", port=0, threads=2)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        for user in list(listed)[:25]:
            found = [item.item for item in films.recommend(user=user, k=5).items]
            address = f"http://127.0.0.1:{server.effective_port}/recommend?user={user}&k=5"
            with urllib.request.urlopen(address) as answer:
                served = [item["item"] for item in json.load(answer)["items"]]
            assert found == served == listed[user]
    finally:
        server.close()
        thread.join(timeout=10)


def test_the_order_of_a_file_of_people_counts(
    source: Path, directory: Path, tmp_path: Path
) -> None:
    """The same rows at other times give other lists, and those of Python for that order."""
    films = recae.load(directory)
    header, *rows = source.read_text().splitlines()
    mine = [row.split(",") for row in rows if row.startswith(rows[0].split(",")[0] + ",")]
    history = [item for _, item, _ in sorted(mine, key=lambda row: int(row[2]))]
    lists = []
    for number, items in enumerate((history, history[::-1])):
        path, out = tmp_path / f"{number}.csv", tmp_path / f"lists-{number}.csv"
        path.write_text("\n".join([header, *(f"me,{i},{t}" for t, i in enumerate(items, 1))]))
        asked = ["recommend", str(directory), "--interactions", str(path), "-k", "9"]
        recae_run(*asked, "-o", str(out))
        grouped = tmp_path / f"grouped-{number}.csv"
        recae_run(*asked, "--grouped", "-o", str(grouped))
        assert grouped.read_bytes() == out.read_bytes()
        lists.append([row["item_id"] for row in csv.DictReader(out.read_text().splitlines())])
        assert lists[-1] == [item.item for item in films.recommend(history=items, k=9).items]
    assert lists[0] != lists[1]


def test_it_is_evaluated_compared_and_rehearsed(
    source: Path, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recae_run("evaluate", str(directory), str(source), "--json")
    assert json.loads(capsys.readouterr().out)["metrics"]["ndcg@100"]["mean"] > 0
    settings = [*SETTINGS[4:], "--set", "toy.epochs=2"]
    recae_run("compare", str(source), "--models", "toy,popular", *settings, "--json")
    assert set(json.loads(capsys.readouterr().out)["models"]) == {"toy", "popular"}
    tuned = tmp_path / "tuned"
    settings = ["--set", "toy.batch_size=64", "--set", "toy.epochs=2", "--trials", "2"]
    recae_run("tune", str(source), "--models", "toy", *settings, "-o", str(tuned))
    assert any("[toy]" in path.read_text() for path in tuned.glob("*.toml"))
    capsys.readouterr()
    recae_run("train", str(source), "--dry-run", "--json", *SETTINGS)
    measured = json.loads(capsys.readouterr().out)["measured"]
    assert measured["steps"] == 4 * 2 * -(-240 // 64)  # two passes an epoch
    assert measured["step_s"] > 0


def test_the_log_names_every_part_of_the_loss(directory: Path) -> None:
    records = json.loads((directory / "run" / "training.json").read_text())["log"]
    assert all(set(record["parts"]) == {"nll", "apart"} for record in records)
    assert records[-1]["parts"]["nll"] < records[0]["parts"]["nll"]


def test_what_only_training_needs_is_not_stored(directory: Path) -> None:
    model = load_bundle(directory).model
    assert isinstance(model, Toy)
    assert "centre" in model.network.state_dict()
    assert not any(name.startswith("centre") for name in model.arrays())


def test_no_file_of_the_package_knows_it() -> None:
    for path in Path(recae.__file__).parent.rglob("*.py"):
        assert not re.search(r"\btoy\b", path.read_text(), re.IGNORECASE), path
