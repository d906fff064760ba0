"""Renders docs/performance.md and its plot from benchmarks/results: no figure is typed by hand.

Usage: python benchmarks/performance_page.py
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PLOT = "performance.svg"
NAMES = {
    "recae": "recae",
    "textbook": "textbook script",
    "recbole": "RecBole",
    "cornac": "Cornac",
    "implicit": "implicit",
}
BESIDES = {
    "ratio_textbook_b500": "against the textbook script, batch 500",
    "ratio_textbook_b2048": "the same, batch 2,048",
}
SETTINGS = {
    "random": "20,108 items, random weights",
    "trained": "20,108 items, trained",
    "million": "1,000,000 items",
}
SHAPES = {"ml-1m": "MovieLens-1M", "made": "made data"}
PHASES = {
    "train_b500": "Training Mult-VAE, batch 500",
    "train_b2048": "Training Mult-VAE, batch 2,048",
    "evaluate": "Evaluation: Recall@20, Recall@50, NDCG@100",
    "recommend": "Batch recommendation: ten unseen items",
}


def page(results: Path) -> str:
    """Markdown of all result files that are there."""
    parts = [
        "# Performance",
        "",
        "Made by `python benchmarks/performance_page.py` from the files of `benchmarks/results`."
        " Ratios hold for one processor, so each file names its own and was made in one run.",
    ]
    for stem, section in SECTIONS.items():
        path = results / f"{stem}.json"
        if path.exists():
            parts += ["", *section(json.loads(path.read_text()))]
    if not (results / "gpu.json").exists():
        parts += [
            "",
            "## On a GPU",
            "",
            "No figure exists yet. `python benchmarks/gpu.py` checks and times the training step"
            " and the lists where there is a CUDA device.",
        ]
    return "\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _machine(about: dict[str, Any]) -> str:
    sets = ", ".join(about["instruction_sets"] or ["instruction sets not told"])
    return (
        f"{about['processor']} ({sets}), {about['threads']} threads, torch {about['torch']},"
        f" Python {about['python']}."
    )


def _peers(found: dict[str, Any]) -> list[str]:
    data, versions = found["data"], found["versions"]
    peers = ", ".join(f"{n} {versions[n][n]}" for n in ("recbole", "cornac", "implicit"))
    load, windows = found["load_average"], found["size"]["repeats"]
    lines = [
        "## Beside other libraries",
        "",
        "`make bench-peers` builds an environment for each peer and runs all of them on the same"
        f" made-up matrix ({data['n_users']:,} users, {data['n_items']:,} items,"
        f" {data['n_train']:,} interactions), the same widths (600, 200) and batch. The processes"
        f" take turns, a window of steps each; figures are medians over {windows} windows. What"
        " each of them does exactly stands in its file in `benchmarks/peers`.",
        "",
        f"{_machine(found['machine'])} Peers: {peers}. {found['created']},"
        f" {found['minutes']:.0f} minutes, load average {load['before'][0]:.1f} before and"
        f" {load['after'][0]:.1f} after.",
        "",
        f"recae and the textbook script multiply in {found['precision']}, the others in float32."
        " Where a processor has no bfloat16 products recae trains in float32, too, and is less"
        f" ahead. Bounds are those for a processor with {found['column']}.",
        "",
    ]
    lines += _table(
        ["what", "figure (range of the turns)", "bound", "met"],
        [_goal(key, about, found["ratios"]) for key, about in found["goals"].items()]
        + [[what, _ranged(found["ratios"][key]), "", ""] for key, what in BESIDES.items()],
    )
    lines += [
        "",
        f"![users a second of each contender]({PLOT})",
        "",
    ]
    rows = []
    for phase, title in PHASES.items():
        rows += [[f"**{title}**", "", "", "", "", ""]]
        rows += [_speed(name, about) for name, about in found["found"][phase].items()]
    lines += _table(
        ["", "users/s", "quartiles", "CPU ms a user", "peak GB", "ready after, s"], rows
    )
    return [*lines, "", *_same_weights(found["same_weights_figures"])]


def _goal(key: str, about: dict[str, Any], ratios: dict[str, Any]) -> list[str]:
    least = about["least"]
    return [
        f"{about['what']} (`{key}`)",
        _ranged(ratios[key]),
        "none" if least is None else f"at least {least:g}",
        {True: "yes", False: "**no**", None: ""}[about["met"]],
    ]


def _ranged(about: dict[str, Any]) -> str:
    low, high = about["range"]
    return f"{about['ratio']:.2f} ({low:.2f} to {high:.2f})"


def _speed(name: str, about: dict[str, Any]) -> list[str]:
    low, high = about["users_s_quartiles"]
    return [
        NAMES[name],
        f"{about['users_s']:,.0f}",
        f"{low:,.0f} to {high:,.0f}",
        f"{about['cpu_ms_user']:.2f}",
        f"{about['peak_gb']:.2f}",
        f"{about['loaded']['start_seconds']:.0f}",
    ]


def _same_weights(figures: dict[str, dict[str, float]]) -> list[str]:
    theirs = {name.lower(): value for name, value in figures["recbole"].items()}
    rows = [
        [name, f"{value:.6f}", f"{theirs[name.replace('-all', '')]:.6f}"]
        for name, value in figures["recae"].items()
    ]
    return [
        "Both evaluate the same lists: with the same weights (one epoch) they find",
        "",
        *_table(["metric", "recae", "RecBole"], rows),
    ]


def _reading(found: dict[str, Any]) -> list[str]:
    rows = []
    for name, about in found["readers"].items():
        ratio = found["cpu_ratios"][name]
        rows.append(
            [
                f"{name} {about['versions'][name]}",
                _spread(about["cpu_seconds"], ".2f"),
                f"{ratio['ratio']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})",
                _spread(about["seconds"], ".2f"),
                f"{about['rows_s']['median'] / 1e6:.2f} M",
                f"{about['peak_gb']['median']:.2f}",
            ]
        )
    counts, load = found["counts"], found["load_average"]
    lines = [
        "## Reading",
        "",
        f"`python benchmarks/read.py`: {found['rows']:,} rows of text ids"
        f" ({found['bytes'] / 1e6:,.0f} MB) to a matrix of {counts['users']:,} users,"
        f" {counts['items']:,} items and {counts['pairs']:,} pairs. All keep the latest row"
        " of a pair, drop those below 4, number the ids, and must find the same counts; recae"
        " accounts for every row besides, refuses what it cannot read and keeps the order of the"
        f" input. A process each, in turns; medians of {found['rounds']} rounds, lowest and"
        " highest.",
        "",
        f"{_machine(found['machine'])} {found['created']}, load average {load['before'][0]:.1f}"
        f" before and {load['after'][0]:.1f} after: other work changes the seconds more than the"
        " processor seconds.",
        "",
        *_table(
            ["", "CPU s", "CPU s over recae's", "seconds", "rows/s", "peak GB"],
            rows,
        ),
    ]
    missing = [f"{name} was skipped: {why}." for name, why in found["skipped"].items()]
    return lines + (["", *missing] if missing else [])


def _spread(about: dict[str, float], form: str) -> str:
    middle, low, high = (format(about[name], form) for name in ("median", "low", "high"))
    return f"{middle} ({low} to {high})"


def _score(found: dict[str, Any]) -> list[str]:
    rows = []
    for setting in (key for key in SETTINGS if key in found):
        about = found[setting]
        added = (about["peak_bytes"] - about["before_bytes"]) / 1e6
        for name in (key for key, value in about.items() if isinstance(value, dict)):
            work = about[name]
            low, high = (work["users"] / s for s in reversed(work["seconds_quartiles"]))
            rows.append(
                [
                    f"{SETTINGS[setting]}: {name.replace('_', ', ')}",
                    f"{work['users_s']:,.0f}",
                    f"{low:,.0f} to {high:,.0f}",
                    f"{1e3 * work['cpu_seconds'] / work['users']:.2f}",
                    f"{added:,.0f}",
                ]
            )
    return [
        "## Evaluation and batch recommendation",
        "",
        f"`python benchmarks/score.py`: {', '.join(found['metrics'])} of a hold-out, and files of"
        f" {found['k']} items a person; beside it the same lists by float32 proposals. "
        + _machine(found["machine"]),
        "",
        *_table(["", "users/s", "quartiles", "CPU ms a user", "MB that ranking adds"], rows),
    ]


def _lists(found: dict[str, Any]) -> list[str]:
    rows = [
        [
            f"{int(rows):,} rows, {way}",
            f"{about['people']:,}",
            f"{about['seconds'][way]:.1f}",
            f"{about['peak_gb'][way]:.2f}",
        ]
        for rows, about in found["sizes"].items()
        for way in about["seconds"]
    ]
    return [
        "## Lists for the people of a file",
        "",
        f"`{found['command']}`: `recae recommend --interactions FILE`, which holds the people of"
        " the file, and with `--grouped`, which ranks them while they are read; the whole process,"
        f" and the same lists. {_machine(found['machine'])}",
        "",
        *_table(["", "people", "seconds", "peak GB"], rows),
    ]


def _memory(found: dict[str, Any]) -> list[str]:
    rows = [
        [
            name,
            f"{run['announced_bytes'] / 1e6:,.0f}",
            f"{run['peak_bytes'] / 1e6:,.0f}",
            f"{run['ratio']:.2f}",
            "" if run["ratio_s"] is None else f"{run['ratio_s']:.2f}",
        ]
        for name, run in found["runs"].items()
    ]
    return [
        "## What a dry run says",
        "",
        "`python benchmarks/memory.py`: memory and time that `recae train --dry-run` announces from"
        " a few steps that it runs, or for a closed form from its shape, beside what the training"
        f" then takes. {found['machine']['processor']}, {found['machine']['threads']} threads.",
        "",
        *_table(
            ["model and size", "announced, MB", "peak, MB", "ratio", "ratio of the times"], rows
        ),
    ]


def _serving(found: dict[str, Any]) -> list[str]:
    rows = []
    for shape, about in found["shapes"].items():
        for name, label in (("ours", "recae serve"), ("plain", "plain Flask application")):
            middle, turns = about["median"][name], [t["rate"] for t in about["turns"][name]]
            rows.append(
                [
                    f"{SHAPES[shape]} ({about['n_items']:,} items): {label}",
                    f"{middle['rate']:,.0f}",
                    f"{min(turns):,.0f} to {max(turns):,.0f}",
                    f"{middle['cpu_ms']:.1f}",
                    f"{middle['p50_ms']:.0f}",
                    f"{middle['p99_ms']:.0f}",
                ]
            )
        ratios = (f"{about['ratio_rate']:.2f}", "", f"{about['ratio_cpu']:.2f}", "", "")
        rows.append(["the first by the second", *ratios])
    return [
        "## One request at a time, over HTTP",
        "",
        "`python benchmarks/serve/run.py`: `recae serve` beside what people write in twenty lines"
        f" (`plain_app.py`), {found['connections']} connections, one process each, waitress with"
        f" {found['threads']} threads, one thread of arithmetic, medians of turns of"
        f" {found['seconds']:.0f} s. The plain application checks nothing, logs nothing and"
        f" computes no exact scores. {_machine(found['machine'])}",
        "",
        *_table(["", "requests/s", "range", "CPU ms a request", "median, ms", "99 %, ms"], rows),
    ]


SECTIONS = {
    "train_peers": _peers,
    "serve": _serving,
    "score": _score,
    "read": _reading,
    "recommend_file": _lists,
    "memory": _memory,
}


def plot(found: dict[str, Any], path: Path) -> None:
    """Bars of users a second, a panel a phase, quartiles as whiskers; written as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams |= {"svg.hashsalt": "recae", "svg.fonttype": "none", "font.size": 9}
    heights = [len(found["found"][phase]) for phase in PHASES]
    figure, panels = plt.subplots(
        len(PHASES), 1, figsize=(7, 0.32 * sum(heights) + 3), height_ratios=heights
    )
    for panel, (phase, title) in zip(panels, PHASES.items(), strict=True):
        speeds = sorted(found["found"][phase].items(), key=lambda pair: pair[1]["users_s"])
        middle = [about["users_s"] for _, about in speeds]
        low, high = zip(*(about["users_s_quartiles"] for _, about in speeds), strict=True)
        whiskers = [
            [m - lo for m, lo in zip(middle, low, strict=True)],
            [hi - m for m, hi in zip(middle, high, strict=True)],
        ]
        colours = ["#1f6feb" if name == "recae" else "#9aa4b2" for name, _ in speeds]
        panel.barh([NAMES[name] for name, _ in speeds], middle, color=colours)
        panel.errorbar(middle, range(len(middle)), xerr=whiskers, fmt="none", ecolor="#333")
        panel.set_title(title, loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("users a second")
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None}, facecolor="white")


def main() -> None:
    results, docs = ROOT / "benchmarks" / "results", ROOT / "docs"
    (docs / "performance.md").write_text(page(results))
    peers = results / "train_peers.json"
    if peers.exists():
        plot(json.loads(peers.read_text()), docs / PLOT)


if __name__ == "__main__":
    main()
