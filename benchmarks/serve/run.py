"""`recae serve` beside a plain Flask application: requests a second and CPU time a request.

Usage: python benchmarks/serve/run.py [ML1M.parquet] [-o FILE] [--seconds S]

Both stand behind waitress with four threads, one process each, one thread of arithmetic, and
answer 16 connections in turns (`load.py`). `plain_app.py` is what people write in twenty lines:
eager torch, no checks, random weights of the same shape. recae serves a Mult-VAE that was trained
for two epochs, with its checks, its log and exact lists, and keeps no answer. Shapes: MovieLens-1M,
where its file is given, and made data of 20,000 items.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from recae.data.synthetic import MatrixShape, ml20m_shape

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from rates import machine  # noqa: E402  # beside this folder

MADE = MatrixShape(n_users=8000, n_items=20_000, n_interactions=700_000)
TURN = re.compile(
    r"^(\d+) (ours|plain) +([\d.]+)/s p50 +([\d.]+) p95 +([\d.]+) p99 +([\d.]+) ms,"
    r" +([\d.]+) CPU ms a request, (\d+) failed$"
)
PARTS = ("rate", "p50_ms", "p95_ms", "p99_ms", "cpu_ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ml1m", nargs="?", type=Path, help="ml-1m/interactions.parquet")
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--seconds", type=float, default=8, help="Of a turn.")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    result = {
        "machine": machine(),
        "versions": versions(),
        "connections": 16,
        "threads": 4,
        "seconds": arguments.seconds,
        "load_average_before": before,
        "command": "python benchmarks/serve/run.py DIR/ml-1m/interactions.parquet",
        "shapes": {},
    }
    shapes = {"made": made()}
    if arguments.ml1m is not None:
        shapes = {"ml-1m": pd.read_parquet(arguments.ml1m), **shapes}
    for name, rows in shapes.items():
        result["shapes"][name] = beside(rows, arguments.seconds)
    text = json.dumps(result, indent=1) + "\n"
    if arguments.out is not None:
        arguments.out.write_text(text)
    print(text)


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("recae", "torch", "flask", "waitress", "numpy")}


def made() -> pd.DataFrame:
    """Interactions in the columns that both read; every item is rated by somebody."""
    entries = ml20m_shape(0, MADE).tocoo()
    users, items = (pd.Series(axis).astype(int) for axis in entries.coords)
    return pd.DataFrame({"user_id": users, "item_id": items, "rating": 5.0})


def beside(rows: pd.DataFrame, seconds: float) -> dict[str, object]:
    """Train, start both, and let `load.py` ask them."""
    liked = rows[rows.rating >= 4]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        data, model, users = (Path(folder) / name for name in ("rows.csv", "model", "users.txt"))
        rows[["user_id", "item_id", "rating"]].to_csv(data, index=False)
        users.write_text("\n".join(map(str, liked.user_id.unique())))
        train = ["train", str(data), "--min-rating", "4", "--epochs", "2", "-o", str(model)]
        subprocess.run([sys.executable, "-m", "recae", *train], check=True, capture_output=True)
        ours, plain = 8911, 8912
        commands = (
            ([sys.executable, "-m", "recae", "serve", str(model), "--port", str(ours)], ours),
            ([sys.executable, str(HERE / "plain_app.py"), str(data), str(plain)], plain),
        )
        asked = []
        for command, port in commands:
            process = subprocess.Popen(
                command,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            running.callback(process.wait)
            running.callback(process.terminate)
            wait_for(process, port)
            asked += [str(process.pid), str(port)]
        load = [sys.executable, str(HERE / "load.py"), *asked, str(users), "16", str(seconds)]
        said = subprocess.run(load, check=True, capture_output=True, text=True).stdout
    return {
        "n_users": int(liked.user_id.nunique()),
        "n_items": int(liked.item_id.nunique()),
        "n_interactions": len(liked),
        **summary(said),
    }


def wait_for(process: subprocess.Popen, port: int) -> None:
    """Return once somebody listens."""
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"{process.args} ended with {process.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"nobody listens on {port} after two minutes")


def summary(said: str) -> dict[str, object]:
    """Figures of the turns that `load.py` printed, the first of each left out, as it does.

    Raises
    ------
    SystemExit
        If a request failed.
    """
    turns: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
    for line in said.splitlines():
        found = TURN.match(line)
        if found is None:
            continue
        number, name, *figures, failed = found.groups()
        if int(failed):
            raise SystemExit(f"requests failed: {line}")
        if int(number):
            turns[name].append(dict(zip(PARTS, map(float, figures), strict=True)))
    median = {
        name: {part: statistics.median(turn[part] for turn in some) for part in PARTS}
        for name, some in turns.items()
    }
    return {
        "turns": turns,
        "median": median,
        "ratio_rate": median["ours"]["rate"] / median["plain"]["rate"],
        "ratio_cpu": median["ours"]["cpu_ms"] / median["plain"]["cpu_ms"],
    }


if __name__ == "__main__":
    main()
