"""`recae recommend --interactions FILE`, all at once and ``--grouped``: time, memory, same lists.

    python benchmarks/recommend_file.py

Files of the kind that `read.py` reads, of people whom the model (a Mult-VAE of the paper's widths,
one epoch on the first rows) has mostly not seen; ten items each, to Parquet. Every run is a process
of its own, the two ways in turns; its peak is what the system says of it, libraries included.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from peers.orders import Stopwatch, peak_gb
from read import write_table

TRAINED_ON = 500_000
WAYS = {"all at once": (), "grouped": ("--grouped",)}


def measure(arguments: list[str]) -> None:
    """Run a command of recae in this process, and print figures as JSON."""
    from recae.cli.main import run

    watch = Stopwatch()
    if run(arguments, debug=False):
        raise SystemExit(1)
    print(json.dumps({**watch.read(), "peak_gb": peak_gb()}))


def compare(folder: Path, model: Path, rows: int, rounds: int) -> dict[str, object]:
    """Lists for the people of a file of so many rows, both ways."""
    path = folder / f"{rows}.csv"
    write_table(path, rows, seed=rows)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, options in WAYS.items():
            command = ["recommend", model, "--interactions", path, "-o", folder / f"{way}.parquet"]
            found = _measured([*map(str, command), *options])
            runs[way].append(found)
            print(f"{rows:,} rows, {way}: {found}", file=sys.stderr)
    lists = [pq.read_table(folder / f"{way}.parquet") for way in WAYS]
    if not lists[0].equals(lists[1]):
        raise SystemExit("the lists differ")
    path.unlink()
    return {
        "people": len(lists[0]["user_id"].unique()),
        "seconds": {w: statistics.median(r["seconds"] for r in found) for w, found in runs.items()},
        "peak_gb": {w: statistics.median(r["peak_gb"] for r in found) for w, found in runs.items()},
        "runs": runs,
    }


def _measured(arguments: list[str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if done.returncode:
        raise SystemExit(f"{arguments} ended with {done.returncode}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000_000, 60_000_000])
    parser.add_argument("--rounds", type=int, default=2)
    out = Path(__file__).parent / "results" / "recommend_file.json"
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(json.loads(args.measure))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_table(folder / "train.csv", TRAINED_ON)
        train = ["train", folder / "train.csv", "-o", folder / "model", "--protocol", "all"]
        widths = ["--set", "mult-vae.hidden=[600]", "--set", "mult-vae.latent_dim=200"]
        _measured([*map(str, train), *widths, "--min-rating", "4", "--epochs", "1"])
        sizes = {rows: compare(folder, folder / "model", rows, args.rounds) for rows in args.rows}
    from rates import machine, rates  # torch, which is not to be held before

    result = {
        "sizes": sizes,
        "command": "python benchmarks/recommend_file.py",
        "machine": machine(),
        "rates": rates(batch=500),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["sizes"], indent=1))


if __name__ == "__main__":
    main()
