"""A rehearsal of a training in a process of its own: real steps, whose memory and time are read.

The process trains two epochs of two steps on all rows, judges some validation users after each and
writes its checkpoints. What that adds to the memory of the process is what the training will add;
the system's end of a process that takes too much is an answer too, and harms nobody.
"""

import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from scipy.sparse import csr_array

from recae import errors, machine
from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.data.split import HeldOut, Split
from recae.errors import RecaeError, ResourceError
from recae.experiment.config import RunConfig
from recae.experiment.memory import Needs, size
from recae.experiment.run import make_model
from recae.models.registry import register, registered
from recae.training.checkpoint import CheckpointStore
from recae.training.config import planned_epochs, steps_per_epoch

_STEPS = 2  # an epoch
_JUDGED = 1024  # validation users, at most: as many as are ever ranked at once
# What is there before torch is loaded is read first; `-P` keeps a folder called recae out.
_COMMAND = (
    "from recae import machine; before = machine.resident_bytes();"
    "from recae.experiment import rehearsal; rehearsal.main(before)"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a training takes, from steps that were run.

    Attributes
    ----------
    peak_bytes
        Most main memory that this process will hold if it trains now (its resident set).
    baseline_bytes
        What it holds now: interpreter, libraries, the data.
    device_bytes
        Most memory of the device; 0 on the CPU.
    checkpoint_bytes
        Of a checkpoint on the disk.
    epochs, steps
        Planned; there are fewer where patience ends the training.
    step_s
        Seconds of a step.
    validation_s
        Seconds of judging all validation users once.
    checkpoint_s
        Seconds of writing a checkpoint.
    """

    peak_bytes: int
    baseline_bytes: int
    device_bytes: int
    checkpoint_bytes: int
    epochs: int
    steps: int
    step_s: float
    validation_s: float
    checkpoint_s: float

    @property
    def total_s(self) -> float:
        """Seconds of all epochs."""
        return self._training_s + self.checkpoints * self.checkpoint_s

    @property
    def checkpoints(self) -> int:
        """Of those that are written by time, about."""
        return min(self.epochs, int(self._training_s // CheckpointStore.pause(self.checkpoint_s)))

    @property
    def _training_s(self) -> float:
        return self.steps * self.step_s + self.epochs * self.validation_s

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {**asdict(self), "checkpoints": self.checkpoints, "total_s": self.total_s}

    def __str__(self) -> str:
        device = f", {size(self.device_bytes)} on the device" if self.device_bytes else ""
        written = "no checkpoint is written unless it is stopped"
        if self.checkpoints:
            written = f"{self.checkpoints} checkpoints, {self.checkpoint_s:.2f} s each"
        return (
            f"measured: {size(self.peak_bytes)} of memory{device}, checkpoints of"
            f" {size(self.checkpoint_bytes)}\n"
            f"time at most {_duration(self.total_s)}: {self.epochs} epochs, {self.steps} steps of"
            f" {1000 * self.step_s:.1f} ms; after each epoch {self.validation_s:.2f} s of judging;"
            f" {written}"
        )


def rehearse(split: Split, config: RunConfig) -> Rehearsal | None:
    """Train a few steps in a process of its own; nothing is kept.

    What this process holds is measured, so call it where the training would start: after reading
    and splitting.

    Returns
    -------
    None for models that are not trained in steps.

    Raises
    ------
    ResourceError
        If the system ended the process, as it does where memory is short.
    RecaeError
        What the training itself would raise.
    """
    model = make_model(config.model, config)
    if not model.trained_in_steps:
        return None
    with tempfile.TemporaryDirectory(prefix="recae-") as name:
        _write(Path(name), split, config)
        command = [sys.executable, "-P", "-c", _COMMAND, name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)  # noqa: S603  # ourselves
        if done.returncode < 0:
            raise ResourceError(
                f"a few steps of {config.model} were ended by the system (signal"
                f" {-done.returncode}), as it does where memory is short; use a smaller batch,"
                " --min-item, or a larger machine"
            )
        if done.returncode:
            raise RuntimeError(f"a few steps of {config.model} ended with {done.returncode}")
        found = json.loads(done.stdout.splitlines()[-1])
    if "error" in found:
        kind, message = found["error"]
        raise getattr(errors, kind)(message)
    baseline = machine.memory().resident_bytes
    libraries = 0 if "torch" in sys.modules else int(found["libraries_bytes"])
    n_validation = 0 if split.validation is None else len(split.validation)
    n_users = int((np.diff(split.train.matrix.indptr) > 0).sum())
    epochs = planned_epochs(model.config, n_users)
    return Rehearsal(
        peak_bytes=max(machine.peak_resident_bytes(), baseline + libraries + found["added_bytes"]),
        baseline_bytes=baseline,
        device_bytes=found["device_bytes"],
        checkpoint_bytes=found["checkpoint_bytes"],
        epochs=epochs,
        steps=epochs * found["passes"] * steps_per_epoch(model.config, n_users),
        step_s=found["step_s"],
        validation_s=found["prepare_s"] + n_validation * found["judge_s_a_user"],
        checkpoint_s=found["checkpoint_s"],
    )


def refuse_what_does_not_fit(found: Rehearsal, about: Needs) -> None:
    """Refuse a training whose measured memory is not there.

    Raises
    ------
    ResourceError
        If more would be added than is free.
    """
    added = found.peak_bytes - found.baseline_bytes
    if about.available_bytes is not None and added > about.available_bytes:
        raise ResourceError(
            f"{about.model} needs {size(added)} more of memory and {size(about.available_bytes)}"
            " are free; use a smaller batch, --min-item, or a larger machine"
        )


def main(before_bytes: int) -> None:
    """Run the rehearsal of the folder that the command line names, and print what it took."""
    import torch

    folder = Path(sys.argv[1])
    about = json.loads((folder / "run.json").read_text())
    if about["threads"] is not None:
        torch.set_num_threads(about["threads"])
    try:
        found: dict[str, object] = _measured(folder, about, before_bytes)
    except RecaeError as error:
        found = {"error": [type(error).__name__, str(error)]}
    sys.stdout.write(json.dumps(found) + "\n")


def _measured(folder: Path, about: Mapping[str, Any], before_bytes: int) -> dict[str, object]:
    import torch

    from recae.evaluation.evaluator import evaluate

    sys.path[:] = about["path"]
    for place in about["models"]:
        module, _, kind = place.partition(":")
        register(getattr(importlib.import_module(module), kind))
    config = RunConfig(**about["config"])
    model: Any = make_model(config.model, config)
    libraries_bytes = machine.resident_bytes() - before_bytes
    train = _interactions(_read(folder, "train"))
    validation = None
    if (folder / "target.npz").exists():
        fold_in, target = _read(folder, "fold_in"), _read(folder, "target")
        users = IdMap(str(user) for user in range(fold_in.shape[0]))
        validation = HeldOut(fold_in=Histories(fold_in), target=target, users=users)
    n_users = int((np.diff(train.matrix.indptr) > 0).sum())
    planned = steps_per_epoch(model.config, n_users)
    model = type(model)(replace(model.config, epochs=2, patience=None))
    start = machine.resident_bytes()
    machine.forget_peak()
    CheckpointStore.pause_s = CheckpointStore.spacing = 0.0  # here: one after each epoch
    ends: list[float] = []
    model.fit(
        train,
        validation=validation,
        checkpoint=folder / "run",
        keep_checkpoint=True,
        progress=False,
        on_epoch=lambda _: ends.append(time.monotonic()),
        steps_per_epoch=_STEPS,
    )
    peak = machine.peak_resident_bytes()
    first, last = model.training_log
    passes = (last.steps - first.steps) // planned
    judge_s = 0.0
    if validation is not None:
        started = time.monotonic()
        evaluate(model, validation, metrics=(model.config.validation_metric,))
        judge_s = min(last.validation_s, time.monotonic() - started)
    return {
        "libraries_bytes": libraries_bytes,
        "added_bytes": max(0, peak - start),
        "device_bytes": torch.cuda.max_memory_allocated() if model.accelerated else 0,
        "checkpoint_bytes": max(f.stat().st_size for f in folder.glob("run/step-*.safetensors")),
        "passes": passes,
        "step_s": (last.seconds - last.validation_s) / (passes * min(_STEPS, planned)),
        "prepare_s": last.validation_s - judge_s,
        "judge_s_a_user": 0.0 if validation is None else judge_s / len(validation),
        "checkpoint_s": max(0.0, ends[1] - ends[0] - last.seconds),
    }


def _write(folder: Path, split: Split, config: RunConfig) -> None:
    _write_matrix(folder, "train", split.train.matrix)
    if split.validation is not None:
        judged = split.validation.take(np.arange(min(_JUDGED, len(split.validation))))
        _write_matrix(folder, "fold_in", judged.fold_in.matrix)
        _write_matrix(folder, "target", judged.target)
    torch: Any = sys.modules.get("torch")  # where it is not loaded, nobody gave it threads
    threads = None if torch is None else torch.get_num_threads()
    about = {
        "config": config.to_json(),
        "threads": threads,
        "models": registered(),
        "path": sys.path,
    }
    (folder / "run.json").write_text(json.dumps(about))


def _write_matrix(folder: Path, name: str, matrix: csr_array) -> None:
    np.savez(
        folder / f"{name}.npz",
        data=matrix.data,
        indices=matrix.indices,
        indptr=matrix.indptr,
        shape=np.array(matrix.shape),
    )


def _read(folder: Path, name: str) -> csr_array:
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        parts = (arrays["data"], arrays["indices"], arrays["indptr"])
        matrix = csr_array(parts, shape=tuple(arrays["shape"]))
    matrix.has_canonical_format = True
    return matrix


def _interactions(matrix: csr_array) -> Interactions:
    users, items = (IdMap(map(str, range(n))) for n in matrix.shape)
    return Interactions(matrix, users, items, order=np.arange(matrix.nnz))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
