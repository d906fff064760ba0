"""`ModelStudy`: the trials of one model, kept by Optuna and gone on with where they stopped."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any, Literal, final

import numpy as np

from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.errors import ConfigError, DivergedError, ResourceError
from recae.evaluation.evaluator import evaluate
from recae.experiment.config import RunConfig
from recae.experiment.run import make_model
from recae.experiment.spaces import Space
from recae.models.autoencoder import Autoencoder
from recae.options import Choice, Range
from recae.training.trainer import EpochRecord


def optuna_package() -> ModuleType:
    """Optuna, imported when it is needed.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError(
            "tuning needs the package optuna, which is not installed: pip install recae[tune]"
        ) from error
    return optuna


@final
@dataclass(frozen=True, slots=True)
class Task:
    """What all trials of all models have in common.

    Attributes
    ----------
    train
        What models learn from.
    validation
        What they are judged on: the first part also decides when a training stops, the score is
        the mean over all parts.
    metric
        What is maximised.
    seed
        Seed of the trainings and of what is tried.
    prune_after_trials, prune_after_epochs
        No trial is given up before so many trials are complete, nor before its epoch of that
        number, counted from 1.
    """

    train: Interactions
    validation: tuple[HeldOut, ...]
    metric: str
    seed: int
    prune_after_trials: int
    prune_after_epochs: int


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """One setting of a model, and what came of it.

    Attributes
    ----------
    model
        Its name.
    number
        Counted from 1.
    outcome
        Complete; pruned, given up for being below the median of the trials before; or diverged.
    score
        Validation score; None unless complete.
    options
        The setting, without options that are None.
    epochs
        For a model that trains in steps, the epoch whose weights were kept.
    seconds
        Wall time; 0 where a setting came again, which is not fitted twice.
    """

    model: str
    number: int
    outcome: Literal["complete", "pruned", "diverged"]
    score: float | None
    options: Mapping[str, Any]
    epochs: int | None
    seconds: float


@final
class ModelStudy:
    """The trials of one model.

    Each trial is drawn by the tree-structured Parzen estimator with a generator seeded by the seed
    and the number of trials before it: a study that was stopped goes on as if it had not been.

    Parameters
    ----------
    model
        Name of the model.
    fixed
        Options that all trials share.
    space
        The others.
    task
        Data, metric, seeds.
    storage
        A URL ``sqlite:///PATH``, or None to keep nothing.

    Raises
    ------
    ConfigError
        If Optuna is missing, `storage` is no such URL, or what it holds are trials of another task.
    ResourceError
        If the storage cannot be opened.
    """

    def __init__(
        self,
        model: str,
        fixed: Mapping[str, Any],
        space: Space,
        task: Task,
        storage: str | None,
    ) -> None:
        self._optuna = optuna_package()
        if storage is not None and not storage.startswith("sqlite:///"):
            raise ConfigError(f"storage is {storage!r}; sqlite:///PATH is accepted")
        self.model = model
        self.space = space
        self._fixed = dict(fixed)
        self._task = task
        pruner = self._optuna.pruners.MedianPruner(
            n_startup_trials=task.prune_after_trials, n_warmup_steps=task.prune_after_epochs
        )
        with _storage_errors(storage):
            self._study = self._optuna.create_study(
                storage=storage,
                study_name=model,
                direction="maximize",
                pruner=pruner,
                load_if_exists=True,
            )
        self._storage = storage

    def claim(self, identity: Mapping[str, object]) -> None:
        """Note what the trials are about, or make sure that it is what they were about.

        Raises
        ------
        ConfigError
            If the study was made for something else.
        """
        wanted = json.loads(json.dumps(identity))
        found = self._study.user_attrs.get("identity")
        if found is None:
            self._study.set_user_attr("identity", wanted)
        elif found != wanted:
            other = [key for key in wanted if found.get(key) != wanted[key]]
            raise ConfigError(
                f"the stored trials of {self.model} were made with another"
                f" {', '.join(other) or 'version'}; give another storage, or the old settings"
            )

    def trials(self) -> tuple[Trial, ...]:
        """Trials that ended, in their order. One whose process was killed counts for nothing."""
        return tuple(
            Trial(model=self.model, number=number, **json.loads(trial.user_attrs["outcome"]))
            for number, trial in enumerate(self._ended(), start=1)
        )

    def _ended(self) -> list[Any]:
        trials = self._study.get_trials(deepcopy=False)
        return [t for t in trials if t.state.is_finished() and "outcome" in t.user_attrs]

    def try_one(self) -> Trial:
        """Draw a setting, fit it, judge it, and keep the outcome.

        Raises
        ------
        ConfigError, DataError, ResourceError
            What fitting and judging raise; divergence is an outcome.
        """
        with _storage_errors(self._storage):
            return self._try_one()

    def _try_one(self) -> Trial:
        before = self.trials()
        seed = int(np.random.SeedSequence((self._task.seed, len(before))).generate_state(1)[0])
        # constant_liar looks at trials that have not ended, which a killed process may have left
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, constant_liar=False)
        if not before:
            first = {n: _stored(self.space.options[n], v) for n, v in self.space.first.items()}
            self._study.enqueue_trial(first)
        drawn = self._study.ask()
        options = self._fixed | _suggested(drawn, self.space)
        ended = next((t for t in before if t.options == options), None)
        if ended is None:
            ended = self._fit(drawn, options, len(before) + 1)
        else:
            ended = replace(ended, number=len(before) + 1, seconds=0.0)
        kept = {k: v for k, v in asdict(ended).items() if k not in {"model", "number"}}
        drawn.set_user_attr("outcome", json.dumps(kept))
        state = self._optuna.trial.TrialState
        states = {"complete": state.COMPLETE, "pruned": state.PRUNED, "diverged": state.FAIL}
        self._study.tell(drawn, ended.score, state=states[ended.outcome])
        return ended

    def _fit(self, drawn: Any, options: dict[str, Any], number: int) -> Trial:
        task = self._task
        started = time.monotonic()
        config = RunConfig(seed=task.seed, models={self.model: options})
        model = make_model(self.model, config)
        outcome: Literal["complete", "pruned", "diverged"] = "complete"
        score = epochs = None

        def watch(record: EpochRecord) -> None:
            drawn.report(record.validation, record.epoch)
            if drawn.should_prune():
                raise self._optuna.TrialPruned

        try:
            if isinstance(model, Autoencoder):
                model.fit(task.train, validation=task.validation[0], on_epoch=watch)
                epochs = max(record.epoch for record in model.training_log if record.best)
            else:
                model.fit(task.train, validation=task.validation[0])
            score = mean_score(model, task.validation, task.metric)
        except self._optuna.TrialPruned:
            outcome = "pruned"
        except DivergedError:
            outcome = "diverged"
        seconds = round(time.monotonic() - started, 3)
        return Trial(self.model, number, outcome, score, options, epochs, seconds)


@contextmanager
def _storage_errors(storage: str | None) -> Iterator[None]:
    """Say what went wrong with the storage in a class of ours."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        raise ResourceError(f"the storage {storage} failed: {error}") from error


def mean_score(model: Any, parts: Sequence[HeldOut], metric: str) -> float:
    """Mean of `metric` over users, then over `parts`."""
    return float(np.mean([evaluate(model, p, metrics=(metric,))[metric].mean for p in parts]))


def _suggested(drawn: Any, space: Space) -> dict[str, Any]:
    """Setting of a trial; real numbers with four digits, so that they can be read and written."""
    out: dict[str, Any] = {}
    for name, option in space.options.items():
        if name in space.only_with:
            other, value = space.only_with[name]
            if out[other] != value:
                continue
        if isinstance(option, Choice):
            texts = [_stored(option, v) for v in option.values]
            chosen = option.values[texts.index(drawn.suggest_categorical(name, texts))]
            out[name] = list(chosen) if isinstance(chosen, tuple) else chosen
        elif option.whole:
            out[name] = drawn.suggest_int(name, int(option.low), int(option.high), log=option.log)
        else:
            real = drawn.suggest_float(name, option.low, option.high, log=option.log)
            out[name] = float(f"{real:.4g}")
    return {name: value for name, value in out.items() if value is not None}


def _stored(option: Range | Choice, value: Any) -> Any:
    """`value` as Optuna keeps it: a choice as text, since it keeps no lists."""
    return json.dumps(value) if isinstance(option, Choice) else value
