"""`Trainer`: epochs of passes over device-resident rows, best weights kept, exact resume.

A network says what each pass of an epoch updates (`recae.networks.network.Pass`); by default one
pass updates all weights by Adam. A step gathers the rows of its users, in slices where the batch's
scores would take much memory, adds up the gradients of the slices, and updates once. Nothing waits
for the device inside a pass: losses are added up there, and looked at every `_CHECKED_STEPS` steps.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from recae.data.histories import Histories
from recae.errors import DataError, DivergedError
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
        Where checkpoints and ``training.jsonl`` go; None keeps nothing.
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
        steps_per_epoch: int | None = None,
    ) -> tuple[EpochRecord, ...]:
        """Train `network` in place and leave it with the best weights seen.

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
            Go on from the last good checkpoint of the directory where there is one.
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
                else:
                    logger.warning("there is no checkpoint; training starts anew")
            else:
                self._store.clear()
            return run.to_the_end(
                validate,
                lambda: self._store.write(run.checkpoint(identity)),  # type: ignore[union-attr]  # checked above
                on_epoch,
            )


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
        self.log: list[EpochRecord] = []

    def identity(self) -> dict[str, object]:
        """What "auto" stands for on this machine; each draws or rounds in its own way."""
        return {"device": self.device.type, "precision": self.precision}

    def to_the_end(
        self,
        validate: Callable[[], float] | None,
        save: Callable[[], None] | None,
        on_epoch: Callable[[EpochRecord], None] | None,
    ) -> tuple[EpochRecord, ...]:
        while len(self.log) < self.n_epochs and not self._out_of_patience():
            with steady_heap():
                self._epoch(validate)
            if save is not None:
                save()
            logger.info("epoch", extra={"record": self.log[-1], "n_epochs": self.n_epochs})
            if on_epoch is not None:
                on_epoch(self.log[-1])
        final = self.best if self.best is not None else self.average
        if final is not None:
            _assign(self.state, final)
        return tuple(self.log)

    def _out_of_patience(self) -> bool:
        if self.config.patience is None or self.best is None:
            return False
        best_epoch = max(record.epoch for record in self.log if record.best)
        return len(self.log) - best_epoch >= self.config.patience

    def _epoch(self, validate: Callable[[], float] | None) -> None:
        started = time.monotonic()
        epoch = len(self.log)
        step = self.log[-1].steps if self.log else 0
        sums = _Sums()
        self.network.train()
        for each in self.network.passes(epoch):
            self._pass(each, step, sums)
            step += self.steps_per_pass
        self.network.eval()
        for parameter in self.parameters.values():
            parameter.grad = None  # judging needs the memory of the gradients
        score = None
        best = False
        judging = time.monotonic()
        if validate is not None:
            with _Averaged(self.parameters, self.average):
                score = validate()
                best = score > self.best_score
                if best:
                    self.best_score = score
                    self._keep_best()
        ended = time.monotonic()
        parts = sums.means()
        self.log.append(
            EpochRecord(
                epoch=epoch + 1,
                steps=step,
                loss=parts.pop("loss"),
                parts=parts,
                validation=score,
                best=best,
                seconds=ended - started,
                validation_s=ended - judging,
            )
        )

    def _keep_best(self) -> None:
        """Copy the state, over the best one so far where there is any."""
        if self.best is None:
            self.best = _copies(self.state)
        else:
            _assign(self.best, self.state)

    def _pass(self, each: Pass, step: int, sums: "_Sums") -> None:
        """All users once; `step` is the first update's number."""
        if each.before is not None:
            each.before()
        optimiser = self._optimiser(each)
        first_bad = torch.full((), -1, device=self.device)
        number = step // self.steps_per_pass
        batches = self.rows.epoch(self.config.rng, number, self.batch_size, self.n_slices)
        for slices in islice(batches, self.limit):
            loss = self._step(optimiser, slices, step, each.options, sums)
            bad = ~torch.isfinite(loss) & (first_bad < 0)
            first_bad = torch.where(bad, step, first_bad)
            step += 1
            if step % _CHECKED_STEPS == 0:
                self._check_finite(first_bad)
        self._check_finite(first_bad)
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
        tensors = {f"weights/{name}": p.detach() for name, p in self.state.items()}
        tensors |= self._optimiser_state()
        for kind, values in (("average", self.average), ("best", self.best)):
            tensors |= {f"{kind}/{name}": value for name, value in (values or {}).items()}
        return Checkpoint(
            epoch=len(self.log),
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
        scores = [record.validation for record in self.log if record.validation is not None]
        self.best_score = max(scores, default=-math.inf)
        logger.info("resumed", extra={"epoch": found.epoch})


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

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._users: dict[str, int] = {}

    def add(self, parts: Mapping[str, Tensor], n_users: int) -> None:
        """Add means over `n_users`."""
        for name, value in parts.items():
            each = value.detach().to(torch.float64) * n_users
            self._sums[name] = self._sums[name] + each if name in self._sums else each
            self._users[name] = self._users.get(name, 0) + n_users

    def means(self) -> dict[str, float]:
        """Mean of each part; waits for the device."""
        return {name: value.item() / self._users[name] for name, value in self._sums.items()}


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
class _Averaged:
    """The average in place of the weights inside; the weights back afterwards."""

    def __init__(
        self, parameters: dict[str, nn.Parameter], average: dict[str, Tensor] | None
    ) -> None:
        self._parameters, self._average = parameters, average
        self._weights: dict[str, Tensor] = {}

    def __enter__(self) -> "_Averaged":
        if self._average is not None:
            self._weights = _copies(self._parameters)
            _assign(self._parameters, self._average)
        return self

    def __exit__(self, *_: object) -> None:
        if self._average is not None:
            _assign(self._parameters, self._weights)
