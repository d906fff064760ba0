"""Who beats whom: paired tests between reports on the same users.

Differences are paired, a user with herself, so they resolve far less than two standard errors of
the means would. What varies is the users; models trained with several seeds are averaged over them
first, and how much seeds vary is another question.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, final

import numpy as np
from jaxtyping import Float64

from recae.arguments import several
from recae.errors import ConfigError, DataError
from recae.evaluation.report import Report
from recae.evaluation.resampling import bootstrap_means, flipped_means

if TYPE_CHECKING:
    import pandas as pd

FLIPS = 10_000
RESAMPLES = 2_000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One metric of one pair of models.

    Attributes
    ----------
    metric
        Name of the metric.
    better, worse
        The models, the one with the higher mean first.
    mean
        Mean over users of the paired differences, at least 0.
    low, high
        Percentile bootstrap interval of `mean`, at the comparison's level.
    p_t, p_wilcoxon, p_permutation
        Two-sided p-values: paired t-test, Wilcoxon's signed ranks (users without a difference left
        out), random sign flips of the differences.
    p_holm
        `p_t` after Holm's correction over all differences of the comparison. The t-test decides:
        Urbano, Lima and Hanjalic (SIGIR 2019) found it the best behaved of these.
    effect
        Cohen's d of paired values: mean / standard deviation (ddof 1) of the differences.
    wins, losses
        Share of users for whom `better` is the better one, and the worse one.
    n
        Users.
    level
        Of the interval.
    """

    metric: str
    better: str
    worse: str
    mean: float
    low: float
    high: float
    p_t: float
    p_wilcoxon: float
    p_permutation: float
    p_holm: float
    effect: float
    wins: float
    losses: float
    n: int
    level: float

    @property
    def significant(self) -> bool:
        """Whether the difference is told apart from none."""
        return self.p_holm < 1 - self.level

    def __str__(self) -> str:
        p = "p<.001" if self.p_holm < 0.001 else f"p={self.p_holm:.3f}"
        evidence = f"{self.level:.0%} interval {self.low:.4f} to {self.high:.4f}, {p} after Holm"
        if self.significant:
            return f"{self.better} beats {self.worse} by {self.mean:.4f} {self.metric}, {evidence}"
        return (
            f"{self.better} and {self.worse} are not told apart by {self.metric}:"
            f" difference {self.mean:.4f}, {evidence}"
        )


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs of models by all metrics; printed, it says who beats whom.

    Attributes
    ----------
    differences
        By metric in the order given, then by pair, models in falling order of their mean.
    """

    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        return "\n".join(map(str, self.differences))

    def to_json(self) -> list[dict[str, object]]:
        """One object a difference, as JSON values; None for an effect that is not finite."""
        return [
            {name: _json(getattr(d, name)) for name in (*_COLUMNS, "significant")}
            for d in self.differences
        ]

    def to_frame(self) -> "pd.DataFrame":
        """One row a difference, a column an attribute."""
        import pandas as pd

        columns = (*_COLUMNS, "significant")
        rows = [[getattr(d, name) for name in columns] for d in self.differences]
        return pd.DataFrame(rows, columns=list(columns))


_COLUMNS = tuple(Difference.__dataclass_fields__)


def compare_reports(
    reports: Mapping[str, Report | Sequence[Report]],
    *,
    metrics: Iterable[str] | None = None,
    level: float = 0.95,
    flips: int = FLIPS,
    resamples: int = RESAMPLES,
    rng: int = 0,
) -> Comparison:
    """Test the differences of every pair of models by every metric.

    Parameters
    ----------
    reports
        For each model its report, or its reports of several seeds, whose values are averaged user
        by user. All from the same held-out users.
    metrics
        Metrics about targets; all that the first report has when not given.
    level
        Of the intervals; a difference is called significant below ``1 - level`` after Holm.
    flips, resamples
        Sign flips of the permutation test (all of them, where there are no more), and draws of the
        bootstrap. The smallest p-value of the former is ``1 / (flips + 1)``.
    rng
        Seed of both.

    Raises
    ------
    ConfigError
        If there are fewer than two models, or a metric is unknown, missing in a report or not about
        targets; if `level` is not between 0 and 1, or `flips` or `resamples` is below 1.
    DataError
        If reports are about different users or targets, or fewer than two users have targets.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; a number between 0 and 1 is accepted")
    if flips < 1:
        raise ConfigError(f"flips is {flips}; at least 1 is accepted")
    listed = {
        name: (given,) if isinstance(given, Report) else tuple(given)
        for name, given in reports.items()
    }
    if len(listed) < 2 or not all(listed.values()):
        raise ConfigError(f"{len(listed)} models to compare; two with a report each are needed")
    first = next(iter(listed.values()))[0]
    _same_exam(listed, first)
    found: list[Difference] = []
    asked = _quality_metrics(first) if metrics is None else several("metrics", metrics, "names")
    for metric in dict.fromkeys(asked):
        if first.metric(metric).about != "targets":
            raise ConfigError(f"metric {metric!r} is not about targets, so higher is not better")
        found += _differences(metric, _values(listed, metric), level, flips, resamples, rng)
    corrected = holm(np.array([d.p_t for d in found]))
    return Comparison(
        tuple(replace(d, p_holm=float(p)) for d, p in zip(found, corrected, strict=True))
    )


def holm(p_values: Float64[np.ndarray, " tests"]) -> Float64[np.ndarray, " tests"]:
    """Holm's step-down correction: p-values that may be compared with one common level.

    References
    ----------
    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 1979.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    remaining = np.arange(len(p_values), 0, -1)
    out = np.empty(len(p_values))
    out[order] = np.minimum(np.maximum.accumulate(p_values[order] * remaining), 1.0)
    return out


def _same_exam(listed: Mapping[str, Sequence[Report]], first: Report) -> None:
    for name, reports in listed.items():
        for report in reports:
            if report.users != first.users:
                raise DataError(
                    f"{name} was judged on {report.n_users} users that are not the"
                    f" {first.n_users} of {first.model}; paired tests need the same, in one order"
                )
            if report.fingerprint != first.fingerprint:
                raise DataError(
                    f"{name} was judged on other fold-ins, targets or exclusions"
                    f" than {first.model}; paired tests need the same"
                )


def _quality_metrics(report: Report) -> tuple[str, ...]:
    names = tuple(name for name in report.per_user if report.metric(name).about == "targets")
    if not names:
        raise ConfigError("the reports have no metric about targets to compare by")
    return names


def _values(
    listed: Mapping[str, Sequence[Report]], metric: str
) -> dict[str, Float64[np.ndarray, " users"]]:
    """For each model, best first, its values of the users with targets, averaged over reports."""
    values = {}
    for name, reports in listed.items():
        for report in reports:
            report[metric]  # refuses a metric that the report has not
        columns = np.array([report.per_user[metric] for report in reports])
        values[name] = columns.mean(axis=0)[~np.isnan(columns[0])]
        if len(values[name]) < 2:
            raise DataError(f"{len(values[name])} users have targets; tests need at least 2")
    return dict(sorted(values.items(), key=lambda item: -item[1].mean()))


def _differences(
    metric: str,
    values: Mapping[str, Float64[np.ndarray, " users"]],
    level: float,
    flips: int,
    resamples: int,
    rng: int,
) -> list[Difference]:
    """Differences of all pairs, not yet corrected."""
    from scipy import stats  # 45 MB that an evaluation without tests need not have

    columns = np.stack(list(values.values()), axis=1)
    drawn = bootstrap_means(columns, resamples=resamples, rng=rng)
    flipped, complete = flipped_means(columns, resamples=flips, rng=rng)
    out = []
    for (i, better), (j, worse) in combinations(enumerate(values), 2):
        d = columns[:, i] - columns[:, j]
        mean, sd = float(d.mean()), float(d.std(ddof=1))
        low, high = np.quantile(drawn[:, i] - drawn[:, j], [(1 - level) / 2, (1 + level) / 2])
        as_far = int((np.abs(flipped[:, i] - flipped[:, j]) >= abs(mean) * (1 - 1e-9)).sum())
        p_t = _p_t(mean, sd, len(d))
        out.append(
            Difference(
                metric=metric,
                better=better,
                worse=worse,
                mean=mean,
                low=float(low),
                high=float(high),
                p_t=p_t,
                p_wilcoxon=float(stats.wilcoxon(d).pvalue) if d.any() else 1.0,
                p_permutation=as_far / len(flipped) if complete else (as_far + 1) / (flips + 1),
                p_holm=p_t,
                effect=mean / sd if sd else float("inf") if mean else 0.0,
                wins=float((d > 0).mean()),
                losses=float((d < 0).mean()),
                n=len(d),
                level=level,
            )
        )
    return out


def _p_t(mean: float, sd: float, n: int) -> float:
    """Two-sided p-value of the paired t-test; 1 where no user differs, 0 where all do alike."""
    from scipy import stats

    if not sd:
        return 0.0 if mean else 1.0
    return float(2 * stats.t.sf(abs(mean) / (sd / np.sqrt(n)), n - 1))


def _json(value: object) -> object:
    return None if isinstance(value, float) and not np.isfinite(value) else value
