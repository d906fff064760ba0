"""`compare`: several models on one split, judged on the same held-out users."""

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import final

import numpy as np

from recae.arguments import refuse_other, several
from recae.data.split import Split
from recae.errors import ConfigError, NotFittedError
from recae.evaluation.evaluator import evaluate
from recae.evaluation.names import DEFAULT_METRICS, Metric, OwnMetric, parse_metrics
from recae.evaluation.report import Report
from recae.evaluation.segments import SEGMENTS
from recae.experiment.config import RunConfig
from recae.experiment.details import Details, detailed, details_of_seeds, training_of, with_detail
from recae.experiment.report import markdown, write_html
from recae.experiment.run import make_model
from recae.experiment.table import ComparisonTable, Entry, refuse_question
from recae.ranking.recommender import Recommender

logger = logging.getLogger("recae.compare")


@final
class Compared(ComparisonTable):
    """What `compare` returns: the table, and ways to write it for people."""

    __slots__ = ()

    def to_html(self, path: str | Path) -> None:
        """Write the report as one HTML file.

        Raises
        ------
        ConfigError
            If matplotlib, which draws its figures, is not installed.
        ResourceError
            If the file cannot be written.
        """
        write_html(self, Path(path))

    def to_markdown(self) -> str:
        """Return the table, its definitions and the split as Markdown."""
        return markdown(self)


def compare(
    models: Iterable[Recommender | str],
    split: Split,
    *,
    metrics: Iterable[str | OwnMetric] = DEFAULT_METRICS,
    config: RunConfig | None = None,
    seeds: int | Iterable[int] = 1,
    data: Mapping[str, object] | None = None,
    require_beat: str | None = None,
) -> Compared:
    """Fit what is not fitted, and judge all models on the test part of `split`.

    Parameters
    ----------
    models
        Models, or names of models, which get the options of `config`. A model that is fitted is
        taken as it is and must know the items of `split`.
    split
        With a test part. Its validation part, where there is one, decides when training stops.
    metrics
        What to report, as for `recae.evaluate`; the first one orders the result.
    config
        Options of the models given by name.
    seeds
        Training seeds of each model given by name that has one: how many, from that of `config` on,
        or which.
    data
        Summary of the data, copied into the result.
    require_beat
        Model that `ComparisonTable.require_beat` will be asked about: a question that has no answer
        is refused here.

    Raises
    ------
    ConfigError
        Before anything is fitted: if the split has no test part, a name, option or metric is not
        accepted, no model or one is there twice, `seeds` is below 1, or `require_beat` is not
        compared or the first metric has no value for each user.
    """
    refuse_other("split", split, Split, "a Split, as recae.split returns")
    if split.test is None:
        raise ConfigError(f"protocol {split.protocol!r} has no test part to compare on")
    config = config or RunConfig()
    drawn = _seeds(seeds, config.seed)
    wanted = parse_metrics(metrics)
    runs = [_runs(model, config, drawn) for model in several("models", models, "models")]
    names = [run[0].name for run in runs]
    if not names:
        raise ConfigError("no model is named; at least one is needed")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"model {name!r} is compared twice")
    if require_beat is not None:
        refuse_question(require_beat, names, wanted[0])
    entries: list[Entry] = []
    while runs:  # a model that is judged is let go before the next is fitted
        entries.append(_entry(runs.pop(0), split, wanted))
        logger.info("compared", extra={"entry": entries[-1].name})
    entries.sort(key=lambda e: -(e.summary(wanted[0].name)["mean"] or 0.0))
    return Compared(tuple(entries), tuple(metric.name for metric in wanted), split, data or {})


def _seeds(given: int | Iterable[int], first: int) -> tuple[int, ...]:
    """Seeds that are named, or so many from `first` on."""
    if isinstance(given, bool):
        raise ConfigError(f"seeds is {given}; a whole number from 1, or a list, is accepted")
    if isinstance(given, int | np.integer):
        if given < 1:
            raise ConfigError(f"seeds is {given}; at least 1, or a list of seeds, is accepted")
        return tuple(range(first, first + int(given)))
    named = several("seeds", given, "whole numbers")
    wrong = [
        seed
        for seed in named
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0
    ]
    if wrong or not named or len(set(named)) < len(named):
        raise ConfigError(f"seeds is {given!r:.60}; different whole numbers from 0 are accepted")
    return tuple(map(int, named))


def _runs(model: Recommender | str, config: RunConfig, seeds: tuple[int, ...]) -> list[Recommender]:
    """Return the model itself, or one for each seed where its name was given and it has one."""
    if isinstance(model, Recommender):
        return [model]
    given: object = model
    if isinstance(given, type):
        kind = given.__name__
        raise ConfigError(f"a model is the class {kind}; accepted: a model, {kind}(), or its name")
    refuse_other("a model", model, str, "a model or its name")
    seeded = [make_model(model, config, seed=seed) for seed in seeds]
    return seeded if hasattr(seeded[0].config, "rng") else seeded[:1]


def _entry(candidates: list[Recommender], split: Split, wanted: tuple[Metric, ...]) -> Entry:
    assert split.test is not None
    metrics = tuple(metric.name for metric in wanted)
    reports: list[Report] = []
    details: list[Details] = []
    seconds: list[float] = []
    for candidate in candidates:
        if not _is_fitted(candidate):
            started = time.monotonic()
            candidate.fit(split.train, validation=split.validation)
            seconds.append(time.monotonic() - started)
        full = evaluate(
            candidate,
            split.test,
            metrics=with_detail([metric.own or metric.name for metric in wanted]),
            by=SEGMENTS,
        )
        report, more = detailed(full, metrics, candidate, split.test, training_of(candidate))
        reports.append(report)
        details.append(more)
    fit_s = round(sum(seconds) / len(seconds), 3) if seconds else None
    first, told = candidates[0], details_of_seeds(details)
    return Entry(first.name, tuple(reports), first.config.to_json(), fit_s, told)


def _is_fitted(model: Recommender) -> bool:
    try:
        return model.n_items > 0
    except NotFittedError:
        return False
