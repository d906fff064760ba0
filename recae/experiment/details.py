"""`Details`: what a report tells of a model beyond the figures that were asked for.

Kept instead of the model, which may be gigabytes: summaries, not vectors, and three short lists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import final

import numpy as np
from jaxtyping import Int64

from recae.data.split import HeldOut
from recae.evaluation.names import OwnMetric, find_metric
from recae.evaluation.report import Report, Summary, summarise
from recae.models.autoencoder import Autoencoder
from recae.ranking.recommender import Recommender

CUTOFFS = (1, 2, 5, 10, 20, 50, 100)
CURVES = ("recall", "ndcg")
LISTS = ("coverage@20", "gini@20", "novelty@20", "popularity-bias@20")
DETAIL_METRICS = (*(f"{family}@{k}" for family in CURVES for k in CUTOFFS), *LISTS)

_LIST_LENGTH = 10
_QUANTILES = (0.2, 0.5, 0.8)


@final
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Details:
    """More about one fitted model.

    Attributes
    ----------
    figures
        Summary of each of `DETAIL_METRICS`, over all seeds.
    segments
        ``(by, label, summary)`` of `main_metric` for each group of users or items, over all seeds.
    lists
        Item indices recommended to the users of `example_users`, best first, ``-1`` after the last;
        shape ``(examples, 10)``. Of the first seed.
    training
        A record an epoch, as in ``training.json``; empty where the model is not trained in epochs
        or its log is not known. Of the first seed.
    """

    figures: Mapping[str, Summary]
    segments: tuple[tuple[str, str, Summary], ...]
    lists: Int64[np.ndarray, "examples k"]
    training: tuple[Mapping[str, object], ...] = ()


def main_metric(metrics: Sequence[str]) -> str:
    """First metric of the package about targets, or ``ndcg@100`` where there is none."""
    found = (find_metric(name) for name in metrics)
    return next((m.name for m in found if m is not None and m.about == "targets"), "ndcg@100")


def with_detail(metrics: Sequence[str | OwnMetric]) -> tuple[str | OwnMetric, ...]:
    """Return `metrics` and those that `detailed` needs, each once."""
    return tuple(dict.fromkeys((*metrics, *DETAIL_METRICS)))


def detailed(
    report: Report,
    metrics: Sequence[str],
    model: Recommender,
    held_out: HeldOut,
    training: tuple[Mapping[str, object], ...],
) -> tuple[Report, Details]:
    """Part a report on ``with_detail(metrics)`` by `SEGMENTS` into what was asked, and details.

    Parameters
    ----------
    report
        Of `model` on `held_out`.
    metrics
        That were asked for.
    training
        Log of its training, a record an epoch.
    """
    main = main_metric(metrics)
    details = Details(
        figures={name: report[name] for name in DETAIL_METRICS},
        segments=tuple((s.by, s.label, summarise(s.per_user[main])) for s in report.segments),
        lists=_lists(model, held_out),
        training=training,
    )
    cutoffs = {report.metric(name).k for name in metrics}
    asked = replace(
        report,
        per_user={n: v for n, v in report.per_user.items() if n in metrics},
        catalogue={n: v for n, v in report.catalogue.items() if n in metrics},
        tied={k: n for k, n in report.tied.items() if k in cutoffs},
        whole={k: n for k, n in report.whole.items() if k in cutoffs},
        segments=(),
    )
    return asked, details


def mean_of_seeds(found: Sequence[Summary]) -> Summary:
    """Return the means of a figure and of its standard error over training seeds."""
    errors = [summary.se for summary in found if summary.se is not None]
    return Summary(
        mean=float(np.mean([summary.mean for summary in found])),
        se=float(np.mean(errors)) if errors else None,
        n=found[0].n,
    )


def details_of_seeds(found: Sequence[Details]) -> Details:
    """Return the details of a model: figures over all its seeds, the rest of the first."""
    first = found[0]
    segments = zip(*(details.segments for details in found), strict=True)
    return replace(
        first,
        figures={name: mean_of_seeds([d.figures[name] for d in found]) for name in first.figures},
        segments=tuple(
            (of[0][0], of[0][1], mean_of_seeds([summary for _, _, summary in of]))
            for of in segments
        ),
    )


def training_of(model: Recommender) -> tuple[Mapping[str, object], ...]:
    """Training log of the last fit of `model`, a record an epoch; empty where there is none."""
    if not isinstance(model, Autoencoder):
        return ()
    return tuple(asdict(record) for record in model.training_log)


def example_users(held_out: HeldOut) -> Int64[np.ndarray, " examples"]:
    """Rows of a few users to show: with a history and targets, a short, a usual and a long one.

    Decided by the data alone, so that no model is shown at its best.
    """
    lengths = np.diff(held_out.fold_in.matrix.indptr)
    rows = np.flatnonzero((lengths > 0) & (np.diff(held_out.target.indptr) > 0))
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    places = {int(q * (len(rows) - 1)) for q in _QUANTILES} if len(rows) else set()
    return rows[sorted(places)].astype(np.int64)


def _lists(model: Recommender, held_out: HeldOut) -> Int64[np.ndarray, "examples k"]:
    rows = example_users(held_out)
    exclude = None if held_out.exclude is None else held_out.exclude.take(rows)
    return model.recommend(held_out.fold_in.take(rows), k=_LIST_LENGTH, exclude=exclude).items
