"""Reading a CSV of text ids to a sparse matrix: recae beside pandas, in turns, one process each.

    python benchmarks/read.py --rows 20000000

Both read all four columns of the same file, keep ratings of at least 4, number the ids by first
appearance and end with a CSR matrix. pandas reads texts (``dtype=str``) and factorizes: its other
ways guess numbers where ids are meant. recae checks and accounts for every row besides.
"""

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from peers.orders import peak_gb

ITEMS = 20_000
CHUNK_USERS = 5_000


def write_table(path: Path, rows: int, seed: int = 0) -> None:
    """Users in blocks, items by a power law without repeats, half-star ratings, epoch seconds."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, ITEMS + 1) ** 0.8
    popularity /= popularity.sum()
    names = rng.permutation(ITEMS)
    left, user = rows, 0
    with path.open("w", encoding="ascii") as file:
        file.write("user_id,item_id,rating,timestamp\n")
        while left > 0:
            lengths = np.clip(rng.lognormal(4.3, 1.2, CHUNK_USERS).astype(int), 1, 3_000)
            drawn = rng.choice(ITEMS, size=lengths.sum(), p=popularity)
            owner = np.repeat(np.arange(user, user + CHUNK_USERS), lengths)
            _, first = np.unique(owner * np.int64(ITEMS) + drawn, return_index=True)
            first = np.sort(first)[:left]
            owner, item = owner[first], names[drawn[first]]
            rating = rng.integers(1, 11, len(first)) / 2
            stamp = rng.integers(800_000_000, 1_600_000_000, len(first))
            columns = zip(
                owner.tolist(), item.tolist(), rating.tolist(), stamp.tolist(), strict=True
            )
            file.writelines(f"u{u:07d},m{i:06d},{r},{t}\n" for u, i, r, t in columns)
            left -= len(first)
            user += CHUNK_USERS


def read_with_recae(path: Path) -> tuple[int, int, int]:
    from recae.data.readers import read_interactions

    data = read_interactions(path, min_rating=4)
    return data.n_users, data.n_items, int(data.matrix.nnz)


def read_with_pandas(path: Path) -> tuple[int, int, int]:
    import pandas as pd
    from scipy.sparse import csr_array

    frame = pd.read_csv(path, dtype=str)
    frame = frame[frame["rating"].astype(np.float64) >= 4]
    user, users = pd.factorize(frame["user_id"])
    item, items = pd.factorize(frame["item_id"])
    ones = np.ones(len(frame), dtype=np.float32)
    matrix = csr_array((ones, (user, item)), shape=(len(users), len(items)))
    return len(users), len(items), int(matrix.nnz)


READERS = {"recae": read_with_recae, "pandas": read_with_pandas}


def measure(reader: str, path: Path) -> None:
    """Read once in this process and print figures as JSON."""
    for module in ("scipy.sparse", "recae.data.readers" if reader == "recae" else "pandas"):
        importlib.import_module(module)
    start = time.perf_counter()
    shape = READERS[reader](path)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_gb": peak_gb(), "shape": shape}))


def compare(rows: int, rounds: int) -> dict[str, object]:
    """Read the same file with both in turns; medians, and what was read."""
    runs: dict[str, list[dict[str, object]]] = {name: [] for name in READERS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "interactions.csv"
        write_table(path, rows)
        size = path.stat().st_size
        path.read_bytes()  # both find the file in memory
        for _ in range(rounds):
            for name in READERS:
                command = [sys.executable, __file__, "--measure", name, str(path)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs[name].append(json.loads(done.stdout))
                print(name, done.stdout.strip(), file=sys.stderr)
    shapes = {tuple(run["shape"]) for found in runs.values() for run in found}
    if len(shapes) != 1:
        raise SystemExit(f"the readers disagree: {shapes}")
    seconds = {n: statistics.median(r["seconds"] for r in found) for n, found in runs.items()}
    peak = {n: statistics.median(r["peak_gb"] for r in found) for n, found in runs.items()}
    return {
        "ratio_read": seconds["pandas"] / seconds["recae"],
        "read_peak_gb": peak["recae"],
        "rows": rows,
        "bytes": size,
        "shape": shapes.pop(),
        "seconds": seconds,
        "peak_gb": peak,
        "runs": runs,
        "versions": {n: version(n) for n in ("recae", "pandas", "pyarrow", "numpy", "scipy")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/read.json")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], Path(args.measure[1]))
        return
    from rates import machine  # here, because it imports torch, which a reader does not need

    result = compare(args.rows, args.rounds) | {"machine": machine()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
