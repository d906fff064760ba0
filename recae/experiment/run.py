"""Read, split, fit, evaluate, save: the steps of the command line, and of a script."""

import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from recae.arguments import refuse_other
from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.matrices import Matrix, interactions_of
from recae.data.protocols import split as split_data
from recae.data.readers import read_interactions, user_labels
from recae.data.split import HeldOut, Split
from recae.errors import BusyError, ConfigError, DataError
from recae.evaluation.evaluator import evaluate
from recae.evaluation.names import DEFAULT_METRICS, OwnMetric
from recae.evaluation.report import Report
from recae.evaluation.segments import SEGMENTS
from recae.experiment.config import RunConfig, refuse_ungraded
from recae.experiment.data import data_summary, make_split
from recae.models.registry import config_class, create
from recae.ranking.recommender import Recommender
from recae.serving import Bundle, RecommendationService, save_bundle
from recae.version import VERSION, installed_version

_LIBRARIES = ("torch", "numpy", "scipy", "pyarrow", "implicit")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A fitted model and what it was fitted on."""

    model: Recommender
    data: Interactions
    split: Split
    validation: Report | None
    seconds: float


def make_model(name: str, config: RunConfig, *, seed: int | None = None) -> Recommender:
    """Unfitted model called `name` with the options of `config`.

    The seed of the run is the model's `rng`, unless its options say otherwise.
    """
    options = config.options(name)
    if "rng" in {f.name for f in _fields(config_class(name))}:
        options.setdefault("rng", config.seed if seed is None else seed)
    return create(name, options)


def _fields(kind: Any) -> tuple[Any, ...]:
    return tuple(kind.__dataclass_fields__.values())


def train(
    data: Interactions,
    config: RunConfig,
    *,
    split: Split | None = None,
    checkpoint: Path | None = None,
    keep_checkpoint: bool = False,
    resume: bool = False,
) -> Trained:
    """Split `data`, unless `split` is given, and fit the model of `config` on the training part.

    The test part is not looked at; the validation part, where there is one, decides when to stop
    and is reported. `keep_checkpoint` leaves the last checkpoint of a long training there, for who
    has yet to save the model: `forget_checkpoints` afterwards.
    """
    split = split or make_split(data, config)
    model = make_model(config.model, config)
    started = time.monotonic()
    kept: dict[str, Any] = {"keep_checkpoint": True} if keep_checkpoint else {}
    model.fit(
        split.train, validation=split.validation, checkpoint=checkpoint, resume=resume, **kept
    )
    seconds = time.monotonic() - started
    report = None
    if split.validation is not None:
        report = evaluate(model, split.validation, metrics=config.metrics)
    return Trained(model, data, split, report, seconds)


def forget_checkpoints(checkpoint: Path) -> None:
    """Remove the checkpoints of a directory, unless another training holds it."""
    from recae.training.checkpoint import CheckpointStore

    store = CheckpointStore(checkpoint)
    with suppress(BusyError), store.locked():
        store.clear()


def train_counts(train: Interactions) -> np.ndarray:
    """Training interactions of each item, int64, shape ``(items,)``."""
    return np.bincount(train.matrix.indices, minlength=train.n_items).astype(np.int64)


def save(
    model: Recommender,
    directory: str | Path,
    *,
    data: Interactions | Matrix,
    split: Split | None = None,
    user_history: bool = True,
    metrics: Mapping[str, object] | None = None,
    provenance: Mapping[str, object] | None = None,
) -> str:
    """Write `model` as a new version of the model directory and point to it.

    Parameters
    ----------
    model
        Fitted on `data`, or on the training part of `split`.
    directory
        Made if it is not there.
    data
        Whose users can be asked for by id afterwards: all of them, those held out included. Of a
        matrix of people x items, the numbers of rows and columns are the ids.
    split
        The split it was fitted on, stored so that `evaluate` can make it again.
    user_history
        Store users and their histories. Without them the directory holds no personal data, and
        histories come with each request.
    metrics, provenance
        Stored as they are.

    Returns
    -------
    The version id.
    """
    refuse_other("model", model, Recommender, "a fitted model")
    data = interactions_of("data", data)
    refuse_other("split", split, Split | None, "a Split, as recae.split returns")
    trained_on = data if split is None else split.train
    learnt = trained_on.rows_fingerprint()
    if model.n_items != trained_on.n_items or (model.fitted_on or learnt) != learnt:
        given = "data" if split is None else "the training part of split"
        raise DataError(
            f"the model was fitted on other interactions than {given}: give the split it was fitted"
            " on, split=..., or, fitted on all of data, no split"
        )
    histories = _known_histories(data, trained_on)
    return save_bundle(
        directory,
        model,
        items=trained_on.items,
        item_table=trained_on.item_table,
        users=data.users if user_history else None,
        histories=histories if user_history else None,
        popularity=train_counts(trained_on),
        split=None if split is None else split.to_json(),
        metrics=metrics,
        provenance={
            "data": data_summary(data),
            "read": {} if data.report is None else dict(data.report.options),
            **run_summary(),
            **(provenance or {}),
        },
    )


def _known_histories(data: Interactions, trained_on: Interactions) -> Histories:
    """Histories of all users of `data`, in the items of `trained_on`."""
    if data.items == trained_on.items:
        return data.histories()
    return data.take_items(
        data.items.indices_of(trained_on.items.ids_at(range(trained_on.n_items)))
    ).histories()


def load(directory: str | Path) -> RecommendationService:
    """Open a model directory: a service with ids in and ids out.

    Processes forked afterwards, of a `multiprocessing.Pool` say, may use it; each computes on one
    thread.

    Raises
    ------
    BundleError
        If it is missing, damaged or written by a newer version.
    """
    return RecommendationService.open(directory)


def evaluate_stored(
    bundle: Bundle,
    source: Any,
    *,
    metrics: Sequence[str | OwnMetric] | None = None,
    part: str = "test",
    by: Sequence[str] = (),
    user_table: str | Path | None = None,
) -> tuple[Report, Split, Interactions]:
    """Judge a stored model on the held-out users of the split it was trained with.

    Reads `source` as it was read for training, makes the stored split again, and refuses when the
    data or the split is another.

    Parameters
    ----------
    bundle
        A loaded version; everything about the model is taken from it.
    source
        The data it was trained on, as `read_interactions` takes it.
    metrics
        Those of the training when not given.
    part
        ``"test"`` or ``"validation"``.
    by
        Segments to add, as for `recae.evaluate`, or columns of `user_table`.
    user_table
        A file with a row a user and columns that say something of them.

    Returns
    -------
    The report, the split and the data.

    Raises
    ------
    DataError
        If the data has another fingerprint than the training data, or its split other items.
    ConfigError
        If the model was stored without a split, or its split has no such part, or a metric needs
        ratings and the training kept none.
    """
    if bundle.split is None:
        raise ConfigError(f"version {bundle.version} was stored without a split; train it again")
    stored: Mapping[str, Any] = bundle.split
    run: Mapping[str, Any] = bundle.provenance.get("run", {})
    reading = bundle.reading
    metrics = metrics or run.get("metrics") or DEFAULT_METRICS
    refuse_ungraded(metrics, reading)
    data = read_interactions(source, **reading)
    if data.seen is not None and (before := replace(data, seen=None)).fingerprint() == stored.get(
        "fingerprint"
    ):  # stored when pairs below the minimum were forgotten: the same exam, so the same figures
        data = before
    found = data.fingerprint()
    if found != stored["fingerprint"]:
        raise DataError(
            f"{source} is not the data the model was trained on (fingerprint {found[:12]},"
            f" trained on {stored['fingerprint'][:12]}): a split of other data would show the"
            " model what it has seen; train again or give the original file"
        )
    split = split_data(data, stored["protocol"], **stored["options"])
    held_out: HeldOut | None = getattr(split, part)
    if held_out is None:
        raise ConfigError(f"protocol {split.protocol!r} has no {part} part to evaluate on")
    if split.train.items != bundle.items:
        raise DataError("the split made again has other items than the model: a newer protocol?")
    columns = [name for name in dict.fromkeys(by) if name not in SEGMENTS]
    report = evaluate(
        bundle.model,
        held_out,
        metrics=metrics,
        by=by,
        labels=None if user_table is None else user_labels(user_table, columns, held_out.users),
    )
    return report, split, data


def run_summary() -> dict[str, object]:
    """Versions, machine, threads and time of this process, as JSON values."""
    import torch

    return {
        "versions": _versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _versions() -> dict[str, str]:
    """Versions of this package and of the libraries that are installed."""
    found = {name: installed_version(name) for name in _LIBRARIES}
    return {"recae": VERSION} | {name: given for name, given in found.items() if given is not None}
