"""Does the fast path reach what the plain equations reach? Trains both from the same seeds.

    python benchmarks/parity.py DATASETS [--seeds 5] [--out benchmarks/results/parity.json]

Mult-VAE on ML-1M (protocol ``mult-vae``, five seeds) and on the training part of Gowalla (one),
by ``path="plain"`` and ``path="fast"``, in the same precision: the best validation NDCG@100 of each
training. Seeds pair the runs: they start from the same weights, see the same batches, masks and
noise, and differ by rounding alone. No test user is looked at. Runs that are there already are
not made again.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from rates import machine, rates
from scipy.stats import ttest_rel
from sizes import METRIC, cell, parts

PRECISIONS = {"ml-1m": ("bfloat16",), "gowalla": ("bfloat16",)}
WIDTHS = {"ml-1m": ((600,), 200), "gowalla": ((200,), 64)}
OPTIONS: dict[str, dict[str, Any]] = {"ml-1m": {}, "gowalla": {"epochs": 20, "patience": None}}


def paired(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Scores of both paths, their differences seed by seed, and whether these say anything."""
    scores = {path: [run["score"] for run in found] for path, found in runs.items()}
    differences = [f - p for f, p in zip(scores["fast"], scores["plain"], strict=True)]
    about: dict[str, Any] = {"difference": statistics.mean(differences), "each": differences}
    if len(differences) > 1:
        test = ttest_rel(scores["fast"], scores["plain"])
        low, high = test.confidence_interval(0.95)
        about |= {"low": float(low), "high": float(high), "p": float(test.pvalue)}
        about["sd_of_seeds"] = {path: statistics.stdev(found) for path, found in scores.items()}
    return about


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("datasets", type=Path)
    parser.add_argument("--only", default="ml-1m,gowalla")
    parser.add_argument("--seeds", type=int, default=5, help="on ML-1M; Gowalla has one")
    out = Path(__file__).parent / "results" / "parity.json"
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()
    result = json.loads(args.out.read_text()) if args.out.exists() else {}
    result |= {
        "metric": METRIC,
        "machine": machine(),
        "rates": rates(batch=500),
        "settings": result.get("settings", {}),
    }
    for name, make, options in parts(args.datasets):
        if name not in PRECISIONS or name not in args.only.split(","):
            continue
        data = make()
        for precision in PRECISIONS[name]:
            setting = result["settings"].setdefault(f"{name} {precision}", {"runs": {}})
            runs = setting["runs"]
            for seed in range(42, 42 + (args.seeds if name == "ml-1m" else 1)):
                for path in ("plain", "fast"):
                    there = runs.setdefault(path, [])
                    if seed - 42 < len(there):
                        continue
                    asked = options | OPTIONS[name] | {"path": path, "precision": precision}
                    there.append(cell("mult-vae", WIDTHS[name], data, seed, asked))
                    print(name, precision, path, seed, there[-1], flush=True)
                if len(runs["plain"]) == len(runs["fast"]):
                    setting["paired"] = paired(runs)
                args.out.write_text(json.dumps(result, indent=1) + "\n")
            print(name, precision, json.dumps(setting.get("paired")), flush=True)


if __name__ == "__main__":
    main()
