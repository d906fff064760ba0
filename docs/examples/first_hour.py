"""The first hour: a DataFrame in, lists with titles out, a model and a metric of one's own.

``python docs/examples/first_hour.py`` takes some seconds, and leaves nothing behind. The people and
films are made up; in their place stands a table of yours with a row for each thing that somebody
bought, saw or rated.
"""

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd

import recae


class Neighbours(recae.Recommender):
    """Films that people have beside those of a history, in shares of their audience."""

    name = "neighbours"

    def __init__(self, smoothing: float = 10.0):
        self.smoothing = smoothing

    def fit(self, train):
        x = train.matrix  # people x films, scipy's csr_array
        together = (x.T @ x).toarray()
        audience = together.diagonal()
        self.shares = together / (audience + self.smoothing)[:, None]
        np.fill_diagonal(self.shares, 0)
        return self

    def scores(self, histories):
        return histories.matrix @ self.shares  # people x films, higher is better


recae.register(Neighbours)  # "neighbours" is now a name like "ease", here and with recae --import


def first_is_hit(ranked, targets):
    """Share of people who would choose the first film they are shown."""
    return float(np.isin(ranked[:1], targets).any())  # a list may be empty


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Who saw what, and what the films are called; ids are numbers, as in most tables."""
    rng = np.random.default_rng(0)
    films = pd.DataFrame({"film": range(100, 160)})
    films["title"] = [f"{'Western' if film % 2 else 'Comedy'} {film}" for film in films["film"]]
    seen = [
        (person, film)
        for person in range(1, 401)
        for film in rng.choice(films["film"][person % 2 :: 2], size=12, replace=False)
        if rng.random() < 0.9
    ]
    return pd.DataFrame(seen, columns=["person", "film"]), films


def main() -> None:
    """Read, compare, save, recommend, serve."""
    seen, films = tables()
    data = recae.read_interactions(seen, items=films, user_col="person", item_col="film")
    split = recae.split(data, rng=0)
    print(data)

    table = recae.compare(
        ["popular", "ease", "neighbours"], split, metrics=["ndcg@10", first_is_hit, "novelty@10"]
    )
    print(table, end="\n\n")

    with tempfile.TemporaryDirectory() as folder:
        model = Neighbours().fit(split.train)
        recae.save(model, Path(folder) / "films", data=data, split=split)
        service = recae.load(Path(folder) / "films")
        cohort = service.recommend(users=seen["person"].unique()[:3], k=2)  # Series and arrays too
        print(cohort.to_frame(), end="\n\n")
        print(service.recommend(history=[101, 103], k=3))  # somebody nobody has seen
        print(ask_over_http(Path(folder) / "films", user=7))


def ask_over_http(directory: Path, user: int) -> str:
    """Start a server as a shell would, ask it for one list, and stop it."""
    command = ["--import", Path(__file__).stem, "serve", str(directory), "--port", "0"]
    server = subprocess.Popen(
        [sys.executable, "-m", "recae", *command],
        cwd=Path(__file__).parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = server.stderr.readline()  # listening on http://127.0.0.1:PORT/, ...
        if "http://" not in said:
            raise RuntimeError(f"the server did not start: {said}{server.stderr.read()}")
        address = said.split("http://")[1].split("/")[0]
        with urllib.request.urlopen(f"http://{address}/recommend?user={user}&k=3") as answer:
            items = json.load(answer)["items"]
    finally:
        server.terminate()
        server.communicate(timeout=30)
    return f"over HTTP, for {user}: {', '.join(item['title'] for item in items)}"


if __name__ == "__main__":
    main()
