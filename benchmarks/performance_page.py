"""Renders docs/performance.md and its plot from benchmarks/results: no figure is typed by hand.

Usage: python benchmarks/performance_page.py
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PLOT = "performance.svg"
NAMES = {
    "recae_fast_bf16": "recae, fast path, bf16",
    "recae_fast_fp32": "recae, fast path, float32",
    "recae_gathered_bf16": "recae, gathered path, bf16 autocast",
    "recae_gathered_fp32": "recae, gathered path, float32",
    "recae_plain_bf16": "recae, plain path, bf16 autocast",
    "recae_plain_fp32": "recae, plain path, float32",
    "recae_textbook_bf16": "textbook script, bf16 autocast",
    "recae_textbook_fp32": "textbook script, float32",
    "recae": "recae",
    "recbole": "RecBole",
    "cornac": "Cornac",
    "implicit": "implicit",
}
OURS = {"recae"} | {  # the plain path is there to compare with
    f"recae_{path}_{name}" for path in ("gathered", "fast") for name in ("bf16", "fp32")
}
BESIDES = {
    "ratio_gathered_bf16_b500": "against the gathered path, bf16 autocast, batch 500",
    "ratio_gathered_bf16_b2048": "the same, batch 2,048",
    "ratio_gathered_fp32": "fast path in float32 against the gathered path, batch 500",
    "ratio_textbook_bf16_b500": "against the textbook script, bf16 autocast, batch 500",
    "ratio_textbook_bf16_b2048": "the same, batch 2,048",
    "ratio_textbook_fp32": "fast path in float32 against the textbook script, batch 500",
}
SETTINGS = {
    "random": "20,108 items, random weights",
    "trained": "20,108 items, trained",
    "million": "1,000,000 items",
}
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
            "No figure exists yet. `python benchmarks/gpu.py` checks the kernels and measures them"
            " where there is a CUDA device.",
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
        f" take turns, a window of steps each; figures are medians over {windows} windows, and what"
        " the machine can do is measured in each turn, too. What each of them does exactly stands"
        " in its file in `benchmarks/peers`.",
        "",
        f"{_machine(found['machine'])} Peers: {peers}. {found['created']},"
        f" {found['minutes']:.0f} minutes, load average {load['before'][0]:.1f} before and"
        f" {load['after'][0]:.1f} after.",
        "",
        f"Bounds are those for a processor with {found['column']}.",
        "",
    ]
    lines += _table(
        ["what", "figure", "bound", "met", "aim", "met"],
        [_goal(key, about, found["ratios"]) for key, about in found["goals"].items()]
        + [[what, _ranged(found["ratios"][key]), *4 * [""]] for key, what in BESIDES.items()]
        + [
            [
                f"step over its floor with the best rates of the run, bf16, batch {batch[1:]}",
                f"{over:.2f}",
                *4 * [""],
            ]
            for batch, over in found["over_floor_of_best_rates"].items()
        ],
    )
    lines += [
        "",
        "The paths are told apart in `ARCHITECTURE.md`. The plain one is faster than the textbook"
        " script because its dropout is drawn for the items that histories hold, as all paths draw"
        " the same; the script draws for every item.",
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
    lines += ["", *_same_weights(found["same_weights_figures"]), "", *_roofline(found)]
    return [*lines, "", *_reading(found["reading"])]


def _goal(key: str, about: dict[str, Any], ratios: dict[str, Any]) -> list[str]:
    value = _ranged(ratios[key]) if key in ratios else f"{about['value']:.2f}"
    aim, aim_met = about["aim"], about["aim_met"]
    return [
        f"{about['what']} (`{key}`)",
        value,
        f"{about['sense']} {about['least']:g}",
        "yes" if about["met"] else "**no**",
        "" if aim is None else f"{aim:g}",
        "" if aim is None else "yes" if aim_met else "no",
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


def _roofline(found: dict[str, Any]) -> list[str]:
    lines = [
        "### Against the machine",
        "",
        "What a step has to do, counted, over the rate of that alone, against the step as measured"
        " (fast path). A rate is the best of seven in a turn, then the median of the turns of"
        " training, as the step is.",
        "",
    ]
    rows = []
    for batch, by_precision in found["floor"].items():
        for precision, terms in by_precision.items():
            about = found["found"][f"train_{batch}"].get(f"recae_fast_{precision}")
            if about is None:
                continue
            step = int(batch[1:]) / about["users_s"]
            floor = sum(term["seconds"] for term in terms.values())
            for name, term in terms.items():
                rows.append(
                    [
                        f"{batch[1:]}, {precision}: {name}",
                        _big(term["amount"]),
                        f"{_big(term['ceiling'])}/s",
                        f"{1e3 * term['seconds']:.1f}",
                        "",
                    ]
                )
            rows.append(
                [
                    f"**{batch[1:]}, {precision}: all, and the step**",
                    "",
                    "",
                    f"{1e3 * floor:.1f} of {1e3 * step:.1f}",
                    f"{floor / step:.0%}",
                ]
            )
    lines += _table(["batch", "counted", "ceiling", "ms", "share of the ceiling"], rows)
    return [*lines, "", *_rates(found["rates"])]


def _rates(by_batch: dict[str, dict[str, Any]]) -> list[str]:
    units = {
        "fp32_flop_s": "float32 products, FLOP/s",
        "bf16_flop_s": "bf16 products, FLOP/s",
        "int8_op_s": "int8 products, operations/s",
        "fp32_exp_s": "float32 exponentials/s",
        "bf16_exp_s": "bf16 exponentials/s",
        "copy_bytes_s": "copy, bytes/s",
        "adam_bytes_s": "fused Adam, bytes/s",
    }
    rows = [[what, *(_big(r[name]) for r in by_batch.values())] for name, what in units.items()]
    for precision in ("fp32", "bf16"):
        layouts = next(iter(by_batch.values()))[f"{precision}_layouts"]
        rows += [
            [
                f"{precision} product `{name}`",
                *(_big(r[f"{precision}_layouts"][name]) for r in by_batch.values()),
            ]
            for name in layouts
        ]
    return _table(["rate", *(f"turns of batch {batch[1:]}" for batch in by_batch)], rows)


def _big(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def _reading(found: dict[str, Any]) -> list[str]:
    rows = [
        [name, f"{found['seconds'][name]:.2f}", f"{found['peak_gb'][name]:.2f}"]
        for name in found["seconds"]
    ]
    return [
        "### Reading",
        "",
        f"{found['rows']:,} rows of text ids ({found['bytes'] / 1e6:,.0f} MB) to a matrix, ratings"
        " of at least 4 kept; recae accounts for every row, pandas reads texts and factorizes.",
        "",
        *_table(["", "seconds", "peak GB"], rows),
    ]


def _alone(found: dict[str, Any]) -> list[str]:
    return ["## Reading alone", "", _machine(found["machine"]), "", *_reading(found)[2:]]


def _steps(found: dict[str, Any]) -> list[str]:
    rows = []
    for batch in (key for key in found if key[1:].isdigit()):
        about = found[batch]
        for name, step in about["steps"].items():
            low, high = step["seconds_quartiles"]
            rows.append(
                [
                    f"{batch[1:]}, {name.replace('_', ', ')}",
                    f"{1e3 * step['seconds']:.1f}",
                    f"{1e3 * low:.1f} to {1e3 * high:.1f}",
                    f"{step['users_s']:,.0f}",
                    f"{about['extra_bytes'][name] / 1e6:.1f}",
                ]
            )
    return [
        "## One step",
        "",
        "`python benchmarks/train_step.py`: steps of our own paths in one process, no peers. "
        + _machine(found["machine"]),
        "",
        *_table(["batch", "ms", "quartiles", "users/s", "MB beyond what it found"], rows),
    ]


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
            f"{run['estimated_bytes'] / 1e6:,.0f}",
            f"{run['measured_bytes'] / 1e6:,.0f}",
            f"{run['ratio']:.2f}",
            f"{run['ratio_s']:.2f}",
        ]
        for name, run in found["runs"].items()
    ]
    return [
        "## What a dry run says",
        "",
        "`python benchmarks/memory.py`: memory that `recae train --dry-run` announces beside the"
        f" peak of the process. {found['machine']['processor']},"
        f" {found['machine']['threads']} threads.",
        "",
        *_table(["size", "announced, MB", "peak, MB", "ratio", "ratio of the times"], rows),
    ]


def _parity(found: dict[str, Any]) -> list[str]:
    rows = []
    for setting, about in found["settings"].items():
        if "paired" not in about:
            continue
        plain, fast = (
            statistics.mean(run["score"] for run in about["runs"][path])
            for path in ("plain", "fast")
        )
        paired = about["paired"]
        interval = f"{paired['low']:+.4f} to {paired['high']:+.4f}" if "p" in paired else ""
        rows.append(
            [
                setting.replace(" ", ", "),
                str(len(paired["each"])),
                f"{plain:.4f}",
                f"{fast:.4f}",
                f"{paired['difference']:+.4f}",
                interval,
                f"{paired['p']:.2f}" if "p" in paired else "",
                f"{paired['sd_of_seeds']['plain']:.4f}" if "p" in paired else "",
            ]
        )
    heads = ["data", "seeds", "plain", "fast", "difference", "95 %", "p", "seed sd, plain"]
    return [
        "## The fast path reaches what the plain one reaches",
        "",
        f"`python benchmarks/parity.py DATASETS`: Mult-VAE, best validation {found['metric']} of"
        " the plain and of the fast path from the same seeds, paired t-test over them. "
        + _machine(found["machine"]),
        "",
        *_table(heads, rows),
    ]


SECTIONS = {
    "train_peers": _peers,
    "train_step": _steps,
    "score": _score,
    "read": _alone,
    "recommend_file": _lists,
    "memory": _memory,
    "parity": _parity,
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
        ours = [name in OURS for name, _ in speeds]
        colours = ["#1f6feb" if our else "#9aa4b2" for our in ours]
        panel.barh([NAMES[name] for name, _ in speeds], middle, color=colours)
        panel.errorbar(middle, range(len(middle)), xerr=whiskers, fmt="none", ecolor="#333")
        panel.set_title(title, loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        if phase.startswith("train"):
            terms = found["floor"][phase.removeprefix("train_")]["bf16"].values()
            bound = int(phase.split("_b")[1]) / sum(term["seconds"] for term in terms)
            panel.axvline(bound, color="#d1242f", linestyle="--", linewidth=1)
            note = {"ha": "right", "color": "#d1242f", "fontsize": 8}
            panel.text(bound, -0.4, "counted floor, bf16 ", **note)
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
