"""Widths of the autoencoders against the shape of the data: what the rule for `"auto"` rests on.

    python benchmarks/sizes.py DATASETS [--only ml-latest-small,ml-1m,gowalla] [--seeds 3]

Trains Mult-VAE and Mult-DAE in several widths on the training part of each data set and judges them
on its validation part alone (best epoch of each run), never on the test part. Writes
benchmarks/results/sizes.json, a run at a time, and from it docs/widths.md; runs that are there
already are not made again.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recae.data.interactions import Interactions
from recae.data.protocols import split
from recae.data.readers import read_interactions
from recae.data.split import Split
from recae.models.registry import create

OUT = Path(__file__).parent / "results" / "sizes.json"
PAGE = Path(__file__).parents[1] / "docs" / "widths.md"
METRIC = "ndcg@100"
WIDTHS: dict[str, list[tuple[tuple[int, ...], int]]] = {
    "mult-vae": [((200,), 64), ((600,), 200), ((1000,), 300)],
    "mult-dae": [((), 100), ((), 200), ((), 400)],
}


def parts(datasets: Path) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name of each data set, a function that splits it, and options of training."""

    def strong(path: Path, held_out: int) -> Split:
        return split(read_interactions(path), "strong", held_out_users=held_out)

    def ml1m() -> Split:
        data = read_interactions(datasets / "ml-1m/interactions.parquet", min_rating=4)
        return split(data, "mult-vae", held_out_users=1000)

    def gowalla() -> Split:
        path = datasets / "gowalla/interactions.parquet"
        data = read_interactions(path, split_col="split")
        train: Interactions = split(data, "column").train
        return split(train, "strong", held_out_users=3000)

    yield "ml-latest-small", lambda: strong(datasets / "ml-latest-small/raw/ratings.csv", 100), {}
    yield "ml-1m", ml1m, {}
    yield "gowalla", gowalla, {"precision": "bfloat16", "patience": 6}


def cell(
    model: str, widths: tuple[tuple[int, ...], int], data: Split, seed: int, options: dict[str, Any]
) -> dict[str, float]:
    """Best validation score of one training."""
    hidden, latent = widths
    fitted = create(model, {"hidden": hidden, "latent_dim": latent, "rng": seed, **options})
    started = time.monotonic()
    fitted.fit(data.train, validation=data.validation)
    scores = [r.validation for r in fitted.training_log]  # type: ignore[attr-defined]
    best = max(range(len(scores)), key=scores.__getitem__)
    seconds = time.monotonic() - started
    return {"score": scores[best], "epoch": best + 1, "epochs": len(scores), "seconds": seconds}


def page(cells: dict[str, list[dict[str, float]]]) -> str:
    """Markdown of all cells."""
    lines = [
        "# Widths of the networks",
        "",
        "Made by `python benchmarks/sizes.py DATASETS`. The best validation NDCG@100 of each"
        " training, 50 epochs at most: mean and range over seeds. No test user was looked at.",
        "",
        "| data and model | widths | NDCG@100 | from | to | seeds | best epochs |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for key, runs in cells.items():
        data, model, widths = key.split()
        scores = [run["score"] for run in runs]
        figures = [f"{x:.4f}" for x in (statistics.mean(scores), min(scores), max(scores))]
        epochs = ", ".join(str(run["epoch"]) for run in runs)
        row = [f"{data} {model}", widths.replace("-", ", "), *figures, str(len(runs)), epochs]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", type=Path)
    parser.add_argument("--only", default="ml-latest-small,ml-1m,gowalla")
    parser.add_argument("--seeds", type=int, default=2)
    args = parser.parse_args()
    result = json.loads(OUT.read_text()) if OUT.exists() else {"metric": METRIC, "cells": {}}
    for name, make, options in parts(args.datasets):
        if name not in args.only.split(","):
            continue
        data = make()
        for model, widths in WIDTHS.items():
            for width in widths:
                key = f"{name} {model} {'-'.join(map(str, (*width[0], width[1])))}"
                runs = result["cells"].setdefault(key, [])
                while len(runs) < args.seeds:
                    runs.append(cell(model, width, data, 42 + len(runs), options))
                    OUT.write_text(json.dumps(result, indent=1) + "\n")
                scores = [run["score"] for run in runs]
                print(f"{key:40} {statistics.mean(scores):.4f}", flush=True)
                PAGE.write_text(page(result["cells"]))


if __name__ == "__main__":
    main()
