"""`Trainer`: epochs of passes over device-resident rows, best weights kept, exact resume.

A network says what each pass of an epoch updates (`recae.networks.network.Pass`); by default one
pass updates all weights by Adam. A step gathers the rows of its users, in slices where the batch's
scores would take much memory, adds up the gradients of the slices, and updates once. Nothing waits
for the device inside a pass: losses are added up there, and looked at every `_CHECKED_STEPS` steps.

Checkpoints are written after epochs, by time (`CheckpointStore.pause`). A training that is stopped
writes one between two updates; one that comes to its end leaves none.
"""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from recae.data.histories import Histories
from recae.errors import DataError, DivergedError, RecaeError
from recae.machine import multiplies_bfloat16
from recae.networks.batch import Batch
from recae.networks.network import Network, Optimiser, Pass
from recae.training.checkpoint import Checkpoint, CheckpointStore
from recae.training.config import (
    TrainingConfig,
    planned_batch_size,
    planned_epochs,
    planned_slices,
    steps_per_epoch,
)
from recae.training.device import autocast, resolve_device, resolve_precision
from recae.training.heap import steady_heap
from recae.training.rows import STEP, DeviceRows, stream

logger = logging.getLogger("recae.training")
_CHECKED_STEPS = 100
_OPTIMISERS: dict[Optimiser, dict[str, Any]] = {
    "adam": {"betas": (0.9, 0.999), "eps": 1e-8, "fused": True},
    "nadam": {"betas": (0.9, 0.999), "eps": 1e-8},
    "sgd": {},
}


@final
@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One line of the training log.

    Attributes
    ----------
    epoch
        Counted from 1.
    steps
        Updates so far, through all passes.
    loss
        Mean over the epoch's users and passes.
    parts
        The same for each other part of the loss, by its name.
    validation
        Validation score after the epoch, or None.
    best
        Whether it is the best so far.
    seconds
        Wall time of the epoch, validation included.
    validation_s
        Wall time of the validation.
    """

    epoch: int
    steps: int
    loss: float
    parts: dict[str, float]
    validation: float | None
    best: bool
    seconds: float
    validation_s: float = 0.0


@final
class Trainer:
    """Trains a network on rows.

    Parameters
    ----------
    config
        How long, how fast, where.
    directory
        Where checkpoints and ``training.json`` go; None keeps nothing.
    identity
        What a checkpoint must agree with to be resumed: config, data fingerprint, ...; the number
        of threads, the device and the precision are added.
    """

    def __init__(
        self,
        config: TrainingConfig,
        *,
        directory: Path | None = None,
        identity: dict[str, object] | None = None,
    ) -> None:
        self._config = config
        self._store = None if directory is None else CheckpointStore(directory)
        self._identity = {**(identity or {}), "threads": torch.get_num_threads()}

    def fit(
        self,
        network: Network,
        histories: Histories,
        *,
        ordered: bool = False,
        validate: Callable[[], float] | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
        resume: bool = False,
        keep: bool = False,
        steps_per_epoch: int | None = None,
    ) -> tuple[EpochRecord, ...]:
        """Train `network` in place and leave it with the best weights seen.

        With a directory, a signal that Python handles (SIGINT does) is answered between two
        updates, after a checkpoint was written; a second one is answered at once.

        Parameters
        ----------
        network
            Already on its device.
        histories
            Of the training users; empty ones are skipped.
        ordered
            Whether batches keep the time order inside a history.
        validate
            Score of the network as it is now, higher is better; called after every epoch.
            Without it the last weights are kept.
        on_epoch
            Told the record of every epoch; what it raises ends the training.
        resume
            Go on from the last good checkpoint of the directory where there is one of this data.
        keep
            Leave the checkpoints there at the end, for who has yet to store the result.
        steps_per_epoch
            Steps after which an epoch ends; None is when all users were seen.

        Returns
        -------
        The log, a record an epoch.

        Raises
        ------
        DataError
            If no row has an interaction.
        DivergedError
            If a loss is not finite; names epoch, step and rate.
        BusyError, ConfigError, ResourceError
            See `CheckpointStore`.
        """
        filled = np.flatnonzero(np.diff(histories.matrix.indptr))
        if not len(filled):
            raise DataError("no training user has an interaction")
        device = resolve_device(self._config.device)
        rows = DeviceRows(histories.take(filled), device, ordered=ordered)
        run = _Run(self._config, network, rows, device, steps_per_epoch)
        if self._store is None:
            return run.to_the_end(validate, None, on_epoch)
        identity = {**self._identity, **run.identity()}
        with self._store.locked():
            if resume:
                found = self._store.newest(identity)
                if found is not None:
                    run.restore(found)
            self._store.clear(pieces_only=run.step > 0)
            save = partial(self._save, self._store, run, identity)
            log = run.to_the_end(validate, save, on_epoch)
            self._store.write_log([asdict(record) for record in log], identity)
            if not keep:
                self._store.clear()
            return log

    @staticmethod
    def _save(store: CheckpointStore, run: "_Run", identity: dict[str, object]) -> None:
        store.write(run.checkpoint(identity))


@final
class _Run:
    """State of one training: everything that a checkpoint holds."""

    def __init__(
        self,
        config: TrainingConfig,
        network: Network,
        rows: DeviceRows,
        device: torch.device,
        limit: int | None,
    ) -> None:
        self.config = config
        self.network = network
        self.rows = rows
        self.device = device
        self.limit = limit  # steps after which a pass ends
        self.precision = resolve_precision(config.precision, device)
        if self.precision == "bfloat16" and device.type == "cpu" and not multiplies_bfloat16():
            logger.warning("this processor emulates bfloat16: float32 is faster")
        self.batch_size = planned_batch_size(config, rows.n_users)
        self.steps_per_pass = steps_per_epoch(config, rows.n_users)
        self.n_epochs = planned_epochs(config, rows.n_users)
        self.stoppable = False  # whether a signal waits for the end of an update
        self.n_slices = 1
        if network.sliceable:
            self.n_slices = planned_slices(self.batch_size, rows.n_items)
        self.parameters = dict(network.named_parameters())
        self.state = self.parameters | dict(network.named_buffers())
        self.optimisers: dict[Optimiser, torch.optim.Optimizer] = {}
        loss: Any = network.loss
        self.loss = torch.compile(loss, dynamic=True) if config.compile else loss
        self.average = _copies(self.parameters) if config.ema_decay is not None else None
        self.best: dict[str, Tensor] | None = None
        self.best_score = -math.inf
        self.aside: dict[str, Tensor] = {}  # the weights while the average is in their place
        self.log: list[EpochRecord] = []
        self.step = 0  # updates done
        self.whole = True  # no update is half done
        self.sums = _Sums()  # of the epoch so far

    def identity(self) -> dict[str, object]:
        """What "auto" stands for on this machine; each draws or rounds in its own way."""
        return {"device": self.device.type, "precision": self.precision}

    def to_the_end(
        self,
        validate: Callable[[], float] | None,
        save: Callable[[], None] | None,
        on_epoch: Callable[[EpochRecord], None] | None,
    ) -> tuple[EpochRecord, ...]:
        self.stoppable = save is not None
        try:
            with steady_heap():
                self._epochs(validate, save, on_epoch)
        except BaseException as error:
            if save is not None and self.step and self.whole and not isinstance(error, RecaeError):
                save()
            raise
        final = self.best if self.best is not None else self.average
        if final is not None:
            _assign(self.state, final)
        return tuple(self.log)

    def _epochs(
        self,
        validate: Callable[[], float] | None,
        save: Callable[[], None] | None,
        on_epoch: Callable[[EpochRecord], None] | None,
    ) -> None:
        due = time.monotonic() + CheckpointStore.pause()
        while len(self.log) < self.n_epochs and not self._out_of_patience():
            self._epoch(validate)
            if save is not None and time.monotonic() >= due:
                started = time.monotonic()
                save()
                ended = time.monotonic()
                due = ended + CheckpointStore.pause(ended - started)
            logger.info("epoch", extra={"record": self.log[-1], "n_epochs": self.n_epochs})
            if on_epoch is not None:
                on_epoch(self.log[-1])

    def _out_of_patience(self) -> bool:
        if self.config.patience is None or self.best is None:
            return False
        best_epoch = max(record.epoch for record in self.log if record.best)
        return len(self.log) - best_epoch >= self.config.patience

    def _epoch(self, validate: Callable[[], float] | None) -> None:
        started = time.monotonic()
        epoch = len(self.log)
        first = self.log[-1].steps if self.log else 0
        if self.step == first:
            self.sums = _Sums()
        self.network.train()
        for each in self.network.passes(epoch):
            if self.step < first + self.steps_per_pass:  # else done before it was stopped
                with _between_updates() if self.stoppable else nullcontext() as stop:
                    self._pass(each, first, stop)
            first += self.steps_per_pass
        self.network.eval()
        for parameter in self.parameters.values():
            parameter.grad = None  # judging needs the memory of the gradients
        score = None
        best = False
        judging = time.monotonic()
        if validate is not None:
            with self._averaged():
                score = validate()
                best = score > self.best_score
                if best:
                    self.best_score = score
                    self._keep_best()
        ended = time.monotonic()
        parts = self.sums.means()
        self.log.append(
            EpochRecord(
                epoch=epoch + 1,
                steps=self.step,
                loss=parts.pop("loss"),
                parts=parts,
                validation=score,
                best=best,
                seconds=ended - started,
                validation_s=ended - judging,
            )
        )

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The average in place of the weights inside, where there is one."""
        if self.average is None:
            yield
            return
        self.aside = _copies(self.parameters)
        try:
            _assign(self.parameters, self.average)
            yield
        finally:
            _assign(self.parameters, self.aside)
            self.aside = {}

    def _keep_best(self) -> None:
        """Copy the state, over the best one so far where there is any."""
        if self.best is None:
            self.best = _copies(self.state)
        else:
            _assign(self.best, self.state)

    def _pass(self, each: Pass, first: int, stop: "_Stop | None") -> None:
        """The users that are left of a pass whose first update has the number `first`."""
        if each.before is not None and self.step == first:
            each.before()
        optimiser = self._optimiser(each)
        first_bad = torch.full((), -1, device=self.device)
        batches = self.rows.epoch(
            self.config.rng,
            first // self.steps_per_pass,
            self.batch_size,
            self.n_slices,
            after=self.step - first,
        )
        for slices in islice(batches, self.limit):
            self.whole = False
            loss = self._step(optimiser, slices, self.step, each.options, self.sums)
            bad = ~torch.isfinite(loss) & (first_bad < 0)
            first_bad = torch.where(bad, self.step, first_bad)
            self.step += 1
            self.whole = True
            stopped = stop is not None and stop.number is not None
            if self.step % _CHECKED_STEPS == 0 or stopped:
                self._check_finite(first_bad)
            if stopped:
                return
        self._check_finite(first_bad)
        self.step = first + self.steps_per_pass
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)

    def _optimiser(self, each: Pass) -> torch.optim.Optimizer:
        """Optimiser of a pass, with its rates; parameters outside the pass get no gradient."""
        optimiser = self._optimiser_called(each.optimiser)
        usual = self.config.learning_rate if each.learning_rate is None else each.learning_rate
        rates: dict[nn.Parameter, float] = {}
        for given in each.parameters:
            group: Mapping[str, Any] = given if isinstance(given, Mapping) else {"params": [given]}
            for parameter in group["params"]:
                rates[parameter] = float(group.get("lr", usual))
        of_one: dict[str, Any]
        for of_one in optimiser.param_groups:  # a group a parameter
            (parameter,) = of_one["params"]
            parameter.grad = None
            parameter.requires_grad_(parameter in rates)
            of_one["lr"] = rates.get(parameter, usual)
        return optimiser

    def _optimiser_called(self, name: Optimiser) -> torch.optim.Optimizer:
        if name not in self.optimisers:
            kinds: dict[Optimiser, Any] = {
                "adam": torch.optim.Adam,
                "nadam": torch.optim.NAdam,
                "sgd": torch.optim.SGD,
            }
            groups = [{"params": [parameter]} for parameter in self.parameters.values()]
            options = _OPTIMISERS[name]
            self.optimisers[name] = kinds[name](groups, lr=self.config.learning_rate, **options)
        return self.optimisers[name]

    def _check_finite(self, first_bad: Tensor) -> None:
        """Refuse to go on if a step has lost a number that is not finite; waits for the device."""
        step = int(first_bad)
        if step >= 0:
            raise DivergedError(
                f"the loss is not finite at epoch {len(self.log) + 1}, step {step},"
                f" learning rate {self.config.learning_rate:g}; lower the rate"
            )

    def _step(
        self,
        optimiser: torch.optim.Optimizer,
        slices: list[Batch],
        step: int,
        options: Mapping[str, Any],
        sums: "_Sums",
    ) -> Float64[Tensor, ""]:
        """One update; returns the loss of the batch."""
        n_users = sum(len(x) for x in slices)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        optimiser.zero_grad(set_to_none=True)
        for x in slices:
            rng = torch.Generator(self.device).manual_seed(stream(self.config.rng, STEP, step))
            with autocast(self.precision, self.device):
                parts = self.loss(x, step=step, rng=rng, **options)
            (parts["loss"] * (len(x) / n_users)).backward()
            sums.add(parts, len(x))
            total += parts["loss"].detach() * (len(x) / n_users)
        optimiser.step()
        if self.average is not None:
            assert self.config.ema_decay is not None
            decay = min(self.config.ema_decay, (step + 1) / (step + 10))  # short memory at first
            with torch.no_grad():
                for name, value in self.parameters.items():
                    self.average[name].lerp_(value, 1.0 - decay)
        return total

    def _optimiser_state(self) -> dict[str, Tensor]:
        """What the optimisers know, as ``optimiser/key/parameter``."""
        return {
            f"{kind}/{key}/{name}": value
            for kind, optimiser in self.optimisers.items()
            for name, parameter in self.parameters.items()
            for key, value in optimiser.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def _restore_optimiser(self, name: Optimiser, stored: Mapping[str, Tensor]) -> None:
        """Take over what a checkpoint holds of the optimiser `name`, as ``key/parameter``."""
        optimiser = self._optimiser_called(name)
        places = {parameter: index for index, parameter in enumerate(self.parameters)}
        state: dict[int, dict[str, Tensor]] = {}
        for at in stored:
            key, _, parameter = at.partition("/")
            state.setdefault(places[parameter], {})[key] = stored[at]
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})

    def checkpoint(self, identity: dict[str, object]) -> Checkpoint:
        """Everything needed to go on from here."""
        weights = self.state | self.aside
        tensors = {f"weights/{name}": value.detach() for name, value in weights.items()}
        tensors |= self._optimiser_state() | self.sums.state()
        for kind, values in (("average", self.average), ("best", self.best)):
            tensors |= {f"{kind}/{name}": value for name, value in (values or {}).items()}
        return Checkpoint(
            step=self.step,
            tensors={name: t.cpu().numpy() for name, t in tensors.items()},
            log=[asdict(record) for record in self.log],
            identity=identity,
        )

    def restore(self, found: Checkpoint) -> None:
        """Continue from `found`."""
        weights, average, best = (
            _Stored(found.tensors, kind, self.device) for kind in ("weights", "average", "best")
        )
        _assign(self.state, weights)
        for name in _OPTIMISERS:
            stored = _Stored(found.tensors, name, self.device)
            if len(stored):
                self._restore_optimiser(name, stored)
        self.average = dict(average) or self.average
        self.best = dict(best) or None
        self.log = [EpochRecord(**record) for record in found.log]
        self.step = found.step
        self.sums = _Sums(_Stored(found.tensors, "sums", self.device))
        scores = [record.validation for record in self.log if record.validation is not None]
        self.best_score = max(scores, default=-math.inf)
        logger.info("resumed", extra={"epoch": len(self.log)})


@final
class _Stored(Mapping[str, Tensor]):
    """Tensors of a checkpoint whose names begin with `kind`, brought to `device` when asked for.

    A state is as large as all else in training, so no second one is held while it is taken over.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], kind: str, device: torch.device) -> None:
        self._tensors, self._kind, self._device = tensors, kind + "/", device

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self._tensors[self._kind + name]).to(self._device)

    def __iter__(self) -> Iterator[str]:
        n = len(self._kind)
        return (name[n:] for name in self._tensors if name.startswith(self._kind))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@final
class _Sums:
    """Parts of the loss, added up over users where they are: on the device."""

    def __init__(self, stored: Mapping[str, Tensor] | None = None) -> None:
        self._sums: dict[str, Tensor] = dict(stored or {})  # sum and users, shape (2,)

    def add(self, parts: Mapping[str, Tensor], n_users: int) -> None:
        """Add means over `n_users`."""
        for name, value in parts.items():
            of_all = value.detach().to(torch.float64) * n_users
            each = torch.stack([of_all, torch.full_like(of_all, n_users)])
            self._sums[name] = self._sums[name] + each if name in self._sums else each

    def means(self) -> dict[str, float]:
        """Mean of each part; waits for the device."""
        return {name: float(total / n) for name, (total, n) in self._sums.items()}

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        return {f"sums/{name}": value for name, value in self._sums.items()}


def _copies(
    parameters: Mapping[str, nn.Parameter] | Mapping[str, Tensor],
) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}


@torch.no_grad()
def _assign(
    parameters: Mapping[str, nn.Parameter] | Mapping[str, Tensor], values: Mapping[str, Tensor]
) -> None:
    for name in values:
        parameters[name].copy_(values[name])


@final
class _Stop:
    """A signal that waits to be answered."""

    number: int | None = None


@contextmanager
def _between_updates() -> Iterator[_Stop]:
    """Let SIGINT and SIGTERM wait for the end of an update, and answer them at the end.

    A signal without a handler of Python, and a second one, is answered at once.
    """
    stop = _Stop()
    handlers: dict[int, Any] = {}

    def wait(number: int, frame: Any) -> None:
        if stop.number is not None:
            handlers[number](number, frame)
        stop.number = number

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                handlers[number] = signal.signal(number, wait)
    try:
        yield stop
    finally:
        for caught, handler in handlers.items():
            signal.signal(caught, handler)
    if stop.number is not None:
        signal.raise_signal(stop.number)
