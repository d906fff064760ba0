"""`tune`: the same number of trials for every model, judged on validation users alone."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, final

import numpy as np

from recae.arguments import several
from recae.data.interactions import Interactions
from recae.data.protocols import PROTOCOLS
from recae.data.protocols.drawing import id_order
from recae.data.protocols.redraw import redraw
from recae.data.split import HeldOut
from recae.errors import ConfigError, DataError, DivergedError
from recae.evaluation.aligned import aligned
from recae.evaluation.evaluator import fingerprint
from recae.evaluation.names import parse_metric
from recae.evaluation.parts import HeldOutParts, held_out_parts
from recae.experiment.config import RunConfig
from recae.experiment.data import make_split
from recae.experiment.run import make_model
from recae.experiment.spaces import Space, space_of
from recae.experiment.study import ModelStudy, Task, Trial
from recae.models.registry import config_class
from recae.training.config import TrainingConfig

CUT = 0.1  # of each user's training interactions, where the input has no validation part


@final
@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """What is tuned on, and how the winner is fitted afterwards.

    Attributes
    ----------
    train, validation
        The parts that trials see.
    final
        The run that fits the winner.
    cut
        Whether `validation` was cut out of what `final` trains on.
    has_test
        Whether the protocol has a test part. The part itself is not here.
    parts
        Counts of the validation part and the test part; no model was asked for them.
    """

    train: Interactions
    validation: HeldOut
    final: RunConfig
    cut: bool
    has_test: bool
    parts: HeldOutParts


def prepare(
    data: Interactions, config: RunConfig, *, validation_users: int | None = None
) -> Material:
    """Parts of `data` to tune on.

    Where the protocol's validation part is cut out of the training part by its option
    ``validation_fraction`` (``column`` without such a part, ``all``), a tenth of each user's
    training interactions is cut out unless the option says otherwise, and the winner is fitted
    without the cut.

    Parameters
    ----------
    data
        All of it; no model sees or is judged on what is taken away for the test part.
    config
        The run that will fit the winner.
    validation_users
        Judge trials on so many users, drawn with the seed of the run among those of the validation
        part that have a target. None judges them on all.

    Raises
    ------
    ConfigError
        If the protocol has no validation part, or `validation_users` is below 1.
    DataError
        If nobody has anything to be judged on.
    """
    split = make_split(data, config)
    cuts = any(
        f.name == "validation_fraction" and f.default is None
        for f in fields(PROTOCOLS[config.protocol])
    )
    cut = cuts and (split.validation is None or "validation_fraction" in config.split)
    final = config
    if cut:
        whole = {k: v for k, v in config.split.items() if k != "validation_fraction"}
        final = replace(config, split=whole)
        share = config.split.get("validation_fraction") or CUT
        split = make_split(data, replace(config, split={**whole, "validation_fraction": share}))
    if split.validation is None:
        raise ConfigError(
            f"protocol {config.protocol!r} has no validation part with these options; tuning"
            " needs one"
        )
    if not split.validation.target.nnz:
        raise DataError("no validation user has a target to be judged on")
    validation = _some(split.validation, validation_users, config.seed)
    parts = held_out_parts(split.train, split.validation, split.test)
    return Material(split.train, validation, final, cut, split.test is not None, parts)


def _some(held_out: HeldOut, n_users: int | None, seed: int) -> HeldOut:
    """Return `n_users` of those who have a target, drawn by id and seed."""
    if n_users is None:
        return held_out
    if n_users < 1:
        raise ConfigError(f"validation_users is {n_users}; at least 1 is accepted")
    by_id = id_order(held_out.users)
    asked = by_id[np.diff(held_out.target.indptr)[by_id] > 0]
    drawn = np.random.default_rng(seed).permutation(asked)[:n_users]
    return held_out.take(np.sort(drawn))


@final
@dataclass(frozen=True, slots=True)
class Tuned:
    """The trials of one model and the best of them.

    Attributes
    ----------
    trials
        In their order.
    space
        What was tried.
    best
        The complete trial of the highest score, the earlier one of equals.
    final
        Options to fit with: those of `best`, and for a model that trains in steps the epochs it
        took, where there will be no validation part to tell.
    """

    trials: tuple[Trial, ...]
    space: Space
    best: Trial
    final: Mapping[str, Any]

    def count(self, outcome: str) -> int:
        """Trials of that outcome."""
        return sum(trial.outcome == outcome for trial in self.trials)

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        assert self.best.score is not None
        return {
            "validation": self.best.score,
            "options": dict(self.final),
            "trials": len(self.trials),
            "complete": self.count("complete"),
            "pruned": self.count("pruned"),
            "diverged": self.count("diverged"),
            "space_size": self.space.size,
            "space": self.space.to_json(),
            "history": [asdict(trial) for trial in self.trials],
        }


@final
@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """Models with their best options, best first.

    Attributes
    ----------
    models
        One entry a model.
    metric
        What was maximised on the validation users.
    draws
        Hold-out draws that the scores are means of.
    config
        Run that fits the winner; it has the best options of all models.
    """

    models: tuple[Tuned, ...]
    metric: str
    draws: int
    config: RunConfig

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "winner": self.config.model,
            "metric": self.metric,
            "definition": parse_metric(self.metric).definition,
            "validation_draws": self.draws,
            "models": {tuned.best.model: tuned.to_json() for tuned in self.models},
            "config": self.config.to_json(),
        }

    def __str__(self) -> str:
        head = ("model", f"validation {self.metric}", "trials", "pruned", "options", "best")
        rows: list[tuple[str, ...]] = [head]
        for tuned in self.models:
            best = " ".join(f"{k}={json.dumps(v)}" for k, v in tuned.best.options.items())
            counts = (len(tuned.trials), tuned.count("pruned"), tuned.space.size)
            rows.append(
                (tuned.best.model, f"{tuned.best.score:.4f}", *(str(n) for n in counts), best)
            )
        return "\n".join(aligned(rows, left=(0, len(head) - 1)))


def tune(
    material: Material,
    models: Iterable[str],
    *,
    trials: int,
    timeout_s: float | None = None,
    storage: str | None = None,
    draws: int = 1,
    prune_after_trials: int = 5,
    prune_after_epochs: int = 5,
    on_trial: Callable[[Trial], None] | None = None,
) -> Tuning:
    """Search the options of each model that do best on the validation users.

    The first trial of a model has its defaults. Models take turns, a trial each, so that all have
    the same number whenever the time is up; a model without options to try has one trial. Options
    that the run gives a model are kept and not searched. A training is given up when its best
    epoch so far is below the median of the complete trials at that epoch.

    Parameters
    ----------
    material
        From `prepare`. The test part is not in it.
    models
        Names.
    trials
        Of each model in all, those found in `storage` included.
    timeout_s
        No further round of trials starts after so many seconds; the first always does.
    storage
        URL ``sqlite:///PATH`` of the studies, one a model; None keeps nothing.
    draws
        Hold-out draws of the same validation users that a score is the mean over: the one of the
        protocol and, above 1, further ones by `redraw`. Trainings stop by the first.
    prune_after_trials, prune_after_epochs
        See `Task`.
    on_trial
        Told every trial that ends.

    Raises
    ------
    ConfigError
        If Optuna is missing, a name, number or option is not accepted, the first metric is not one
        to maximise, or the storage holds trials of another task.
    DivergedError
        If all trials of a model diverged.
    ResourceError
        If the storage fails.
    """
    config = material.final
    metric = config.metrics[0]
    models = several("models", models, "names")
    _check(models, trials, timeout_s, draws, metric)
    parts = redraw(material.validation, material.train, draws=draws - 1)
    task = Task(
        material.train,
        (material.validation, *parts),
        metric,
        config.seed,
        prune_after_trials,
        prune_after_epochs,
    )
    about = {
        "training part": material.train.fingerprint(),
        "validation part": fingerprint(material.validation),
        "metric": metric,
        "number of validation draws": draws,
        "seed": config.seed,
    }
    studies = []
    for name in models:
        fixed = _fixed(name, config, metric)
        space = space_of(name, fixed)
        study = ModelStudy(name, fixed, space, task, storage)
        study.claim({**about, "given options": fixed, "search space": space.to_json()})
        studies.append(study)
    started = time.monotonic()
    for turn in range(1, trials + 1):
        if timeout_s is not None and turn > 1 and time.monotonic() - started > timeout_s:
            break
        for study in studies:
            if len(study.trials()) < (turn if study.space.size else 1):
                ended = study.try_one()
                if on_trial is not None:
                    on_trial(ended)
    tuned = [_best(study, material) for study in studies]
    tuned.sort(key=lambda t: -(t.best.score or 0.0))
    options = dict(config.models) | {t.best.model: t.final for t in tuned}
    return Tuning(
        tuple(tuned), metric, draws, replace(config, model=tuned[0].best.model, models=options)
    )


def _check(
    models: Sequence[str], trials: int, timeout_s: float | None, draws: int, metric: str
) -> None:
    if not models or len(set(models)) < len(models):
        raise ConfigError(f"models are {list(models)}; one or more names, each once, are accepted")
    for name, value in (("trials", trials), ("draws", draws)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; at least 1 is accepted")
    if timeout_s is not None and not timeout_s > 0:
        raise ConfigError(f"timeout_s is {timeout_s}; above 0 is accepted")
    if parse_metric(metric).about != "targets":
        raise ConfigError(f"{metric} is not about what was held out; name one such as ndcg@100")


def _fixed(name: str, config: RunConfig, metric: str) -> dict[str, Any]:
    """Options of `name` that are not searched; a training is judged by the metric of the search."""
    fixed = config.options(name)
    make_model(name, config)  # refuses what is not accepted before the first trial
    if issubclass(config_class(name), TrainingConfig):
        fixed.setdefault("validation_metric", metric)
    return fixed


def _best(study: ModelStudy, material: Material) -> Tuned:
    trials = study.trials()
    complete = [trial for trial in trials if trial.score is not None]
    if not complete:
        raise DivergedError(f"all {len(trials)} trials of {study.model} diverged")
    best = max(complete, key=lambda trial: trial.score or 0.0)
    final = dict(best.options)
    if material.cut and best.epochs is not None:
        final |= _as_long_as(best, material)
    return Tuned(trials, study.space, best, final)


def _as_long_as(best: Trial, material: Material) -> dict[str, Any]:
    """Options that end a training where the trial's was best, without a validation part."""
    run = replace(material.final, models={best.model: best.options})
    config = make_model(best.model, run).config
    options: dict[str, Any] = {"epochs": best.epochs}
    if isinstance(config, TrainingConfig):
        options |= config.schedule(material.train.n_users)
    return options
