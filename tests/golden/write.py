"""Write model directories of every model, with their lists and figures: run at commit 8c04468.

``tests/test_golden.py`` loads them with the code of today. They are not written again when the code
changes: what stands in ``models`` is what users of 8c04468 have on their disks. A later format gets
directories beside these. Run from the root of a checkout of the commit that is to be recorded, with
one thread (``OMP_NUM_THREADS=1``)::

    python -m tests.golden.write
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import recae
from recae.serving import Recommendations, RecommendationService, Request

HERE = Path(__file__).parent / "models"
SOURCE, ITEMS = "interactions.csv", "items.csv"
N_USERS, N_ITEMS, TASTES = 48, 36, 4
LENGTH = 8  # of a list

_METRICS = "ndcg@100,ndcg@5,recall@5,recall-all@5,map@5,mrr@5,precision@5,hit@5,coverage@5,gini@5"
_NETWORK = {
    "epochs": 4,
    "batch_size": 9,
    "learning_rate": 0.01,
    "patience": 3,
    "validation_metric": "recall@5",
    "device": "cpu",
    "precision": "float32",
    "dropout": 0.3,
    "rng": 7,
}
# name of the directory: model, options of the model, other arguments of `recae train`
TRAINED: Mapping[str, tuple[str, Mapping[str, object], tuple[str, ...]]] = {
    "popular": ("popular", {}, ("--protocol", "strong", "--held-out-users", "6")),
    "random": ("random", {"rng": 5}, ("--protocol", "mult-vae", "--held-out-users", "5")),
    "item-knn": (
        "item-knn",
        {"k_neighbours": 9, "similarity": "bm25", "bm25_k1": 0.9, "bm25_b": 0.5},
        ("--protocol", "random", "--split-seed", "3", "--min-user", "4"),
    ),
    "als": (
        "als",
        {"factors": 6, "regularization": 3.0, "alpha": 4.0, "iterations": 6, "rng": 2},
        ("--protocol", "leave-last"),
    ),
    "bpr": (
        "bpr",
        {
            "factors": 5,
            "learning_rate": 0.08,
            "regularization": 0.02,
            "iterations": 20,
            "ridge": 0.05,
            "popularity": 0.5,
            "rng": 3,
        },
        ("--protocol", "temporal", "--set", "split.quantile=0.8"),
    ),
    "gf-cf": (
        "gf-cf",
        {"n_vectors": 5, "alpha": 0.4, "rng": 1},
        ("--protocol", "column", "--split-col", "part"),
    ),
    # keeps its filters apart, as less than half of the item-item table is filled
    "gf-cf-sparse": (
        "gf-cf",
        {"n_vectors": 4, "alpha": 0.2, "rng": 4},
        ("--protocol", "random", "--min-rating", "4"),
    ),
    "ease": (
        "ease",
        {"l2": 7.5},
        ("--protocol", "strong", "--keep-ratings", "--set", "split.target_fraction=0.4"),
    ),
    "mult-dae": (
        "mult-dae",
        {
            **_NETWORK,
            "hidden": [10],
            "latent_dim": 6,
            "weight_decay": 0.003,
            "ema_decay": 0.9,
            "path": "gathered",
        },
        ("--protocol", "strong", "--held-out-users", "8", "--split-seed", "9"),
    ),
    "mult-vae": (
        "mult-vae",
        {
            **_NETWORK,
            "hidden": [12, 8],
            "latent_dim": 5,
            "weight_decay": 0.002,
            "beta_cap": 0.3,
            "anneal_epochs": 2.0,
            "path": "fast",
        },
        ("--protocol", "mult-vae", "--held-out-users", "7", "--set", "split.min_item=2"),
    ),
    # its code is a part of the first layer, as there is no hidden one
    "mult-vae-direct": (
        "mult-vae",
        {
            **_NETWORK,
            "hidden": [],
            "latent_dim": 6,
            "weight_decay": 0.001,
            "beta_cap": 0.1,
            "anneal_steps": 11,
            "ema_decay": 0.8,
            "path": "plain",
        },
        ("--protocol", "strong", "--held-out-users", "6", "--no-user-history"),
    ),
}


def write_source() -> None:
    """Write interactions of people of four tastes: ratings of 4 and 5 of theirs, others below."""
    rng = np.random.default_rng(0)
    users = ["007", "0", "Ann", "é", '"q", r', *(f"u{n}" for n in range(5, N_USERS))]
    items = ["010", "NA", "1e5", "ü", 'a "b", c', *(f"m{n}" for n in range(5, N_ITEMS))]
    lines = ["user,item,rating,timestamp,part"]
    for user in range(N_USERS):
        taste = np.arange(N_ITEMS) % TASTES == user % TASTES
        weight = np.where(taste, 5.0, 1.0) / np.arange(2, N_ITEMS + 2) ** 0.3
        chosen = rng.choice(
            N_ITEMS, int(rng.integers(6, 14)), replace=False, p=weight / weight.sum()
        )
        for item in chosen:
            rating = rng.integers(4, 6) if taste[item] else rng.integers(1, 4)
            part = rng.choice(["train", "validation", "test"], p=[0.7, 0.1, 0.2])
            at = 1_700_000_000 + int(rng.integers(0, 10_000_000))
            lines.append(f"{_csv(users[user])},{_csv(items[item])},{rating},{at},{part}")
    (HERE / SOURCE).write_text("\n".join(lines) + "\n", "utf-8")
    titles = [f"{_csv(item)},Film {n}" for n, item in enumerate(items)]
    (HERE / ITEMS).write_text("\n".join(["item_id,title", *titles]) + "\n", "utf-8")


def _csv(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",') else text


def histories() -> list[list[str]]:
    """Item ids of people that no model was trained on, the first of whom has none."""
    return [[], ["m7"], ["010", "m11", "m14"], ['a "b", c', "ü", "m30", "m31", "m6", "NA", "m19"]]


def lists(service: RecommendationService) -> dict[str, Any]:
    """Lists of everybody stored and of `histories`; scores are float32, written exactly."""
    known = [] if service.bundle.users is None else service.recommend_all(k=LENGTH)
    asked = [Request(history=tuple(history), k=LENGTH) for history in histories()]
    return {
        "known": {answer.user: _places(answer) for chunk in known for answer in chunk},
        "new": [_places(answer) for answer in service.recommend_many(asked)],
    }


def _places(answer: Recommendations) -> dict[str, list[Any]]:
    return {
        "items": [place.item for place in answer.items],
        "scores": [place.score for place in answer.items],
    }


def recae_command(*arguments: str) -> str:
    """Run `recae` in the folder of the directories, so that no path but relative ones is stored."""
    command = [sys.executable, "-m", "recae", *arguments]
    ours = {**os.environ, "PYTHONPATH": str(Path(recae.__file__).parent.parent)}
    return subprocess.run(
        command, cwd=HERE, env=ours, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def main() -> None:
    """Write everything."""
    HERE.mkdir(exist_ok=True)
    write_source()
    for name, (model, options, others) in TRAINED.items():
        settings = [f"--set={model}.{key}={json.dumps(value)}" for key, value in options.items()]
        out = f"{name}/model"
        recae_command(
            "train", SOURCE, "-o", out, "--model", model, *settings, *others,
            "--items", ITEMS, "--metrics", _METRICS, "--threads", "1",
        )  # fmt: skip
        judged = recae_command("evaluate", out, SOURCE, "--json")
        expected = {"lists": lists(recae.load(HERE / out)), "evaluate": json.loads(judged)}
        text = json.dumps(expected, ensure_ascii=False)
        (HERE / name / "expected.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
