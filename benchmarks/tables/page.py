"""Renders docs/results.md from the rows in benchmarks/results/tables: no figure is typed by hand.

Usage: python benchmarks/tables/page.py
"""

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from table import ROOT, Table, load_table

from recae.data.ids import IdMap
from recae.evaluation.names import parse_metric
from recae.evaluation.parts import HeldOutParts, Part
from recae.evaluation.report import Report
from recae.evaluation.significance import Difference, compare_reports
from recae.storage import write_atomic

TABLES = ("ml1m", "infinite_ae", "gowalla")
PAGE = ROOT / "docs" / "results.md"


def write_page() -> None:
    """Write docs/results.md."""
    write_atomic(PAGE, text().encode())


def text() -> str:
    """Markdown of all tables."""
    head = (Path(__file__).parent / "head.md").read_text().rstrip()
    parts = [head, *(part for name in TABLES if (part := section(load_table(name))))]
    return "\n\n".join(parts) + "\n"


def section(table: Table) -> str:
    """Markdown of a table's rows that are made; empty where none is."""
    made = {
        row: json.loads(table.result_file(row).read_text())
        for row in table.rows
        if table.result_file(row).exists()
    }
    if not made:
        return ""
    metrics = list(next(iter(made.values()))["metrics"])
    lines = [f"## {table.title}", "", table.about, "", *_figures(table, made, metrics), ""]
    lines += [f"- `{metric}`: {parse_metric(metric).definition}" for metric in metrics]
    missing = [row for row in table.rows if row not in made]
    if missing:
        lines += ["", f"Not made yet: {', '.join(missing)}."]
    stale = [row for row in made if not table.is_made(row)]
    if stale:
        lines += ["", f"Made of an earlier config: {', '.join(stale)}."]
    # searched rows first: they know the validation part that was cut out for them
    told = [r["parts"] for r in sorted(made.values(), key=_unsearched) if "parts" in r]
    lines += ["", *_parts(told[0])] if told else []
    if table.source:
        lines += ["", f"Published: {table.source}"]
    lines += ["", *_matrix(table, made, metrics[0]), "", *_provenance(table, made)]
    return "\n".join(lines)


def _unsearched(result: dict[str, Any]) -> bool:
    return result["tuning"] is None


def verdict(mean: float, low: float, high: float, published: str) -> str:
    """Return how our figure lies to a published one, `published` with the digits printed.

    Examples
    --------
    >>> verdict(0.17649, 0.174, 0.179, "0.1765")
    'equal'
    >>> verdict(0.1751, 0.174, 0.179, "0.1765")
    'within'
    >>> verdict(0.1851, 0.184, 0.189, "0.1765")
    'above'
    """
    digits = -int(Decimal(published).as_tuple().exponent)
    if f"{mean:.{digits}f}" == f"{Decimal(published):.{digits}f}":
        return "equal"
    half = 0.5 * 10.0**-digits
    theirs = float(published)
    if low - half <= theirs <= high + half:
        return "within"
    return "above" if mean > theirs else "below"


def _figures(table: Table, made: dict[str, Any], metrics: list[str]) -> list[str]:
    head = ["model"]
    for metric in metrics:
        head.append(metric)
        if any(metric in figures for figures in table.published.values()):
            head += ["published", "verdict"]
    head += ["seeds", "seed sd", "search", "fit, s"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    first = metrics[0]
    best = sorted(made, key=lambda row: -made[row]["metrics"][first]["mean"])
    others = [name for name in table.published if name not in made]
    rows = [_row(table, row, made.get(row), metrics) for row in [*best, *others]]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _row(table: Table, row: str, result: dict[str, Any] | None, metrics: list[str]) -> list[str]:
    cells = [row]
    theirs = table.published.get(row, {})
    for metric in metrics:
        ours = None if result is None else result["metrics"][metric]
        cells.append(
            "" if ours is None else f"{ours['mean']:.4f} [{ours['low']:.4f}, {ours['high']:.4f}]"
        )
        if any(metric in figures for figures in table.published.values()):
            printed = theirs.get(metric, "")
            both = ours is not None and printed
            cells += [
                printed,
                verdict(ours["mean"], ours["low"], ours["high"], printed) if both else "",
            ]
    if result is None:
        return [*cells, "", "", "", ""]
    sd = result["metrics"][metrics[0]].get("seed_sd")
    seeds = len(result["seeds"])
    return [
        *cells,
        str(seeds) if seeds > 1 else "",
        "" if sd is None else f"{sd:.4f}",
        _search(result, table.search.get("trials")),
        f"{result['fit_s']:,.1f}",
    ]


def _search(result: dict[str, Any], trials: int | None) -> str:
    tuning = result["tuning"]
    if tuning is None:
        return ""
    given_up = tuning["trials"] - tuning["complete"]
    of = f" of {trials}" if trials is not None and tuning["trials"] < trials else ""
    return f"{tuning['complete']} + {given_up}{of}, {tuning['space_size']} options"


def _parts(stored: dict[str, Any]) -> list[str]:
    """Validation and test part side by side."""
    head, *rows = HeldOutParts(_part(stored["validation"]), _part(stored["test"])).rows()
    lines = [f"| {' | '.join(row)} |" for row in [head, *rows]]
    return [lines[0], "|---|" + "--:|" * (len(head) - 1), *lines[1:]]


def _part(stored: dict[str, Any] | None) -> Part | None:
    if stored is None:
        return None
    return Part(
        users=stored["users"],
        targets=stored["targets"],
        history=tuple(stored["history"]),
        targets_each=tuple(stored["targets_each"]),
        popularity=tuple(stored["popularity"].values()),
    )


def _matrix(table: Table, made: dict[str, Any], metric: str) -> list[str]:
    """Paired tests of all pairs of rows, as a table of row minus column."""
    if len(made) < 2:
        return []
    exams = {result["exam"] for result in made.values()}
    if len(exams) > 1:
        raise SystemExit(f"the rows of {table.name} were judged on {len(exams)} different exams")
    reports = {row: _report(table, row, result["exam"]) for row, result in made.items()}
    # flips belong to a test that is not shown
    found = compare_reports(reports, metrics=[metric], flips=1).differences
    cells: dict[tuple[str, str], str] = {}
    names: dict[str, None] = {}
    for d in found:
        names |= dict.fromkeys((d.better, d.worse))
        cells[d.better, d.worse], cells[d.worse, d.better] = _cell(d, 1), _cell(d, -1)
    lines = [
        f"Who beats whom by {metric}: row minus column, user by user, seeds averaged. **Bold**"
        " where the paired t-test stays below .05 after Holm's correction over all"
        f" {len(found)} pairs; p below.",
        "",
        "| | " + " | ".join(names) + " |",
        "|---|" + "--:|" * len(names),
    ]
    lines += [
        f"| {row} | " + " | ".join(cells.get((row, column), "") for column in names) + " |"
        for row in names
    ]
    return lines


def _cell(d: Difference, sign: int) -> str:
    p = "<.001" if d.p_holm < 0.001 else f"{d.p_holm:.3f}".lstrip("0")
    mean = f"{sign * d.mean:+.4f}"
    return f"{f'**{mean}**' if d.significant else mean}<br>p {p}"


def _report(table: Table, row: str, exam: str) -> Report:
    """Report of a row, of what was kept of it."""
    kept = pq.read_table(table.vectors_file(row))
    vectors = {
        name: np.asarray(kept[name].to_numpy(zero_copy_only=False), dtype=np.float64)
        for name in kept.column_names
        if name != "targets"
    }
    targets = kept["targets"].to_numpy().astype(np.int64)
    return Report(
        model=row,
        users=IdMap([str(i) for i in range(len(targets))]),
        per_user=vectors,
        catalogue={},
        n_targets=targets,
        unreachable=np.zeros(len(targets), dtype=np.int64),
        tied={},
        fingerprint=exam,
    )


def _provenance(table: Table, made: dict[str, Any]) -> list[str]:
    first = next(iter(made.values()))
    protocol = first["protocol"]
    lines = [
        f"{protocol['train_users']:,} training users, {protocol['items']:,} items,"
        f" {protocol['train_interactions']:,} interactions, {protocol['test_users']:,} test users;"
        f" data fingerprint `{first['data']['fingerprint'][:16]}`. Times are of a shared machine.",
        "",
        "<details><summary>Command, commit, options and cost of each row</summary>",
        "",
    ]
    for row, result in made.items():
        tuning, run = result["tuning"], result["run"]
        how = (
            f"fixed: {table.fixed[row]}"
            if tuning is None and row in table.fixed
            else f"validation {tuning['validation']:.4f} by the best of {tuning['trials']} trials"
        )
        options = json.dumps(result["options"]) if result["options"] else "defaults"
        minutes = math.ceil((result["search_s"] + result["seconds"]) / 60)
        changed = " with uncommitted changes" if result["uncommitted_changes"] else ""
        lines.append(
            f"- **{row}** `{result['command']}`, commit `{result['commit'][:12]}`{changed},"
            f" {run['created']}, torch {run['versions']['torch']}, {run['threads']} threads,"
            f" {minutes} min, peak {result['peak_memory_gb']:.1f} GB; {how}; options `{options}`"
        )
    return [*lines, "", "</details>"]


if __name__ == "__main__":
    write_page()
