"""A comparison for people: one HTML file that needs nothing else, or some Markdown."""

import json
import math
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from recae import machine
from recae.errors import ConfigError
from recae.evaluation.report import Summary
from recae.evaluation.significance import Difference
from recae.experiment.details import DETAIL_METRICS, LISTS, example_users, main_metric
from recae.experiment.figures import require_plots
from recae.experiment.pictures import curves, segment_figures, training_figures
from recae.experiment.run import run_summary
from recae.experiment.table import ComparisonTable, Entry
from recae.storage import write_atomic

_SHOWN = 12  # items of a history


def ready_for_html(path: Path) -> None:
    """Refuse, before any work, a report that could not be made in the end.

    Raises
    ------
    ConfigError
        If matplotlib is missing, or the directory of `path` is not there.
    """
    require_plots()
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"the report {path} has no directory to lie in; make it first")


def write_html(table: ComparisonTable, path: Path, *, command: Sequence[str] = ()) -> None:
    """Write a report: one HTML file that needs nothing else, neither network nor scripts.

    Parameters
    ----------
    table
        What is told.
    path
        Where to; replaced whole or not at all.
    command
        That made the comparison, told in the report.

    Raises
    ------
    ConfigError
        If matplotlib, the extra ``plots``, is missing.
    ResourceError
        If the file cannot be written.
    """
    ready_for_html(path)
    write_atomic(path, html(table, command=command).encode())


def html(table: ComparisonTable, *, command: Sequence[str] = ()) -> str:
    """Return the report as text; the same for the same table but for one time stamp."""
    environment = Environment(
        loader=PackageLoader("recae.experiment"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": _figure,
        "whole": lambda value: f"{value:,}",
        "seconds": _seconds,
    }
    page = environment.get_template("report.html.j2")
    return page.render(
        title=title(table),
        headline=headline(table),
        table=table,
        part=table.part,
        main=main_metric(table.metrics),
        rows=[_row(entry, table.metrics) for entry in table.entries],
        definitions={
            name: table.metric(name).definition
            for name in dict.fromkeys((*table.metrics, *DETAIL_METRICS))
        },
        matrix=_matrix(table),
        n_compared=len(table.differences().differences),
        curves=curves(table),
        segments=segment_figures(table),
        lists=LISTS,
        training=training_figures(table),
        examples=_examples(table),
        data=dict(table.data),
        protocol=table.split.to_json(),
        parts=table.parts().rows(),
        run=run_summary(),
        machine=_machine(),
        command=shlex.join(command),
    )


def markdown(table: ComparisonTable, *, command: Sequence[str] = ()) -> str:
    """Return who wins, the figures and what they are figures of, for a pull request or a wiki.

    Parameters
    ----------
    table
        What is told.
    command
        That made the comparison, told at the end.
    """
    exam = table.entries[0].reports[0].exam()
    split = table.split
    run = run_summary()
    versions = {"python": run["python"], **dict(run["versions"])}  # type: ignore[call-overload]  # a JSON object
    made = [
        f"Mean ± standard error over {exam['users']} {table.part} users, 95% bootstrap interval;"
        f" {exam['users_without_targets']} of them have no targets.",
        f"Protocol {split.protocol} {json.dumps(dict(split.options))}, data"
        f" {split.fingerprint[:12]}, exam {str(exam['fingerprint'])[:12]}.",
        f"Made {run['created']} with {', '.join(f'{n} {v}' for n, v in versions.items())}.",
        *([f"Command: `{shlex.join(command)}`"] if command else []),
    ]
    blocks: list[Iterable[str]] = [
        [headline(table)],
        _markdown_table(table.rows(intervals=True)),
        [f"- `{name}`: {table.metric(name).definition}" for name in table.metrics],
        [f"- {difference}" for difference in table.differences().differences],
        _markdown_table(table.parts().rows()),
        [f"- {line}" for line in made],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def title(table: ComparisonTable) -> str:
    """Return what was done, in a few words."""
    if len(table.entries) == 1:
        return f"{table.entries[0].name} judged"
    return f"{len(table.entries)} models compared"


def headline(table: ComparisonTable) -> str:
    """Return who wins, by how much and whether that is beyond chance, in one or two sentences."""
    best, metric = table.entries[0], table.metrics[0]
    mean = best.summary(metric)["mean"]
    if mean is None:
        return f"No user has a value of {metric}, so there is nothing to tell models apart by."
    users = best.reports[0][metric].n
    if len(table.entries) == 1:
        between = _between(best.interval(metric))
        return f"{best.name} reaches {metric} {mean:.4f}{between} on {users} {table.part} users."
    found = table.differences().differences
    second = table.entries[1]
    if not found:
        return (
            f"{best.name} has the highest {metric}, {mean:.4f}; higher need not be better there,"
            " and no test is made."
        )
    d = next(d for d in found if {d.better, d.worse} == {best.name, second.name})
    p = "p < 0.001" if d.p_holm < 0.001 else f"p = {d.p_holm:.3f}"
    evidence = f"95% interval {d.low:+.4f} to {d.high:+.4f}, {p}, {d.n} {table.part} users"
    base = second.summary(metric)["mean"]
    if not d.significant:
        beaten = [e.worse for e in found if e.better == best.name and e.significant]
        text = (
            f"No clear winner: {best.name} is ahead of {second.name} by {d.mean:.4f} {metric}"
            f" ({mean:.4f} against {base:.4f}; {evidence}), which chance alone could do."
        )
        return f"{text} {best.name} does beat {_and(beaten)} beyond chance." if beaten else text
    relative = f" ({d.mean / base:.1%})" if base else ""
    return (
        f"{best.name} wins: its {metric} of {mean:.4f} is {d.mean:.4f}{relative} above that of"
        f" {second.name}, the next best, which is beyond chance ({evidence})."
    )


def _row(entry: Entry, metrics: Sequence[str]) -> dict[str, object]:
    """One line of the table of results."""
    cells = [
        {"name": metric, **entry.summary(metric), "interval": entry.interval(metric)}
        for metric in metrics
    ]
    first = entry.reports[0]
    return {
        "entry": entry,
        "several": len(entry.reports) > 1,
        "cells": cells,
        "skipped": first.n_skipped,
        "tied": {k: n for k, n in first.tied.items() if n},
    }


def _matrix(table: ComparisonTable) -> list[list[dict[str, object] | None]]:
    """Row minus column of each pair of models; None on the diagonal."""
    found: dict[tuple[str, str], tuple[int, Difference]] = {}
    for d in table.differences().differences:
        found[d.better, d.worse] = (1, d)
        found[d.worse, d.better] = (-1, d)
    if not found:
        return []
    out: list[list[dict[str, object] | None]] = []
    for row in table.names():
        cells: list[dict[str, object] | None] = []
        for column in table.names():
            if row == column:
                cells.append(None)
                continue
            sign, d = found[row, column]
            low, high = (d.low, d.high) if sign > 0 else (-d.high, -d.low)
            cells.append({"mean": sign * d.mean, "low": low, "high": high, "test": d})
        out.append(cells)
    return out


def _examples(table: ComparisonTable) -> list[dict[str, object]]:
    """A few users by number only: what they did, and what each model would list for them."""
    held_out = getattr(table.split, table.part)
    titles = table.split.train.titles()
    rows = example_users(held_out)
    indices = range(table.split.train.n_items)
    names = table.split.train.items.ids_at(indices) if len(rows) else []
    if titles is not None:
        names = [title or name for title, name in zip(titles, names, strict=False)]
    histories = held_out.fold_in.take(rows)
    out = []
    for i, row in enumerate(rows):
        start, end = histories.matrix.indptr[i : i + 2]
        seen = histories.matrix.indices[start:end]
        if histories.order is not None:
            seen = seen[np.argsort(-histories.order[start:end], kind="stable")]  # newest first
        targets = held_out.target.indices[slice(*held_out.target.indptr[row : row + 2])]
        wanted = set(targets.tolist())
        lists = [
            (entry.name, [(names[j], j in wanted) for j in entry.details.lists[i] if j >= 0])
            for entry in table.entries
        ]
        out.append(
            {
                "number": int(row) + 1,
                "seen": [names[item] for item in seen[:_SHOWN]],
                "more": max(0, len(seen) - _SHOWN),
                "targets": [names[item] for item in targets[:_SHOWN]],
                "more_targets": max(0, len(targets) - _SHOWN),
                "lists": lists,
            }
        )
    return out


def _machine() -> dict[str, str]:
    cpu, ram = machine.processor(), machine.memory()
    devices = [f"{d.name}, {d.total_bytes / 2**30:.0f} GiB" for d in machine.cuda_devices()]
    return {
        "processor": f"{cpu.name}, {cpu.cores} of {cpu.logical_cores} cores usable",
        "memory": f"{ram.total_bytes / 2**30:.1f} GiB",
        "CUDA devices": "; ".join(devices) or "none",
    }


def _figure(value: object) -> str:
    if isinstance(value, Summary):
        value = value.mean
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4f}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "came fitted"
    if value < 0.01:
        return "< 0.01 s"
    return f"{value:.2g} s" if value < 10 else f"{value:,.0f} s"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" (95% interval {interval[0]:.4f} to {interval[1]:.4f})"


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = (f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |" for row in rows)
    return [head, f"|---|{'---:|' * (len(rows[0]) - 1)}", *body]
