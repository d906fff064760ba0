"""Memory and time that `recae train --dry-run` announces, beside what the training takes.

    python benchmarks/memory.py [--models NAME,NAME]

For every model that is trained in steps, and for closed forms that state what they hold. Each
training is a process of its own, on a Parquet file of a made-up matrix; its peak is what the system
says of the process after it ended.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rates

from recae import machine
from recae.data.synthetic import MatrixShape, ml20m_shape
from recae.models.registry import MODELS, model_class

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


def recae(*arguments: str) -> tuple[dict[str, Any], int]:
    """JSON that a command prints, and its peak resident set in bytes."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen([sys.executable, "-m", "recae", *arguments, "--json"], stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"recae {' '.join(arguments)} exited with {child.returncode}")
        out.seek(0)
        unit = 1 if sys.platform == "darwin" else 1024
        return json.load(out), usage.ru_maxrss * unit


def announced(planned: dict[str, Any]) -> int | None:
    """Peak that a dry run told: measured, or what it held and what the closed form states."""
    if planned["measured"] is not None:
        return int(planned["measured"]["peak_bytes"])
    least = planned["needs"]["least_bytes"]
    return None if least is None else int(planned["needs"]["resident_bytes"] + least)


def measure(model: str, shape: MatrixShape, folder: Path, threads: int) -> dict[str, Any] | None:
    """Announced and taken; None for a model that says nothing beforehand."""
    source = folder / "interactions.parquet"
    write_table(source, shape)
    options = [str(source), "--model", model, "--threads", str(threads)]
    in_steps = model_class(model).trained_in_steps
    if in_steps:
        options += ["--epochs", str(EPOCHS), "--set", f"{model}.patience=1000"]
    planned, _ = recae("train", *options, "--dry-run")
    said = announced(planned)
    if said is None:
        return None
    _, peak = recae("train", *options, "-o", str(folder / "model"))
    took = None
    if in_steps:
        records = (folder / "model" / "run" / "training.jsonl").read_text().splitlines()
        took = sum(json.loads(record)["seconds"] for record in records)
    return {
        "shape": planned["needs"]["shape"],
        "parameters": planned["needs"]["parameters"],
        "announced_bytes": said,
        "peak_bytes": peak,
        "ratio": said / peak,
        "announced_s": None if took is None else planned["measured"]["total_s"],
        "took_s": took,
        "ratio_s": None if took is None else planned["measured"]["total_s"] / took,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=machine.processor().cores)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/memory.json")
    args = parser.parse_args()
    runs = {}
    for model in args.models.split(","):
        for name, shape in SHAPES.items():
            with tempfile.TemporaryDirectory() as folder:
                run = measure(model, shape, Path(folder), args.threads)
            if run is not None:
                runs[f"{model}, {name}"] = run
                print(model, name, json.dumps(run), file=sys.stderr)
    worst = max(abs(run["ratio"] - 1) for run in runs.values())
    result = {
        "memory_worst_error": worst,
        "within_15_percent": worst <= ALLOWED,
        "epochs": EPOCHS,
        "runs": runs,
        "load_average": os.getloadavg(),
        "machine": rates.machine() | {"threads": args.threads},
        "version": version("recae"),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "runs"}, indent=1))
    if worst > ALLOWED:
        raise SystemExit(f"an announced peak is {worst:.0%} off; {ALLOWED:.0%} are allowed")


if __name__ == "__main__":
    main()
