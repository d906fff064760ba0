"""`ComparisonTable`: the figures of models side by side, and what can be said of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from recae.data.split import Split
from recae.errors import ConfigError, RequirementError
from recae.evaluation.aligned import aligned, html_table
from recae.evaluation.names import Metric
from recae.evaluation.parts import HeldOutParts, held_out_parts
from recae.evaluation.report import Report
from recae.evaluation.significance import Comparison, compare_reports
from recae.experiment.details import Details, main_metric, mean_of_seeds

if TYPE_CHECKING:
    import pandas as pd


@final
@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One model of a comparison.

    Attributes
    ----------
    name
        Unique in the comparison.
    reports
        One a training seed; models without a seed have one.
    config
        Its hyper-parameters.
    fit_s
        Seconds of the fit, mean over seeds; None for a model that came fitted.
    details
        What a report tells besides.
    """

    name: str
    reports: tuple[Report, ...]
    config: Mapping[str, object]
    fit_s: float | None
    details: Details

    def summary(self, metric: str) -> dict[str, float | int | None]:
        """Mean over users (and seeds), its standard error over users, and the seeds' spread."""
        figures = [report[metric] for report in self.reports]
        out = dict(mean_of_seeds(figures).to_json())
        if len(figures) > 1 and out["mean"] is not None:
            out["seed_sd"] = float(np.std([figure.mean for figure in figures], ddof=1))
            out["seeds"] = len(figures)
        return out

    def over_seeds(self) -> Report:
        """Return one report with each user's values averaged over the seeds.

        Figures of the catalogue, which are no means over users, are those of the first seed.
        """
        first = self.reports[0]
        vectors = {
            metric: np.mean([report.per_user[metric] for report in self.reports], axis=0)
            for metric in first.per_user
        }
        return replace(first, per_user=vectors)

    def interval(self, metric: str) -> tuple[float, float] | None:
        """95 % bootstrap interval over users, each user's value averaged over seeds.

        None for a figure that is no mean over users, or where no user has a value.
        """
        first = self.reports[0]
        if metric not in first.per_user or not first[metric].n:
            return None
        return self.over_seeds().interval(metric)

    def to_json(self, metrics: Sequence[str]) -> dict[str, object]:
        """Figures of `metrics` with their intervals, segments and hyper-parameters, as JSON."""
        out: dict[str, object] = {}
        for metric in metrics:
            interval = self.interval(metric)
            out[metric] = {
                **self.summary(metric),
                "interval": None if interval is None else list(interval),
            }
        main = main_metric(metrics)
        return out | {
            "fit_s": self.fit_s,
            "config": dict(self.config),
            "users_tied_at": {str(k): n for k, n in self.reports[0].tied.items()},
            "users_with_all_items_at": {str(k): n for k, n in self.reports[0].whole.items()},
            "segments": [
                {"by": by, "label": label, "metrics": {main: summary.to_json()}}
                for by, label, summary in self.details.segments
            ],
        }


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ComparisonTable:
    """Models side by side; best first by the first metric.

    `recae.experiment.report` writes it for people, as HTML or Markdown; what `compare` returns has
    methods for that.

    Attributes
    ----------
    entries
        The models.
    metrics
        Names of the figures.
    split
        What they were fitted and judged on.
    data
        Counts and fingerprint of the data.
    part
        Whose users they were judged on.
    """

    entries: tuple[Entry, ...]
    metrics: tuple[str, ...]
    split: Split
    data: Mapping[str, object] = field(default_factory=dict)
    part: Literal["test", "validation"] = "test"

    def metric(self, name: str) -> Metric:
        """Return the metric called `name`, of the package or the caller."""
        return self.entries[0].reports[0].metric(name)

    def differences(self) -> Comparison:
        """Paired tests of all pairs of models by the first metric, corrected after Holm.

        Values of several seeds are averaged user by user. No differences where there is one model
        or the first metric is not about targets.
        """
        first = self.metrics[0]
        tested = min(report[first].n for entry in self.entries for report in entry.reports)
        if len(self.entries) < 2 or self.metric(first).about != "targets" or tested < 2:
            return Comparison(())
        return compare_reports({e.name: e.reports for e in self.entries}, metrics=[first])

    def parts(self) -> HeldOutParts:
        """Count the validation part, by which models are chosen, and the test part."""
        return held_out_parts(self.split.train, self.split.validation, self.split.test)

    def __getitem__(self, name: str) -> Entry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise ConfigError(f"no model {name!r} was compared; there are {self.names()}")

    def names(self) -> list[str]:
        """Names of the models, best first."""
        return [entry.name for entry in self.entries]

    def to_json(self) -> dict[str, object]:
        """Figures by model, their definitions, the exam and the data, as JSON values."""
        return {
            "models": {entry.name: entry.to_json(self.metrics) for entry in self.entries},
            "definitions": {name: self.metric(name).definition for name in self.metrics},
            "part": self.part,
            "exam": self.entries[0].reports[0].exam(),
            "differences": self.differences().to_json(),
            "protocol": self.split.to_json(),
            "parts": self.parts().to_json(),
            "data": dict(self.data),
        }

    def rows(self, *, intervals: bool = False) -> list[list[str]]:
        """Return the table as text, its head first, without the columns that hold nothing."""
        columns = [n for metric in self.metrics for n in (metric, "95% interval", "seed sd")]
        rows = [["model", *columns, "seeds", "fit s"]]
        for entry in self.entries:
            cells: list[str] = []
            for metric in self.metrics:
                mean, sd = _cells(entry.summary(metric))
                found = entry.interval(metric) if intervals else None
                between = "" if found is None else f"{found[0]:.4f} to {found[1]:.4f}"
                cells += [mean, between, sd]
            seeds = str(len(entry.reports)) if len(entry.reports) > 1 else ""
            fit_s = "" if entry.fit_s is None else f"{entry.fit_s:.1f}"
            rows.append([entry.name, *cells, seeds, fit_s])
        kept = [i for i, (_, *cells) in enumerate(zip(*rows, strict=True)) if any(cells)]
        return [[row[i] for i in kept] for row in rows]

    def to_frame(self) -> "pd.DataFrame":
        """One row a model and metric: ``model, metric, mean, se, n, seeds, seed_sd, fit_s``.

        ``se`` is the standard error over users, ``seed_sd`` the spread of the training seeds; they
        and ``fit_s``, seconds, are NaN where there are none.
        """
        import pandas as pd

        rows = []
        for entry in self.entries:
            for metric in self.metrics:
                of = entry.summary(metric)
                figures = (of["mean"], of["se"], of["n"], len(entry.reports), of.get("seed_sd"))
                rows.append((entry.name, metric, *figures, entry.fit_s))
        numbers = dict.fromkeys(("mean", "se", "seed_sd", "fit_s"), "float64")
        columns = ["model", "metric", "mean", "se", "n", "seeds", "seed_sd", "fit_s"]
        return pd.DataFrame(rows, columns=columns).astype(numbers)

    def __str__(self) -> str:
        cutoffs = {k for name in self.metrics if (k := self.metric(name).k) is not None}
        return "\n".join([*aligned(self.rows()), *self.entries[0].reports[0].notes(cutoffs)])

    def __repr__(self) -> str:
        means = ((e.name, e.summary(self.metrics[0])["mean"]) for e in self.entries[:_SHOWN])
        said = [f"{name:.40} {'-' if mean is None else f'{mean:.4f}'}" for name, mean in means]
        more = len(self.entries) - _SHOWN
        said += [f"{more} more"] if more > 0 else []
        return f"{type(self).__name__}({self._about()}: {', '.join(said)})"

    def _repr_html_(self) -> str:
        head, *rows = self.rows()
        return html_table(head, rows, caption=self._about())

    def _about(self) -> str:
        n, users = len(self.entries), self.entries[0].reports[0].n_users
        return f"{n} models on {users} {self.part} users by {self.metrics[0]:.40}"

    def require_beat(self, name: str) -> None:
        """Refuse a comparison in which no model is better than `name` beyond chance.

        Raises
        ------
        RequirementError
            If no model beats `name` by the first metric, significantly after Holm.
        ConfigError
            If `name` was not compared, or the first metric has no value for each user.
        """
        metric = self.metrics[0]
        refuse_question(name, self.names(), self.metric(metric))
        beaten = [d for d in self.differences().differences if d.worse == name and d.significant]
        if not beaten:
            mean = self[name].summary(metric)["mean"]
            figure = "has no value" if mean is None else f"is {mean:.4f}"
            raise RequirementError(f"no model beats {name}, whose {metric} {figure}, beyond chance")


_SHOWN = 8  # models in a line


def _cells(figure: Mapping[str, float | int | None]) -> tuple[str, str]:
    """Mean with its standard error, and the seeds' spread, where there is one."""
    mean, se, sd = figure["mean"], figure["se"], figure.get("seed_sd")
    if mean is None:
        return "-", ""
    error = "" if se is None else f" ± {se:.4f}"
    return f"{mean:.4f}{error}", "" if sd is None else f"{sd:.4f}"


def refuse_question(name: str, names: Sequence[str], metric: Metric) -> None:
    """Refuse to ask whether a model beats `name`, by `metric`, where that has no answer."""
    if name not in names:
        raise ConfigError(f"no model {name!r} is compared; there are {', '.join(names)}")
    if metric.about != "targets":
        raise ConfigError(
            f"{metric.name} decides no comparison of models; a first metric with a value for each"
            " user, such as ndcg@100, is accepted"
        )
