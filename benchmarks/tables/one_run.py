"""The sections of docs/results.md that show one run of `recae compare` over all models."""

import json
import shlex

from table import ROOT

RUNS = {
    "compare_ml1m_mult_vae": (
        "ML-1M, all models in one run",
        "The protocol and users of the first table. EASE's l2 is given, every other model has its"
        " defaults, not searched here: compare models by the table above.",
    ),
    "compare_gowalla": (
        "Gowalla, all models in one run",
        "The split and users of the table above. EASE and GF-CF have the published options;"
        " item-kNN and ALS those that won 8 trials each on a validation cut of the training part"
        " (both are rows above); BPR its defaults, and the"
        " networks a bounded setting of 40 epochs: those three are not searched.",
    ),
}


def one_runs() -> list[str]:
    """Markdown of each run whose file is there."""
    folder = ROOT / "benchmarks" / "results"
    return [_section(name) for name in RUNS if (folder / f"{name}.json").exists()]


def _section(name: str) -> str:
    title, about = RUNS[name]
    result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    models = result["models"]
    metrics = [key for key in next(iter(models.values())) if key not in {"fit_s", "config"}]
    lines = [f"## {title}", "", about, "", "```sh", shlex.join(result["command"]), "```", ""]
    lines += ["| model | " + " | ".join(metrics) + " | fit, s |"]
    lines += ["|---|" + "--:|" * (len(metrics) + 1)]
    for model, figures in models.items():
        cells = [f"{figures[m]['mean']:.4f} ± {figures[m]['se']:.4f}" for m in metrics]
        lines.append("| " + " | ".join([model, *cells, f"{figures['fit_s']:.1f}"]) + " |")
    run = result["run"]
    lines += [
        "",
        "Means over test users ± standard error, seeds averaged where there are several."
        f" {run['created']}, torch {run['versions']['torch']}, {run['threads']} threads; times are"
        " of one run on a shared machine.",
    ]
    return "\n".join(lines)
