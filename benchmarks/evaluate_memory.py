"""Peak memory and time of judging 10,000 users on 20,000 items, every metric at two cut-offs.

Usage: python benchmarks/evaluate_memory.py [--out FILE]

Data of the shape of ML-20M is made and written by one process; for each model another reads it,
makes the model (a Mult-DAE and a Mult-VAE of the paper's widths, random weights) and judges its
lists, by segment too. Its peak is what the system says of that process: interpreter,
libraries (.28 GB), data and model included.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, load_npz, save_npz

USERS, ITEMS = 10_000, 20_108
MODELS = ("mult-dae", "mult-vae")
LIMIT_GB = 1.0


def make_data(folder: Path) -> None:
    """Training matrix, fold-in and targets (a fifth) of 10,000 other users, and weights."""
    import torch

    from recae.data.synthetic import MatrixShape, ml20m_shape
    from recae.models.registry import create

    for name in MODELS:
        network = create(name).build(ITEMS, 1, torch.Generator().manual_seed(0))
        weights = {n: p.detach().numpy() for n, p in network.named_parameters()}
        np.savez(folder / f"{name}.npz", **weights)
    shape = MatrixShape(n_users=136_677 + USERS, n_items=ITEMS, n_interactions=10_700_000)
    whole = ml20m_shape(0, shape)
    held, train = csr_array(whole[:USERS]), csr_array(whole[USERS:])
    asked = np.random.default_rng(0).random(held.nnz) < 0.2
    save_npz(folder / "train.npz", train, compressed=False)
    rows = np.repeat(np.arange(USERS), np.diff(held.indptr))
    for name, mask in (("fold_in", ~asked), ("target", asked)):
        ones = np.ones(int(mask.sum()), dtype=np.float32)
        save_npz(
            folder / f"{name}.npz", csr_array((ones, (rows[mask], held.indices[mask])), held.shape)
        )


def judge(folder: Path, name: str) -> dict[str, object]:
    """Evaluate, and say what it took."""
    from recae.data.histories import Histories
    from recae.data.ids import IdMap
    from recae.data.split import HeldOut
    from recae.evaluation.evaluator import evaluate
    from recae.evaluation.names import ACCEPTED
    from recae.models.registry import config_class, model_class

    train = csr_array(load_npz(folder / "train.npz"))
    counts = np.bincount(train.indices, minlength=ITEMS).astype(np.int64)
    with np.load(folder / f"{name}.npz") as stored:
        model = model_class(name).from_arrays(config_class(name)(), dict(stored))
    held_out = HeldOut(
        fold_in=Histories(csr_array(load_npz(folder / "fold_in.npz"))),
        target=Histories(csr_array(load_npz(folder / "target.npz"))).matrix,
        users=IdMap([str(u) for u in range(USERS)]),
    )
    before = _peak_gb()
    started = time.perf_counter()
    names = [name.replace("@K", f"@{k}") for name in ACCEPTED for k in (20, 100)]
    report = evaluate(
        model,
        held_out,
        metrics=list(dict.fromkeys(names)),
        popularity=counts,
        train=train,
        by=("history", "popularity"),
    )
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "peak_gb": _peak_gb(),
        "peak_before_gb": before,
        "metrics": len(report.metrics),
        "segments": len(report.segments),
        "shape": {
            "users": USERS,
            "items": ITEMS,
            "train_interactions": int(train.nnz),
            "targets": int(report.n_targets.sum()),
        },
    }


def _peak_gb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    out = Path(__file__).parent / "results" / "evaluate_memory.json"
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step == "make":
        make_data(arguments.folder)
        return 0
    if arguments.step is not None:
        print(json.dumps(judge(arguments.folder, arguments.step)))
        return 0
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        # this process stays small: the system counts what a parent held at the fork to its child
        for step in ("make", *MODELS):
            command = [sys.executable, __file__, "--step", step, "--folder", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            if step != "make":
                runs[step] = json.loads(done.stdout.splitlines()[-1])
                print(step, runs[step], flush=True)
    from rates import machine, rates  # torch, which is not to be held before

    from recae.experiment.run import run_summary

    result = {
        "limit_gb": LIMIT_GB,
        "within": {name: run["peak_gb"] < LIMIT_GB for name, run in runs.items()},
        "runs": runs,
        "command": "python benchmarks/evaluate_memory.py",
        "load_average": os.getloadavg(),
        "run": run_summary(),
        "machine": machine(),
        "rates": rates(batch=500),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0 if all(result["within"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
