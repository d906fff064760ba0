"""Fits a made row again with the options it records, without a search, and compares the two.

Usage: python benchmarks/tables/refit.py TABLE ROW [--data DIR] [--seeds N] [--set KEY=VALUE]

For changes of the training step: prints, and adds to benchmarks/results/refit.json, the means of
the row and of the new fits, the spread of seeds, and the paired difference over the test users.
`--set` changes an option, such as the precision where the processor has no bfloat16.
"""

import argparse
import json
import os
import statistics
import sys
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
from scipy.stats import ttest_rel
from table import ROOT, load_table

from recae.data.readers import read_interactions
from recae.experiment.compare import compare
from recae.experiment.config import load_config
from recae.experiment.data import make_split
from recae.models.registry import config_class

sys.path.append(str(ROOT / "benchmarks"))
from rates import machine  # beside the folder of this script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("table")
    parser.add_argument("row")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RECAE_DATASETS", ".")))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    table = load_table(args.table)
    made = json.loads(table.result_file(args.row).read_text())
    known = {field.name for field in fields(config_class(made["model"]))}
    kept = {name: value for name, value in made["options"].items() if name in known}
    settings = [f"{made['model']}.{name}={json.dumps(value)}" for name, value in kept.items()]
    settings += [f"{made['model']}.{setting}" for setting in args.set]
    config = load_config(table.config_file(args.row))
    flags = {f"read.{name}": value for name, value in config.read.items()}
    flags |= {f"split.{name}": value for name, value in config.split.items()}
    flags |= {"model": config.model, "protocol": config.protocol, "seed": config.seed}
    config = load_config(None, settings, flags | {"metrics": list(config.metrics)})
    data = read_interactions(args.data / table.data, **dict(config.read))
    split = make_split(data, config)
    entry = compare(
        [config.model], split, metrics=config.metrics, config=config, seeds=args.seeds
    ).entries[0]
    before = pq.read_table(table.vectors_file(args.row))
    mean = entry.over_seeds()
    found = {"options": kept, "set": args.set, "seeds": args.seeds, "fit_s": entry.fit_s}
    for metric in config.metrics:
        old, new = before[metric].to_numpy(zero_copy_only=False), mean.per_user[metric]
        judged = (old == old) & (new == new)
        each = [report[metric].mean for report in entry.reports]
        test = ttest_rel(new[judged], old[judged])
        found[metric] = {
            "row": made["metrics"][metric]["each_seed"],
            "refitted": each,
            "seed_sd": made["metrics"][metric].get("seed_sd"),
            "difference": statistics.mean(new[judged] - old[judged]),
            "p": float(test.pvalue),
            "users": int(judged.sum()),
        }
    print(json.dumps(found, indent=1))
    out = ROOT / "benchmarks" / "results" / "refit.json"
    results = json.loads(out.read_text()) if out.exists() else {}
    results[f"{args.table} {args.row}"] = found | {"machine": machine()}
    out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
