"""A comparison as JSON values: the figures, and all that says what they are figures of."""

from collections.abc import Mapping, Sequence

from recae.evaluation.names import parse_metric
from recae.experiment.details import main_metric
from recae.experiment.table import ComparisonTable, Entry


def comparison_json(table: ComparisonTable) -> dict[str, object]:
    """Figures by model, their definitions, the exam and the data; see `ComparisonTable.to_json`."""
    return {
        "models": {entry.name: _model(entry, table.metrics) for entry in table.entries},
        "definitions": {name: parse_metric(name).definition for name in table.metrics},
        "part": table.part,
        "exam": table.entries[0].reports[0].exam(),
        "differences": table.differences().to_json(),
        "protocol": table.split.to_json(),
        "parts": table.parts().to_json(),
        "data": dict(table.data),
    }


def _model(entry: Entry, metrics: Sequence[str]) -> dict[str, object]:
    main = main_metric(metrics)
    out: dict[str, object] = {metric: _figure(entry, metric) for metric in metrics}
    return out | {
        "fit_s": entry.fit_s,
        "config": dict(entry.config),
        "users_tied_at": {str(k): n for k, n in entry.reports[0].tied.items()},
        "segments": [
            {"by": by, "label": label, "metrics": {main: summary.to_json()}}
            for by, label, summary in entry.details.segments
        ],
    }


def _figure(entry: Entry, metric: str) -> Mapping[str, object]:
    interval = entry.interval(metric)
    return {**entry.summary(metric), "interval": None if interval is None else list(interval)}
