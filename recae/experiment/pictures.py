"""Which figures a report has: one `Picture` each, the same numbers beside it as a table."""

from dataclasses import dataclass
from typing import final

from recae.evaluation.report import Summary
from recae.evaluation.segments import SEGMENTS
from recae.experiment.details import CURVES, CUTOFFS, main_metric
from recae.experiment.figures import dots, lines
from recae.experiment.table import ComparisonTable

_SEGMENT_TITLES = {
    "history": "By length of the history shown",
    "popularity": "By popularity of what was to be found",
}
_AXES = {"recall": "recall@k", "ndcg": "ndcg@k"}


@final
@dataclass(frozen=True, slots=True)
class Picture:
    """A figure and its numbers.

    Attributes
    ----------
    title
        Above it.
    image
        The figure as a data URI.
    alt
        What it shows, for those who cannot see it.
    columns
        Names of the numbers.
    rows
        For each model its name and numbers, None where there is none.
    """

    title: str
    image: str
    alt: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Summary | float | None, ...]], ...]


def curves(table: ComparisonTable) -> list[Picture]:
    """Recall and NDCG by length of the list."""
    out = []
    for family in CURVES:
        rows = tuple(
            (entry.name, tuple(entry.details.figures[f"{family}@{k}"] for k in CUTOFFS))
            for entry in table.entries
        )
        image = lines(
            {
                name: [(float(k), s.mean) for k, s in zip(CUTOFFS, row, strict=True)]
                for name, row in rows
            },
            colours=table.names(),
            x="k, length of the list",
            y=_AXES[family],
            log_x=True,
        )
        columns = tuple(f"@{k}" for k in CUTOFFS)
        alt = f"{family} of each model by length of the list, from 1 to 100; numbers below"
        out.append(Picture(f"{family} by length of the list", image, alt, columns, rows))
    return out


def segment_figures(table: ComparisonTable) -> list[Picture]:
    """Figures of the main metric by groups of users and of items."""
    metric = main_metric(table.metrics)
    out = []
    groups = dict.fromkeys([*SEGMENTS, *(s[0] for s in table.entries[0].details.segments)])
    for by in groups:
        found = {
            entry.name: {label: s for b, label, s in entry.details.segments if b == by}
            for entry in table.entries
        }
        first = found[table.names()[0]]
        title = _SEGMENT_TITLES.get(by, f"By {by}")
        labels = [label for label, summary in first.items() if summary.n]
        rows = tuple((name, tuple(of.get(label) for label in labels)) for name, of in found.items())
        image = dots(
            [f"{label}\n{first[label].n} users" for label in labels],
            rows,
            y=metric,
        )
        columns = tuple(f"{label} ({first[label].n} users)" for label in labels)
        alt = f"{metric} of each model, {title.lower()}; numbers below"
        out.append(Picture(title, image, alt, columns, rows))
    return out


def training_figures(table: ComparisonTable) -> list[Picture]:
    """Loss, and validation score where there is one, by epoch; none without a training log."""
    out = []
    for field, what, unit in (
        ("loss", "Training loss", "loss, nats a user"),
        ("validation", "Validation score", _validation_metric(table)),
    ):
        series = {
            entry.name: [
                (float(str(record["epoch"])), float(str(record[field])))
                for record in entry.details.training
                if record[field] is not None
            ]
            for entry in table.entries
        }
        series = {name: points for name, points in series.items() if points}
        if not series:
            continue
        best = max if field == "validation" else min
        rows = tuple(
            (
                name,
                (
                    points[0][1],
                    points[-1][1],
                    best(value for _, value in points),
                    float(len(points)),
                ),
            )
            for name, points in series.items()
        )
        image = lines(
            series,
            colours=table.names(),
            x="epoch",
            y=unit,
            log_x=False,
        )
        alt = f"{what} by epoch of {', '.join(series)}; first, last and best below"
        out.append(Picture(what, image, alt, ("first", "last", "best", "epochs"), rows))
    return out


def _validation_metric(table: ComparisonTable) -> str:
    names = {
        str(entry.config["validation_metric"])
        for entry in table.entries
        if entry.details.training and "validation_metric" in entry.config
    }
    return " or ".join(sorted(names)) or "score"
