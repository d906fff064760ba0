"""Memory and time that `recae train` says it will take, beside what it takes, at three sizes.

    python benchmarks/memory.py

Each training is a process of its own, on a Parquet file of a made-up matrix; its peak is what the
system says of the process after it ended. The time is estimated by `recae train --dry-run`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rates import machine, rates

from recae.data.synthetic import MatrixShape, ml20m_shape
from recae.training import hardware

SHAPES = {
    "small": MatrixShape(n_users=2_000, n_items=2_000, n_interactions=60_000),
    "medium": MatrixShape(n_users=4_000, n_items=8_000, n_interactions=200_000),
    "large": MatrixShape(n_users=4_000, n_items=25_000, n_interactions=400_000),
}
EPOCHS = 3  # from the second one on, the weights of two validations meet
ALLOWED = 0.15


def write_table(path: Path, shape: MatrixShape) -> None:
    """Interactions with ids of a user and an item a row."""
    matrix = ml20m_shape(0, shape)
    users = np.repeat(np.arange(shape.n_users), np.diff(matrix.indptr))
    columns = {"user_id": users, "item_id": matrix.indices}
    pq.write_table(pa.table({n: pa.array(v).cast(pa.string()) for n, v in columns.items()}), path)


def recae(*arguments: str) -> tuple[dict[str, object], int, float]:
    """JSON that a command prints, its peak resident set in bytes, and its seconds."""
    with tempfile.TemporaryFile("w+") as out:
        started = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-m", "recae", *arguments, "--json"], stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"recae {' '.join(arguments)} exited with {child.returncode}")
        out.seek(0)
        unit = 1 if sys.platform == "darwin" else 1024
        return json.load(out), usage.ru_maxrss * unit, seconds


def measure(shape: MatrixShape, folder: Path, threads: int, path: str) -> dict[str, object]:
    source = folder / "interactions.parquet"
    write_table(source, shape)
    options = [str(source), "--epochs", str(EPOCHS), "--threads", str(threads)]
    options += ["--set", "mult-vae.patience=1000", "--set", f"mult-vae.path={path}"]
    planned, _, _ = recae("train", *options, "--dry-run")
    trained, peak, seconds = recae("train", *options, "-o", str(folder / "model"))
    memory = trained["estimate"]["memory"]
    records = (folder / "model" / "run" / "training.jsonl").read_text().splitlines()
    took = sum(json.loads(record)["seconds"] for record in records)
    return {
        "path": path,
        "shape": trained["estimate"]["shape"],
        "parameters": trained["estimate"]["parameters"],
        "estimated_bytes": memory["peak_bytes"],
        "measured_bytes": peak,
        "ratio": memory["peak_bytes"] / peak,
        "estimated_s": planned["time"]["total_s"],
        "measured_s": took,
        "ratio_s": planned["time"]["total_s"] / took,
        "process_s": seconds,
        "baseline_bytes": memory["baseline_bytes"],
        "terms": {term["name"]: term["n_bytes"] for term in memory["terms"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=hardware.processor().cores)
    parser.add_argument(
        "--paths", default="fast", help="fast, gathered, plain, or several with commas"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/memory.json")
    args = parser.parse_args()
    runs = {}
    for path in args.paths.split(","):
        for name, shape in SHAPES.items():
            with tempfile.TemporaryDirectory() as folder:
                run = measure(shape, Path(folder), args.threads, path)
            runs[name if path == "fast" else f"{name} {path}"] = run
            figures = {k: v for k, v in run.items() if k != "terms"}
            print(name, json.dumps(figures), file=sys.stderr)
    worst = max(abs(run["ratio"] - 1) for run in runs.values())
    result = {
        "memory_worst_error": worst,
        "within_15_percent": worst <= ALLOWED,
        "time_ratios": {name: run["ratio_s"] for name, run in runs.items()},
        "epochs": EPOCHS,
        "runs": runs,
        "load_average": os.getloadavg(),
        "machine": machine() | {"threads": args.threads},
        "rates": rates(batch=500),
        "version": version("recae"),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "runs"}, indent=1))
    if worst > ALLOWED:
        raise SystemExit(f"an estimate is {worst:.0%} off; {ALLOWED:.0%} are allowed")


if __name__ == "__main__":
    main()
