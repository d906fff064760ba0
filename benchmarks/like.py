"""Proves `evaluate_like`: RecBole and Cornac, as installed, find the same figures of our lists.

Usage: python benchmarks/like.py DIR [-o FILE]

DIR holds ml-1m/interactions.parquet. RECBOLE_PYTHON and CORNAC_PYTHON name the interpreters of
environments with these libraries. EASE (no two scores equal) and popularity (many equal) are asked;
each library gets the scores and ranks, cuts and counts by its own code: RecBole's collector and
metrics, Cornac's `ranking_eval`. Popularity's lists are compared where ties cannot matter.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from library_metrics import CUTS, evaluate_like, exam
from rates import machine, rates

RECBOLE = """
import sys, json
import numpy as np, torch
for name, kind in (("float", float), ("int", int), ("bool", bool)):
    if name not in np.__dict__:
        setattr(np, name, kind)  # RecBole's trainer does the same
import recbole
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import Collector
from collections import Counter

given = np.load(sys.argv[1])
config = {
    "metrics": ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP", "ItemCoverage",
                "AveragePopularity", "ShannonEntropy", "GiniIndex"],
    "topk": given["cuts"].tolist(), "metric_decimal_place": 15, "device": "cpu",
    "eval_args": {"mode": "full"}, "tail_ratio": None,
}

class Config(dict):
    def __getitem__(self, key):
        return self.get(key)

config = Config(config)
collector = Collector(config)
n = given["scores"].shape[1]
untrained = int(given["untrained"])
asked = given["targets"].any(axis=1) | (given["unreachable"] > 0)
data = collector.data_struct
data.set("data.num_items", n + untrained + 1)
data.set("data.count_items", Counter({i + 1: int(c) for i, c in enumerate(given["popularity"])}))
scores = np.full((int(asked.sum()), n + untrained + 1), -np.inf, dtype=np.float32)
scores[:, 1 : n + 1] = given["scores"][asked]
scores[:, n + 1 :] = -1e30  # never trained: last, but targets
targets = np.zeros(scores.shape, dtype=bool)
targets[:, 1 : n + 1] = given["targets"][asked]
for row, count in enumerate(given["unreachable"][asked]):
    targets[row, n + 1 : n + 1 + count] = True
rows, items = (torch.from_numpy(a) for a in targets.nonzero())
collector.eval_batch_collect(torch.from_numpy(scores), None, rows, items)
for key, value in list(data._data_dict.items()):
    if isinstance(value, torch.Tensor):
        data.set(key, value.cpu())
found = Evaluator(config).evaluate(data)
figures = {name: float(value) for name, value in found.items()}
print(json.dumps({"version": recbole.__version__, "figures": figures}))
"""

CORNAC = """
import sys, json
import numpy as np
import cornac
from cornac.data import Dataset
from cornac.eval_methods.base_method import ranking_eval
from cornac.metrics import NDCG, NCRR, MRR, HitRatio, Precision, Recall, FMeasure, AUC, MAP
from cornac.models import Recommender

given = np.load(sys.argv[1])
scores, targets = given["scores"], given["targets"]
n_users, n_items = scores.shape

def dataset(mask):
    u, i = mask.nonzero()
    return Dataset.build(list(zip(u.tolist(), i.tolist(), [1.0] * len(u))),
                         global_uid_map=uids, global_iid_map=iids)

from collections import OrderedDict
uids = OrderedDict((u, u) for u in range(n_users))
iids = OrderedDict((i, i) for i in range(n_items))

class Given(Recommender):
    def score(self, user_idx, item_idx=None):
        # what may not be listed is in the training set, so Cornac never asks for it
        row = np.where(np.isneginf(scores[user_idx]), 0, scores[user_idx])
        return row if item_idx is None else row[item_idx]

train = dataset(np.isneginf(scores))
train.num_items = n_items
model = Given("given", trainable=False)
model.train_set = train
model.num_users, model.num_items = n_users, n_items
model.uid_map, model.iid_map = uids, iids
test = dataset(targets)
figures = {}
cuts = given["cuts"].tolist()
for k in cuts:
    metrics = [kind(k=k) for kind in (Recall, Precision, FMeasure, NDCG, HitRatio, NCRR)]
    values, _ = ranking_eval(model, metrics, train, test)
    figures |= {m.name: float(v) for m, v in zip(metrics, values)}
metrics = [MRR(), MAP(), AUC()]
values, _ = ranking_eval(model, metrics, train, test)
figures |= {m.name: float(v) for m, v in zip(metrics, values)}
print(json.dumps({"version": cornac.__version__, "figures": figures}))
"""

# Figures of lists that depend on how equal scores are ordered; Cornac's MAP and AUC do not.
FREE_OF_TIES = {"MAP", "AUC"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    result = prove(arguments.data)
    result |= {"machine": machine(), "rates": rates(batch=500)}
    result["command"] = ["python", "benchmarks/like.py", *sys.argv[1:]]
    text = json.dumps(result, indent=1) + "\n"
    if arguments.out is not None:
        arguments.out.write_text(text)
    print(text)
    return 0 if result["largest_difference"] < 1e-9 else 1


def prove(folder: Path) -> dict:
    """Ask both libraries about both models."""
    from recae.experiment.run import run_summary, train_counts

    split, models = exam(folder / "ml-1m" / "interactions.parquet")
    test = split.test
    assert test is not None
    compared, versions, largest = [], {}, 0.0
    for model in models:
        name = model.fit(split.train).name
        scores = full_scores(model, test)
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "lists.npz"
            np.savez(
                file,
                scores=scores,
                targets=test.target.toarray() > 0,
                unreachable=test.unreachable,
                untrained=split.notes["items_never_trained"],
                popularity=train_counts(split.train),
                cuts=CUTS,
            )
            for library, code in (("recbole", RECBOLE), ("cornac", CORNAC)):
                theirs = ask(library, code, file)
                versions[library] = theirs["version"]
                ours = evaluate_like(
                    model,
                    test,
                    library,
                    cutoffs=CUTS,
                    popularity=train_counts(split.train),
                    untrained_items=split.notes["items_never_trained"],
                )
                assert {f.name for f in ours.figures} == set(theirs["figures"])
                for figure in ours.figures:
                    if name == "popular" and figure.name not in FREE_OF_TIES:
                        continue
                    value = theirs["figures"][figure.name]
                    largest = max(largest, abs(value - figure.value))
                    row = {"model": name, "library": library, "figure": figure.name}
                    compared.append(row | {"ours": figure.value, "theirs": value})
    return {
        "largest_difference": largest,
        "libraries": versions,
        "figures": compared,
        "data": split.fingerprint,
        "run": run_summary(),
    }


def full_scores(model, held_out) -> np.ndarray:
    """Scores that rank, float32, -inf where an item may not be listed; (users, items)."""
    top = model.recommend(held_out.fold_in, k=held_out.n_items, exclude=held_out.exclude)
    out = np.full((len(held_out), held_out.n_items), -np.inf, dtype=np.float32)
    rows = np.nonzero(top.items >= 0)[0]
    out[rows, top.items[top.items >= 0]] = top.scores[top.items >= 0]
    return out


def ask(library: str, code: str, file: Path) -> dict:
    """Figures of a library in its own environment."""
    python = os.environ[f"{library.upper()}_PYTHON"]
    done = subprocess.run([python, "-c", code, file], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{library} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
