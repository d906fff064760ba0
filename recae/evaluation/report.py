"""`Report`: every user's metrics, and what can be said about all of them."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
from jaxtyping import Float64, Int64

from recae.data.ids import IdMap
from recae.errors import ConfigError, shown
from recae.evaluation.aligned import aligned, html_table
from recae.evaluation.names import Metric, parse_metric
from recae.evaluation.resampling import bootstrap_means
from recae.storage import write_parquet

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 1000
_SHOWN = 8  # metrics in a line


@final
@dataclass(frozen=True, slots=True)
class Summary:
    """A metric over users.

    Attributes
    ----------
    mean
        Mean over the users that have a value; NaN if none has.
    se
        Standard error over users, standard deviation (ddof 0) / sqrt(n), as Liang et al. (2018)
        print it. It says nothing about other seeds. None for a figure that is not a mean.
    n
        Users that have a value; for a figure that is not a mean, the lists it was taken from.
    """

    mean: float
    se: float | None
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        """``{"mean", "se", "n"}``, with None for NaN."""
        return {"mean": None if math.isnan(self.mean) else self.mean, "se": self.se, "n": self.n}


def summarise(values: Float64[np.ndarray, " users"]) -> Summary:
    """Mean and standard error of the values that are not NaN.

    Sums are exactly rounded, so the order of users changes no digit.
    """
    there = values[~np.isnan(values)]
    n = len(there)
    if not n:
        return Summary(math.nan, None, 0)
    mean = math.fsum(there) / n
    return Summary(mean, math.sqrt(math.fsum((there - mean) ** 2) / n) / math.sqrt(n), n)


@final
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Segment:
    """Metrics of some users, or of some items among the targets.

    Attributes
    ----------
    by
        What the segments were made by: ``"history"``, ``"popularity"`` or a column of labels.
    label
        The group: ``"5-9"``, ``"tail"``, ...
    per_user
        As in `Report`, NaN for users outside the segment.
    """

    by: str
    label: str
    per_user: Mapping[str, Float64[np.ndarray, " users"]] = field(repr=False)


@final
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Report:
    """What `evaluate` found.

    Attributes
    ----------
    model
        Name of the model.
    users
        Ids of the users, in the order of all vectors.
    per_user
        For each metric a value for each user, NaN where it is not defined.
    catalogue
        For each metric of all lists together its one value.
    n_targets, unreachable
        For each user, targets, and held-out interactions that no model can find (these are no
        targets, and count in no metric).
    tied
        For each cut-off, users with equal scores on both sides of it, whose list was settled by
        item index there. Many of them make the figures depend on how items are numbered.
    whole
        For each cut-off, users whose list of that length holds every item that may be in it: any
        order of them has the same recall.
    segments
        The same metrics of groups.
    fingerprint
        SHA-256, in hex, of the questions and answers: users, fold-in, targets, exclusions.
    own
        Metrics of the caller, by name.
    """

    model: str
    users: IdMap
    per_user: Mapping[str, Float64[np.ndarray, " users"]]
    catalogue: Mapping[str, float]
    n_targets: Int64[np.ndarray, " users"]
    unreachable: Int64[np.ndarray, " users"]
    tied: Mapping[int, int]
    segments: tuple[Segment, ...] = ()
    fingerprint: str
    own: Mapping[str, Metric] = field(default_factory=dict)
    whole: Mapping[int, int] = field(default_factory=dict)

    @property
    def n_users(self) -> int:
        """Number of users asked, those without targets included."""
        return len(self.users)

    @property
    def n_skipped(self) -> int:
        """Number of users without targets; no metric about targets counts them."""
        return int((self.n_targets == 0).sum())

    @property
    def n_unreachable(self) -> int:
        """Number of held-out interactions with items that were never trained on."""
        return int(self.unreachable.sum())

    @property
    def ceiling(self) -> float:
        """Largest mean share of held-out interactions that any model could find.

        Mean over users of targets / (targets + unreachable): ``recall-all@k`` of perfect lists of
        any length, were the unreachable ones counted. NaN without held-out interactions.
        """
        held_out = self.n_targets + self.unreachable
        asked = held_out > 0
        return summarise(self.n_targets[asked] / held_out[asked]).mean

    @property
    def metrics(self) -> dict[str, Summary]:
        """Return the summary of each metric by name."""
        found = {name: summarise(values) for name, values in self.per_user.items()}
        for name, value in self.catalogue.items():
            found[name] = Summary(value, None, self.n_users)
        return found

    def __getitem__(self, metric: str) -> Summary:
        if metric in self.per_user:
            return summarise(self.per_user[metric])
        if metric in self.catalogue:
            return Summary(self.catalogue[metric], None, self.n_users)
        raise ConfigError(
            f"metric {metric!r} is not in this report; it has"
            f" {shown([*self.per_user, *self.catalogue], limit=20)}"
        )

    def metric(self, name: str) -> Metric:
        """Return the metric called `name`, of the package or the caller.

        Raises
        ------
        ConfigError
            If there is none.
        """
        return self.own[name] if name in self.own else parse_metric(name)

    def interval(
        self,
        metric: str,
        *,
        level: float = 0.95,
        resamples: int = RESAMPLES,
        rng: int | np.random.Generator = 0,
    ) -> tuple[float, float] | None:
        """Percentile bootstrap interval of a metric's mean over users.

        Does not depend on the order of users. None for a metric that is no mean over users.

        Raises
        ------
        ConfigError
            If the report has no such metric, or `level` is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ConfigError(f"level is {level}; a number between 0 and 1 is accepted")
        if self[metric].se is None:
            return None
        values = self.per_user[metric]
        values = np.sort(values[~np.isnan(values)])
        means = bootstrap_means(values[:, None], resamples=resamples, rng=rng)
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def exam(self) -> dict[str, object]:
        """Return what was asked, whoever answered, as JSON values."""
        return {
            "users": self.n_users,
            "users_without_targets": self.n_skipped,
            "targets": int(self.n_targets.sum()),
            "unreachable_targets": self.n_unreachable,
            "ceiling": None if math.isnan(self.ceiling) else self.ceiling,
            "fingerprint": self.fingerprint,
        }

    def to_json(self) -> dict[str, object]:
        """Everything but the users themselves, as JSON values."""
        return {
            "model": self.model,
            "metrics": {name: found.to_json() for name, found in self.metrics.items()},
            "definitions": {name: self.metric(name).definition for name in self.metrics},
            **self.exam(),
            "users_tied_at": {str(k): n for k, n in self.tied.items()},
            "users_with_all_items_at": {str(k): n for k, n in self.whole.items()},
            "segments": [
                {
                    "by": segment.by,
                    "label": segment.label,
                    "metrics": {n: summarise(v).to_json() for n, v in segment.per_user.items()},
                }
                for segment in self.segments
            ],
        }

    def to_frame(self) -> "pd.DataFrame":
        """One row a metric and segment: ``by, label, metric, mean, se, n``, all users first."""
        import pandas as pd

        rows = [("", "", name, s.mean, s.se, s.n) for name, s in self.metrics.items()]
        for segment in self.segments:
            for name, values in segment.per_user.items():
                s = summarise(values)
                rows.append((segment.by, segment.label, name, s.mean, s.se, s.n))
        return pd.DataFrame(rows, columns=["by", "label", "metric", "mean", "se", "n"]).astype(
            {"mean": "float64", "se": "float64", "n": "int64"}
        )

    def __repr__(self) -> str:
        figures = [f"{name:.40} {found.mean:.4f}" for name, found in self.metrics.items()]
        more = [f"{len(figures) - _SHOWN} more"] if len(figures) > _SHOWN else []
        said = ", ".join([*figures[:_SHOWN], *more])
        return f"Report({self.model:.40}: {self.n_users} users, {said})"

    def _repr_html_(self) -> str:
        head, *rows = self._rows()
        return html_table(head, rows, caption="; ".join(self._head()))

    def _head(self) -> list[str]:
        head = [f"{self.model}: {self.n_users} users"]
        if self.n_skipped:
            head.append(f"{self.n_skipped} without targets, not counted")
        if self.n_unreachable:
            head.append(f"{self.n_unreachable} unreachable targets, ceiling {self.ceiling:.4f}")
        return head

    def _rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [("metric", "mean", "se", "95% interval", "users")]
        for name, found in self.metrics.items():
            interval = self.interval(name)
            rows.append((name, *_figures(found), _range(interval), str(found.n)))
        return rows

    def notes(self, cutoffs: Collection[int] | None = None) -> list[str]:
        """Say which of the cut-offs, None for all, are so long that they tell little."""
        return [
            f"note: lists of {k} hold every item there is for {n} of {self.n_users} users"
            for k, n in self.whole.items()
            if n and (cutoffs is None or k in cutoffs)
        ]

    def __str__(self) -> str:
        lines = ["; ".join(self._head()), *aligned(self._rows()), *self.notes()]
        if self.segments:
            parts: list[tuple[str, ...]] = [("by", "label", "metric", "mean", "se", "users")]
            for segment in self.segments:
                for name, values in segment.per_user.items():
                    found = summarise(values)
                    parts.append((segment.by, segment.label, name, *_figures(found), str(found.n)))
            lines += ["", *aligned(parts, left=(0, 1, 2))]
        return "\n".join(lines)


def write_per_user(report: Report, path: Path) -> None:
    """Write a Parquet file with one row a user: ``user_id``, ``targets`` and each metric.

    A metric that is not defined for a user is null.

    Raises
    ------
    ResourceError
        If the disk does not take it.
    """
    import pyarrow as pa

    columns = {"user_id": report.users.to_arrow(), "targets": pa.array(report.n_targets)}
    for name, values in report.per_user.items():
        columns[name] = pa.array(values, from_pandas=True)  # NaN becomes null
    write_parquet(path, pa.table(columns))


def _figures(found: Summary) -> tuple[str, str]:
    return f"{found.mean:.4f}", "" if found.se is None else f"{found.se:.4f}"


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
