"""What a training will take, before it starts: memory, disk and, from real steps, time."""

import hashlib
import importlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from recae import machine
from recae.data.split import Split
from recae.errors import ResourceError
from recae.evaluation import evaluate
from recae.experiment.config import RunConfig
from recae.experiment.needs import Needs, Term, TrainingShape, needs, peak_bytes
from recae.experiment.run import make_model
from recae.models.autoencoder import Autoencoder
from recae.models.tower import ExactTower
from recae.training.config import planned_batch_size, planned_epochs, steps_per_epoch
from recae.training.device import resolve_device

_TIMED_STEPS = 4
_TIMED_USERS = 512


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a training will take.

    Attributes
    ----------
    model
        Its name.
    shape
        What it is trained on.
    needs
        Terms of what comes on top of what this process holds now.
    baseline_bytes
        What this process holds now, measured: interpreter, libraries, the data.
    earlier_peak_bytes
        The most it held so far, measured: reading can be the peak.
    available_bytes, device_available_bytes, disk_available_bytes
        What is free now; None where that is not known or there is no such place.
    """

    model: str
    shape: TrainingShape
    needs: Needs
    baseline_bytes: int
    earlier_peak_bytes: int
    available_bytes: int | None
    device_available_bytes: int | None
    disk_available_bytes: int | None

    @property
    def memory_bytes(self) -> int:
        """Peak of main memory that this process will hold (its resident set)."""
        return max(self.earlier_peak_bytes, self.baseline_bytes + peak_bytes(self.needs.memory))

    @property
    def device_bytes(self) -> int:
        """Peak of the device's memory; 0 on the CPU."""
        return peak_bytes(self.needs.device)

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "model": self.model,
            "shape": asdict(self.shape),
            "parameters": self.needs.parameters,
            "complete": self.needs.complete,
            "memory": {
                "peak_bytes": self.memory_bytes,
                "baseline_bytes": self.baseline_bytes,
                "earlier_peak_bytes": self.earlier_peak_bytes,
                "available_bytes": self.available_bytes,
                "terms": [asdict(term) for term in self.needs.memory],
            },
            "device": {
                "peak_bytes": self.device_bytes,
                "available_bytes": self.device_available_bytes,
                "terms": [asdict(term) for term in self.needs.device],
            },
            "disk": {
                "bytes": self.needs.disk_bytes,
                "available_bytes": self.disk_available_bytes,
            },
        }

    def line(self) -> str:
        """Say it in one line."""
        parts = [f"{_mb(self.memory_bytes)} of memory{_free(self.available_bytes)}"]
        if self.needs.device:
            free = _free(self.device_available_bytes)
            parts.append(f"{_mb(self.device_bytes)} on the device{free}")
        parts.append(f"{_mb(self.needs.disk_bytes)} of disk{_free(self.disk_available_bytes)}")
        if not self.needs.complete:
            parts.append(f"what {self.model} itself takes is not known beforehand")
        return f"needs about {', '.join(parts)}"

    def table(self) -> str:
        """Say it term by term."""
        shape, n = self.shape, self.needs.parameters
        lines = [
            f"{self.model} on {shape.n_users} users x {shape.n_items} items,"
            f" {shape.n_interactions} interactions; {shape.n_validation} validation users",
            f"parameters {'not known beforehand' if n is None else f'{n:,}'}",
            self.line(),
        ]
        measured = Term("this process now", self.baseline_bytes, "measured: libraries and data")
        for where, terms in (
            ("memory", (measured, *self.needs.memory)),
            ("device", self.needs.device),
        ):
            lines += [
                f"  {where} {_mb(t.n_bytes):>10}  {t.name}: {t.why}"
                + ("" if t.phase == "always" else f" (in the phase {t.phase})")
                for t in terms
            ]
        return "\n".join(lines)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Time that a training will take, in seconds, from steps and lists that were timed.

    Attributes
    ----------
    epochs, steps
        Planned; there are fewer where patience ends the training.
    step_s
        A training step.
    validation_s
        Judging the validation users once.
    between_s
        Once an epoch: weights made ready for ranking, a checkpoint hashed. The speed of the disk
        is not known.
    """

    epochs: int
    steps: int
    step_s: float
    validation_s: float
    between_s: float

    @property
    def total_s(self) -> float:
        """All epochs."""
        return self.steps * self.step_s + self.epochs * (self.validation_s + self.between_s)

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {**asdict(self), "total_s": self.total_s}

    def __str__(self) -> str:
        return (
            f"time at most {_duration(self.total_s)}: {self.epochs} epochs, {self.steps} steps of"
            f" {1000 * self.step_s:.1f} ms, an epoch {self.validation_s:.2f} s of validation and"
            f" {self.between_s:.2f} s of keeping weights"
        )


def estimate(split: Split, config: RunConfig, *, directory: Path | None = None) -> Estimate:
    """Estimate the memory and disk that training the model of `config` will take.

    Takes no time worth mentioning. What this process holds is measured, so call it where the
    training would start: after reading and splitting.

    Raises
    ------
    ResourceError
        If the device of the model is not there.
    """
    model = make_model(config.model, config)
    if isinstance(model, Autoencoder):
        _load_what_training_loads()
    device = None
    if isinstance(model, Autoencoder):
        device = resolve_device(model.config.device)
    now = machine.memory()
    shape = _shape(split)
    return Estimate(
        model=config.model,
        shape=shape,
        needs=needs(model.config, shape),
        baseline_bytes=now.resident_bytes,
        earlier_peak_bytes=machine.peak_resident_bytes(),
        available_bytes=now.available_bytes,
        device_available_bytes=(
            torch.cuda.mem_get_info(device)[0]
            if device is not None and device.type == "cuda"
            else None
        ),
        disk_available_bytes=None if directory is None else machine.free_disk_bytes(directory),
    )


def refuse_what_does_not_fit(found: Estimate, split: Split, config: RunConfig) -> None:
    """Refuse a training that cannot fit.

    Raises
    ------
    ResourceError
        If memory, device or disk are too small; the message names an option that would make it
        fit, where one does.
    """
    lacking = _lacking(found, found.needs)
    if lacking is None:
        return
    option = next((o for o, tried in _smaller(split, config) if not _lacking(found, tried)), None)
    do = f"train with {option}" if option else "use a larger machine or less data"
    raise ResourceError(f"{found.model} {lacking}; {do}")


def time_steps(split: Split, config: RunConfig) -> Timing | None:
    """Time real steps on real rows, and the validation of some users; nothing is kept.

    Returns
    -------
    None for models that are not trained in steps.

    Raises
    ------
    DataError, DivergedError, ResourceError
        As the training would.
    """
    model = make_model(config.model, config)
    if not isinstance(model, Autoencoder):
        return None
    users = np.flatnonzero(np.diff(split.train.matrix.indptr))
    batch_size = planned_batch_size(model.config, len(users))
    drawn = np.random.default_rng(0).permutation(users)[: _TIMED_STEPS * batch_size]
    short = replace(model.config, epochs=3, batch_size=batch_size, patience=None)
    timed = type(model)(short)
    timed.fit(split.train.take_users(drawn))
    between_s = needs(model.config, _shape(split)).checkpoint_bytes * _seconds_a_hashed_byte()
    # Not the first epoch, which also pays for what is loaded and allocated once; nor, below, the
    # first judging.
    step_s = min(r.seconds for r in timed.training_log[1:]) / -(-len(drawn) // batch_size)
    validation_s = 0.0
    if split.validation is not None:
        started = time.monotonic()
        ExactTower(timed.network.tower())  # type: ignore[operator]  # networks have it
        between_s += time.monotonic() - started
        judged = replace(split.validation, apart_from=None)  # the model saw a part of those rows
        part = judged.take(np.arange(min(_TIMED_USERS, len(judged))))
        for _ in range(2):
            started = time.monotonic()
            evaluate(timed, part, metrics=(model.config.validation_metric,))
            judged_s = time.monotonic() - started
        validation_s = judged_s * len(split.validation) / len(part)
    epochs = planned_epochs(model.config, len(users))
    return Timing(
        epochs=epochs,
        steps=epochs * steps_per_epoch(model.config, len(users)),
        step_s=step_s,
        validation_s=validation_s,
        between_s=between_s,
    )


def _shape(split: Split) -> TrainingShape:
    lengths = np.diff(split.train.matrix.indptr)
    return TrainingShape(
        n_users=int((lengths > 0).sum()),
        n_items=split.train.n_items,
        n_interactions=int(lengths.sum()),
        n_validation=0 if split.validation is None else len(split.validation),
    )


def _load_what_training_loads() -> None:
    """Load the parts of torch that the first step would load, so that they are measured."""
    importlib.import_module("recae.training.optimiser")
    weight = torch.nn.Parameter(torch.ones(2, 2))
    adam = torch.optim.Adam([weight], fused=True)
    (weight @ weight).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    adam.step()


def _seconds_a_hashed_byte() -> float:
    data = bytes(1 << 24)
    started = time.perf_counter()
    hashlib.sha256(data).digest()
    return (time.perf_counter() - started) / len(data)


def _lacking(found: Estimate, needed: Needs) -> str | None:
    """What does not fit, or None."""
    for what, wanted, free in (
        ("of memory", peak_bytes(needed.memory), found.available_bytes),
        ("on the device", peak_bytes(needed.device), found.device_available_bytes),
        ("of disk", needed.disk_bytes, found.disk_available_bytes),
    ):
        if free is not None and wanted > free:
            return f"needs {_mb(wanted)} {what} and {_mb(free)} are free"
    return None


def _smaller(split: Split, config: RunConfig) -> Iterator[tuple[str, Needs]]:
    """Options that make a training smaller, mildest first, and what it would need with each."""
    settings: Any = make_model(config.model, config).config
    names = {field.name for field in fields(settings)}
    shape = _shape(split)
    table = f"--set {config.model}"
    if "batch_size" in names:
        if settings.path in ("plain", "gathered") and resolve_device(settings.device).type == "cpu":
            yield f"{table}.path=fast", needs(replace(settings, path="fast"), shape)
        size = planned_batch_size(settings, shape.n_users) // 2
        while size >= 25:
            yield f"{table}.batch_size={size}", needs(replace(settings, batch_size=size), shape)
            size //= 2
        if resolve_device(settings.device).type == "cuda":
            yield "--device cpu", needs(replace(settings, device="cpu"), shape)
    hidden = settings.widths(shape.n_items)[0] if "hidden" in names else ()
    for divisor in (2, 4) if hidden else ():
        widths = tuple(max(1, width // divisor) for width in hidden)
        text = f"{table}.hidden=[{','.join(map(str, widths))}]"
        yield text, needs(replace(settings, hidden=widths), shape)
    counts = np.bincount(split.train.matrix.indices, minlength=split.train.n_items)
    for least in (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000):
        kept = counts >= least
        fewer = replace(
            shape, n_items=max(1, int(kept.sum())), n_interactions=int(counts[kept].sum())
        )
        yield f"--min-item {least}", needs(settings, fewer)


def _mb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _free(n_bytes: int | None) -> str:
    return "" if n_bytes is None else f" ({_mb(n_bytes)} free)"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
