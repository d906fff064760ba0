"""Python, command line, batch file and HTTP give the same lists, for a thousand people."""

import csv
import json
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from waitress.server import create_server

import recae
from recae.cli.main import run
from recae_api import create_app

K = 20
PEOPLE = 1000


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mult-VAE trained for three epochs on the sample."""
    out = tmp_path_factory.mktemp("m") / "vae"
    data = recae.sample()
    split = recae.split(data, "strong", rng=0)
    model = recae.MultVAE(epochs=3, hidden=(64,), latent_dim=16).fit(split.train)
    recae.save(model, out, data=data, split=split)
    return out


@pytest.fixture(scope="module")
def address(directory: Path) -> Iterator[str]:
    """A server over the directory, on a free port."""
    server = create_server(create_app(recae.load(directory)), host="127.0.0.1", port=0, threads=2)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    thread.join(timeout=10)


Lists = dict[str, list[tuple[str, np.float32]]]


def from_file(directory: Path, path: Path) -> Lists:
    arguments = ["recommend", str(directory), "--users", "all", "-k", str(K), "-o", str(path)]
    assert run(arguments, debug=False) == 0
    lists: Lists = {}
    for row in csv.DictReader(path.read_text().splitlines()):
        assert int(row["rank"]) == len(lists.setdefault(row["user_id"], [])) + 1
        lists[row["user_id"]].append((row["item_id"], np.float32(row["score"])))
    return lists


@pytest.mark.slow
def test_one_list_everywhere(directory: Path, address: str, tmp_path: Path) -> None:
    batch = from_file(directory, tmp_path / "lists.csv")
    service = recae.load(directory)
    users = list(batch)[:PEOPLE]
    assert len(users) == PEOPLE
    for user in users:
        one = service.recommend(user=user, k=K)
        expected = batch[user]
        assert [(i.item, np.float32(i.score)) for i in one.items] == expected
        query = urllib.parse.urlencode({"user": user, "k": K})
        with urllib.request.urlopen(f"{address}/recommend?{query}", timeout=30) as answer:
            items = json.load(answer)["items"]
        assert [(i["item"], np.float32(i["score"])) for i in items] == expected
    for user in users[:50]:  # a known user is only a history that is stored
        folded = service.recommend(history=service.history(user), k=K)
        assert [(i.item, np.float32(i.score)) for i in folded.items] == batch[user]


@pytest.mark.slow
def test_thread_count_changes_no_list(directory: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(from_file(directory, tmp_path / f"{threads}.csv"))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]
