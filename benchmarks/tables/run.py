"""Makes one table of docs/results.md, row by row; a row that is there already is not made again.

Usage: python benchmarks/tables/run.py TABLE [--rows NAME,...] [--again] [--data DIR]

A row is one model: its options are searched on validation users where the table says so, then it is
fitted with each training seed and judged on the test users, which nothing looked at before. Every
row runs in a process of its own, so that its peak memory is its own and a row that fails stops no
other. Searches are kept in --work and go on where they stopped.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from page import write_page
from table import ROOT, Table, load_table

import recae
from recae.data.readers import read_interactions
from recae.evaluation.names import parse_metric
from recae.experiment.compare import compare
from recae.experiment.config import RunConfig, load_config
from recae.experiment.data import data_summary, make_split
from recae.experiment.run import make_model, run_summary
from recae.experiment.study import Trial, optuna_package
from recae.experiment.table import Entry
from recae.experiment.tune import Material, Tuned, prepare, tune
from recae.storage import write_atomic, write_parquet


def main() -> int:
    """Make the rows that are missing, then the page."""
    arguments = _arguments()
    if not Path(recae.__file__).is_relative_to(ROOT):
        raise SystemExit(f"recae is imported from {recae.__file__}, not from this checkout")
    table = load_table(arguments.table)
    rows = arguments.rows.split(",") if arguments.rows else list(table.rows)
    table.check(rows)
    if arguments.inside:
        make_row(table, rows[0], arguments)
        return 0
    failed = []
    for row in rows:
        if table.is_made(row) and not arguments.again:
            print(f"{table.name} {row}: made already", flush=True)
            continue
        command = [sys.executable, __file__, table.name, "--rows", row, "--inside"]
        command += ["--data", str(arguments.data), "--work", str(arguments.work)]
        if subprocess.run(command, check=False).returncode:
            failed.append(row)
            print(f"{table.name} {row}: failed", flush=True)
    write_page()
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="a folder of benchmarks/tables")
    parser.add_argument("--rows", help="names, comma-separated; all when not given")
    parser.add_argument("--again", action="store_true", help="make rows that are there, too")
    data = os.environ.get("RECAE_DATASETS", ".")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder of the data sets")
    work = ROOT / "out" / "tables"
    parser.add_argument("--work", type=Path, default=work, help="keeps unfinished searches")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_row(table: Table, row: str, arguments: argparse.Namespace) -> None:
    """Tune, fit, judge, and write the files of one row."""
    config = load_config(table.config_file(row))
    data = read_interactions(arguments.data / table.data, **dict(config.read))
    tuned = parts = None
    if table.is_tuned(row):
        material = prepare(data, config, validation_users=table.search.get("validation_users"))
        parts = material.parts  # with the validation part that was cut out for the search
        tuned, config = search(table, row, material, arguments.work / table.name)
        del material
    started = time.monotonic()
    seeded = hasattr(make_model(config.model, config).config, "rng")
    result = compare(
        [config.model],
        make_split(data, config),
        metrics=config.metrics,
        config=config,
        seeds=table.seeds if seeded else 1,
    )
    entry = result.entries[0]
    summary = data_summary(data)
    del summary["report"]
    about = {
        "table": table.name,
        "row": row,
        "asked": table.asked(row),
        "model": config.model,
        "metrics": {metric: figures(entry, metric) for metric in config.metrics},
        "definitions": {metric: parse_metric(metric).definition for metric in config.metrics},
        "seeds": [config.seed + i for i in range(len(entry.reports))] if seeded else [],
        "options": dict(config.options(config.model)),
        "config": make_model(config.model, config).config.to_json(),
        "tuning": None if tuned is None else tuned.to_json(),
        "data": summary,
        "protocol": result.split.to_json(),
        "parts": (parts or result.parts()).to_json(),
        "exam": entry.reports[0].fingerprint,
        "command": f"python benchmarks/tables/run.py {table.name} --rows {row}",
        **_commit(),
        "run": run_summary(),
        "fit_s": entry.fit_s,
        "search_s": 0.0 if tuned is None else round(sum(t.seconds for t in tuned.trials), 1),
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    mean = entry.over_seeds()
    # without ids: rows are in the order of the exam, whose fingerprint stands beside them
    vectors = {"targets": pa.array(mean.n_targets.astype(np.int32))}
    vectors |= {m: pa.array(v, from_pandas=True) for m, v in mean.per_user.items()}
    table.results.mkdir(parents=True, exist_ok=True)
    write_parquet(table.vectors_file(row), pa.table(vectors))
    write_atomic(table.result_file(row), (json.dumps(about, indent=1) + "\n").encode())
    print(f"{table.name} {row}: {about['seconds']} s after the search\n{result}", flush=True)


def search(table: Table, row: str, material: Material, work: Path) -> tuple[Tuned, RunConfig]:
    """Best options by the validation users, and the run that fits them."""
    optuna_package().logging.set_verbosity(optuna_package().logging.WARNING)
    work.mkdir(parents=True, exist_ok=True)
    trials = table.search["trials"]

    def told(trial: Trial) -> None:
        score = trial.outcome if trial.score is None else f"{trial.score:.4f}"
        print(
            f"{table.name} {row}: trial {trial.number} of {trials}, {score},"
            f" {trial.seconds:.0f} s, {json.dumps(dict(trial.options))}",
            flush=True,
        )

    tuning = tune(
        material,
        [material.final.model],
        trials=trials,
        timeout_s=table.search.get("timeout_s"),
        storage=f"sqlite:///{(work / row).absolute()}.db",
        draws=table.search.get("validation_draws", 1),
        prune_after_trials=table.search["prune_after_trials"],
        prune_after_epochs=table.search["prune_after_epochs"],
        on_trial=told,
    )
    return tuning.models[0], tuning.config


def figures(entry: Entry, metric: str) -> dict[str, Any]:
    """Mean, standard error and interval over users; spread and mean of each seed."""
    low, high = entry.interval(metric) or (None, None)
    each = [report[metric].mean for report in entry.reports]
    return {**entry.summary(metric), "low": low, "high": high, "each_seed": each}


def _commit() -> dict[str, Any]:
    def git(*arguments: str) -> str:
        out = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return out.stdout.strip()

    changed = bool(git("status", "--porcelain", "--", "recae", "benchmarks/tables"))
    return {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": changed}


if __name__ == "__main__":
    sys.exit(main())
