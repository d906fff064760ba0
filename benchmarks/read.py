"""Reading a CSV of text ids to a sparse matrix: recae beside pandas, pyarrow and polars.

    python benchmarks/read.py
    benchmarks/peers/build.sh build/peers python3 polars    # polars has an environment of its own

All read the same file in turns, each time in a new process, and do the same: keep the latest row
of a pair, drop pairs rated below 4, number users and items from 0, end with a matrix in CSR; recae
keeps the dropped pairs beside it, as what was seen. Counts of users, items and pairs, and the sum
of the times of the pairs, must be the same, or no figure is told. recae does more: it accounts for
every row, refuses what it cannot read, numbers ids by first appearance and keeps the order of the
input. Figures are medians over the rounds, with the lowest and the highest; a ratio is one of
processor seconds, which other work on the machine changes least.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from peers.orders import Stopwatch, peak_gb
from scipy.sparse import csr_array

ITEMS = 20_000
CHUNK_USERS = 5_000


def write_table(path: Path, rows: int, seed: int = 0, *, repeats: bool = False) -> None:
    """Users in blocks, items by a power law, half-star ratings, epoch seconds.

    With `repeats`, a user has some items several times: in one row of seven, about.
    """
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
            if repeats:
                kept = np.arange(len(owner))[:left]
            else:
                _, first = np.unique(owner * np.int64(ITEMS) + drawn, return_index=True)
                kept = np.sort(first)[:left]
            owner, item = owner[kept], names[drawn[kept]]
            rating = rng.integers(1, 11, len(kept)) / 2
            stamp = rng.integers(800_000_000, 1_600_000_000, len(kept))
            columns = zip(
                owner.tolist(), item.tolist(), rating.tolist(), stamp.tolist(), strict=True
            )
            file.writelines(f"u{u:07d},m{i:06d},{r},{t}\n" for u, i, r, t in columns)
            left -= len(kept)
            user += CHUNK_USERS


Counts = dict[str, int]


def counted(times: object, user: object, item: object, n_users: int, n_items: int) -> Counts:
    """What was read; the entries of the matrix are the times, in seconds since 1970."""
    matrix = csr_array((np.asarray(times), (user, item)), shape=(n_users, n_items))
    times_s = int(matrix.data.sum())
    return {"users": n_users, "items": n_items, "pairs": int(matrix.nnz), "times_s": times_s}


def read_with_recae(path: Path) -> Counts:
    from recae.data.readers import read_interactions

    data = read_interactions(path, min_rating=4)
    times_s = int((data.times // 1_000_000).sum())
    pairs = int(data.matrix.nnz)
    return {"users": data.n_users, "items": data.n_items, "pairs": pairs, "times_s": times_s}


def read_with_pandas(path: Path) -> Counts:
    import pandas as pd

    text = {"user_id": str, "item_id": str}
    rows = pd.read_csv(path, dtype=text, keep_default_na=False)
    rows = rows.sort_values("timestamp").drop_duplicates(["user_id", "item_id"], keep="last")
    rows = rows[rows["rating"] >= 4]
    user, users = pd.factorize(rows["user_id"])
    item, items = pd.factorize(rows["item_id"])
    return counted(rows["timestamp"], user, item, len(users), len(items))


def read_with_pyarrow(path: Path) -> Counts:
    import pyarrow as pa
    from pyarrow import compute, csv

    text = dict.fromkeys(("user_id", "item_id"), pa.dictionary(pa.int32(), pa.string()))
    rows = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=text))
    rows = rows.unify_dictionaries().sort_by("timestamp")
    last = [("timestamp", "last"), ("rating", "last")]
    latest = rows.group_by(list(text), use_threads=False).aggregate(last)  # in the rows' order
    latest = latest.filter(compute.field("rating_last") >= 4).combine_chunks()
    used = [latest[name].chunk(0).indices.dictionary_encode() for name in text]
    codes = [ids.indices.to_numpy() for ids in used]
    return counted(latest["timestamp_last"], *codes, *(len(ids.dictionary) for ids in used))


def read_with_polars(path: Path) -> Counts:
    import polars as pl

    text = {"user_id": pl.String, "item_id": pl.String}
    rows = pl.scan_csv(path, schema_overrides=text)
    last = pl.col("timestamp", "rating").sort_by("timestamp").last()
    latest = rows.group_by(list(text)).agg(last).filter(pl.col("rating") >= 4)
    latest = latest.collect(engine="streaming")
    ids = {name: latest[name].unique() for name in text}
    codes = [latest[name].cast(pl.Enum(ids[name])).to_physical() for name in text]
    return counted(latest["timestamp"], *codes, *map(len, ids.values()))


# reader -> function, modules that are imported before the clock starts, packages that are named
READERS = {
    "recae": (read_with_recae, ("recae.data.readers",), ("recae", "pyarrow", "numpy", "scipy")),
    "pandas": (read_with_pandas, ("pandas",), ("pandas", "numpy", "scipy")),
    "pyarrow": (read_with_pyarrow, ("pyarrow.acero", "pyarrow.csv"), ("pyarrow", "numpy", "scipy")),
    "polars": (read_with_polars, ("polars",), ("polars", "numpy", "scipy")),
}


def measure(reader: str, path: Path) -> None:
    """Read once in this process and print figures as JSON."""
    read, modules, packages = READERS[reader]
    for module in modules:
        importlib.import_module(module)
    watch = Stopwatch()
    counts = read(path)
    figures = {**watch.read(), "peak_gb": peak_gb(), "counts": counts}
    print(json.dumps({**figures, "versions": {name: version(name) for name in packages}}))


def in_turns(pythons: dict[str, Path], path: Path, rounds: int) -> dict[str, list[dict]]:
    """Runs of each reader, asked one after the other in every round."""
    runs: dict[str, list[dict]] = {name: [] for name in pythons}
    for _ in range(rounds):
        for name, python in pythons.items():
            command = [python, __file__, "--measure", name, path]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name} ended with {done.returncode}:\n{done.stderr[-3000:]}")
            runs[name].append(json.loads(done.stdout))
            print(name, done.stdout.strip(), file=sys.stderr)
    return runs


def agreed(runs: dict[str, list[dict]]) -> Counts:
    """What all runs counted.

    Raises
    ------
    SystemExit
        If two counted differently: figures of different work say nothing.
    """
    found = {name: [run["counts"] for run in each] for name, each in runs.items()}
    first: Counts = found["recae"][0]
    if any(counts != first for each in found.values() for counts in each):
        lines = [f"  {name}: {each}" for name, each in found.items()]
        raise SystemExit("\n".join(["the readers do not find the same; no figures:", *lines]))
    return first


def summary(runs: list[dict], rows: int) -> dict[str, object]:
    """Median, lowest and highest of each figure of a reader, and its runs."""

    def spread(values: list[float]) -> dict[str, float]:
        return {"median": statistics.median(values), "low": min(values), "high": max(values)}

    return {
        "cpu_seconds": spread([run["cpu_seconds"] for run in runs]),
        "seconds": spread([run["seconds"] for run in runs]),
        "rows_s": spread([rows / run["seconds"] for run in runs]),
        "peak_gb": spread([run["peak_gb"] for run in runs]),
        "versions": runs[0]["versions"],
        "runs": [{k: run[k] for k in ("cpu_seconds", "seconds", "peak_gb")} for run in runs],
    }


def cpu_ratio(theirs: list[dict], ours: list[dict]) -> dict[str, float]:
    """Processor seconds of another reader over recae's: of medians, and the range of turns."""
    pairs = [(a["cpu_seconds"], b["cpu_seconds"]) for a, b in zip(theirs, ours, strict=True)]
    by_turn = [a / b for a, b in pairs]
    of_medians = statistics.median(a for a, _ in pairs) / statistics.median(b for _, b in pairs)
    return {"ratio": of_medians, "low": min(by_turn), "high": max(by_turn)}


def compare(rows: int, rounds: int, polars: Path) -> dict[str, object]:
    """Read the same file with all in turns; `polars` is the Python that has it."""
    pythons = {name: Path(sys.executable) for name in READERS} | {"polars": polars}
    skipped = {}
    if not polars.exists():
        del pythons["polars"]
        skipped["polars"] = "its environment is missing: benchmarks/peers/build.sh builds it"
        print(f"polars is skipped, {skipped['polars']}", file=sys.stderr)
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "interactions.csv"
        write_table(path, rows, repeats=True)
        size = path.stat().st_size
        path.read_bytes()  # all find the file in memory
        runs = in_turns(pythons, path, rounds)
    return {
        "rows": rows,
        "bytes": size,
        "rounds": rounds,
        "counts": agreed(runs),
        "cpu_ratios": {n: cpu_ratio(each, runs["recae"]) for n, each in runs.items()},
        "readers": {name: summary(each, rows) for name, each in runs.items()},
        "skipped": skipped,
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", type=Path, default=Path("build/peers"), help="of peers/build.sh")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/read.json")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], Path(args.measure[1]))
        return
    from rates import machine  # here, because it imports torch, which a reader does not need

    result = compare(args.rows, args.rounds, args.peers.absolute() / "polars/bin/python")
    result["machine"] = machine()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, about in result["readers"].items():
        cpu, wall = about["cpu_seconds"]["median"], about["seconds"]["median"]
        print(f"{name:8} {cpu:6.2f} CPU s {wall:6.2f} s {about['peak_gb']['median']:5.2f} GB")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
