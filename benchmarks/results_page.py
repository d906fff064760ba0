"""Renders docs/results.md from the comparisons in benchmarks/results: no figure is typed by hand.

Usage: python benchmarks/results_page.py
"""

import json
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]

# For each result file: a title, what it is, whose figures stand beside ours, and those figures.
PAGES = {
    "compare_ml1m_mult_vae": (
        "ML-1M, the protocol of the Mult-VAE paper",
        "Ratings of at least 4, 1,000 validation and 1,000 test users, the authors' seeds"
        " and orders (Liang et al., WWW 2018). Nobody published this table; a prototype of ours,"
        " independent and written before the package, is quoted beside it."
        " Defaults of ALS, item-kNN and BPR were picked with test figures in sight: their rows are"
        " flattered, and await `recae tune`.",
        "prototype",
        {
            "popular": {"ndcg@100": ".2171", "recall@20": ".1701", "recall@50": ".2444"},
            "ease": {"ndcg@100": ".4201", "recall@20": ".3625", "recall@50": ".4757"},
            "mult-vae": {
                "ndcg@100": ".388 to .393",
                "recall@20": ".325 to .331",
                "recall@50": ".454 to .460",
            },
        },
    ),
    "compare_gowalla": (
        "Gowalla, the published LightGCN split",
        "All 29,858 users, recall over all test items of a user. There is no validation part: every"
        " model has the options named here, none was tuned on the test part. Published: EASE and"
        " Mult-VAE as listed by the BARS leaderboard, GF-CF by its paper.",
        "published",
        {
            "ease": {"recall-all@20": ".1765", "ndcg@20": ".1467"},
            "gf-cf": {"recall-all@20": ".1849", "ndcg@20": ".1518"},
            "mult-vae": {"recall-all@20": ".1641", "ndcg@20": ".1335"},
            "item-knn": {"recall-all@20": ".1570", "ndcg@20": ".1214"},
        },
    ),
}


def page() -> str:
    """Markdown of all result files that are there."""
    parts = [
        "# Results",
        "",
        "Made by `python benchmarks/results_page.py` from the files of `benchmarks/results`; the"
        " command above each table made its file. Means over test users ± standard error.",
    ]
    for stem, about in PAGES.items():
        path = ROOT / "benchmarks" / "results" / f"{stem}.json"
        if path.exists():
            parts += ["", *_table(json.loads(path.read_text()), *about)]
    return "\n".join(parts) + "\n"


def _table(result: dict, title: str, about: str, whose: str, quoted: dict) -> list[str]:
    models = result["models"]
    metrics = [name for name in next(iter(models.values())) if name not in {"fit_s", "config"}]
    data, run = result["data"], result["run"]
    head = ["model", *metrics, "fit, s", *(f"{whose} {m}" for m in metrics)]
    lines = [f"## {title}", "", about, "", "```sh", shlex.join(result["command"]), "```", ""]
    lines += ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    for name, figures in models.items():
        cells = [f"{figures[m]['mean']:.4f} ± {figures[m]['se']:.4f}" for m in metrics]
        theirs = [quoted.get(name, {}).get(m, "") for m in metrics]
        lines.append("| " + " | ".join([name, *cells, f"{figures['fit_s']:.1f}", *theirs]) + " |")
    train = result["protocol"]
    lines += [
        "",
        f"{train['train_users']:,} training users, {train['items']:,} items,"
        f" {train['train_interactions']:,} interactions; data fingerprint"
        f" `{data['fingerprint'][:16]}`; {run['created']}, torch {run['versions']['torch']},"
        f" {run['threads']} threads. Times are of one run on a shared machine.",
    ]
    differences = result.get("differences") or []
    if differences:
        lines += ["", "Paired tests by the first metric, Holm over all pairs:", ""]
        lines += [
            f"- {d['better']} over {d['worse']}: {d['mean']:+.4f}"
            f" ({d['low']:+.4f} to {d['high']:+.4f}), p {d['p_holm']:.2g}"
            + ("" if d["significant"] else ", not beyond chance")
            for d in differences
        ]
    return lines


if __name__ == "__main__":
    (ROOT / "docs" / "results.md").write_text(page())
