"""`Trainer`: epochs of Adam over device-resident rows, best weights kept, exact resume.

A step gathers the rows of its users, in slices where the batch's scores would take much memory,
adds up the gradients of the slices, and lets Adam update all weights at once. Nothing waits for
the device inside an epoch: losses are added up there, and looked at every `_CHECKED_STEPS` steps.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float64
from scipy.sparse import csr_array
from torch import Tensor, nn

from recae.errors import DataError, DivergedError
from recae.machine import multiplies_bfloat16
from recae.networks.batch import SparseBatch
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
_ADAM = ("exp_avg", "exp_avg_sq", "step")  # what Adam knows of a parameter


@runtime_checkable
class StepLoss(Protocol):
    """Loss of a step: `total` is minimised, the parts are reported, in nats a user."""

    total: Tensor
    nll: Tensor
    kl: Tensor


@runtime_checkable
class TrainableNetwork(Protocol):
    """A module that can say what a step loses."""

    def loss(self, x: SparseBatch, *, step: int, rng: torch.Generator) -> StepLoss:
        """Loss of update `step` (counted from 0), all draws from `rng`."""
        ...


@final
@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One line of the training log.

    Attributes
    ----------
    epoch
        Counted from 1.
    steps
        Updates so far.
    loss, nll, kl
        Means over the epoch's users, in nats.
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
    nll: float
    kl: float
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
        network: nn.Module,
        rows: csr_array,
        *,
        validate: Callable[[], float] | None = None,
        on_epoch: Callable[[EpochRecord], None] | None = None,
        resume: bool = False,
        steps_per_epoch: int | None = None,
    ) -> tuple[EpochRecord, ...]:
        """Train `network` in place and leave it with the best weights seen.

        Parameters
        ----------
        network
            A `TrainableNetwork`, already on its device.
        rows
            Training histories, ``(users, items)``, canonical; empty rows are skipped.
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
        assert isinstance(network, TrainableNetwork)
        rows = rows[rows.indptr[1:] > rows.indptr[:-1]]
        if rows.shape[0] == 0:
            raise DataError("no training user has an interaction")
        run = _Run(
            self._config, network, rows, resolve_device(self._config.device), steps_per_epoch
        )
        if self._store is None:
            return run.to_the_end(validate, None, on_epoch)
        identity = {**self._identity, **run.identity()}
        with self._store.locked():
            if resume:
                found = self._store.newest(identity)
                if found is not None:
                    run.restore(found)
                else:
                    logger.info("nothing to resume")
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
        network: nn.Module,
        rows: csr_array,
        device: torch.device,
        limit: int | None,
    ) -> None:
        n_users = int(rows.shape[0])
        self.config = config
        self.network = network
        self.n_users = n_users
        self.device = device
        self.precision = resolve_precision(config.precision, device)
        if self.precision == "bfloat16" and device.type == "cpu" and not multiplies_bfloat16():
            logger.warning("this processor emulates bfloat16: float32 is faster")
        self.batch_size = planned_batch_size(config, n_users)
        self.steps_per_epoch = steps_per_epoch(config, n_users)
        self.limit = limit  # steps after which an epoch ends
        self.n_epochs = planned_epochs(config, n_users)
        self.n_slices = planned_slices(self.batch_size, int(rows.shape[1]))
        self.rows = DeviceRows(rows, device)
        self.parameters = dict(network.named_parameters())
        self.adam = torch.optim.Adam(
            self.parameters.values(),
            lr=config.learning_rate,
            betas=(0.9, 0.999),
            eps=1e-8,
            fused=True,
        )
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
            _assign(self.parameters, final)
        return tuple(self.log)

    def _out_of_patience(self) -> bool:
        if self.config.patience is None or self.best is None:
            return False
        best_epoch = max(record.epoch for record in self.log if record.best)
        return len(self.log) - best_epoch >= self.config.patience

    def _epoch(self, validate: Callable[[], float] | None) -> None:
        started = time.monotonic()
        epoch = len(self.log)
        step = epoch * self.steps_per_epoch
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        first_bad = torch.full((), -1, device=self.device)
        n_seen = 0
        self.network.train()
        batches = self.rows.epoch(self.config.rng, epoch, self.batch_size, self.n_slices)
        for slices in islice(batches, self.limit):
            losses = self._step(slices, step)
            sums += losses
            n_seen += sum(map(len, slices))
            bad = ~torch.isfinite(losses[0]) & (first_bad < 0)
            first_bad = torch.where(bad, step, first_bad)
            step += 1
            if step % _CHECKED_STEPS == 0:
                self._check_finite(first_bad)
        self._check_finite(first_bad)
        self.network.eval()
        self.adam.zero_grad(set_to_none=True)  # judging needs the memory of the gradients
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
        loss, nll, kl = (sums / n_seen).tolist()
        ended = time.monotonic()
        self.log.append(
            EpochRecord(
                epoch + 1, step, loss, nll, kl, score, best, ended - started, ended - judging
            )
        )

    def _keep_best(self) -> None:
        """Copy the weights, over the best ones so far where there are any."""
        weights = self.average or self.parameters
        if self.best is None:
            self.best = _copies(weights)
        else:
            _assign(self.best, weights)

    def _check_finite(self, first_bad: Tensor) -> None:
        """Refuse to go on if a step has lost a number that is not finite; waits for the device."""
        step = int(first_bad)
        if step >= 0:
            raise DivergedError(
                f"the loss is not finite at epoch {step // self.steps_per_epoch + 1}, step {step},"
                f" learning rate {self.config.learning_rate:g}; lower the rate"
            )

    def _step(self, slices: list[SparseBatch], step: int) -> Float64[Tensor, "3"]:
        """One update; returns loss, nll and kl, each summed over the users of the batch."""
        n_users = sum(len(x) for x in slices)
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.adam.zero_grad(set_to_none=True)
        for x in slices:
            rng = torch.Generator(self.device).manual_seed(stream(self.config.rng, STEP, step))
            with autocast(self.precision, self.device):
                loss = self.loss(x, step=step, rng=rng)
            (loss.total * (len(x) / n_users)).backward()
            values = torch.stack([loss.total, loss.nll, loss.kl]).detach().to(torch.float64)
            sums += values * len(x)
        self.adam.step()
        if self.average is not None:
            assert self.config.ema_decay is not None
            decay = min(self.config.ema_decay, (step + 1) / (step + 10))  # short memory at first
            with torch.no_grad():
                for name, value in self.parameters.items():
                    self.average[name].lerp_(value, 1.0 - decay)
        return sums

    def _adam_state(self) -> dict[str, Tensor]:
        """What Adam knows, as ``key/parameter``."""
        state = self.adam.state_dict()["state"]
        return {
            f"{key}/{name}": state[index][key]
            for index, name in enumerate(self.parameters)
            for key in _ADAM
        }

    def _restore_adam(self, stored: Mapping[str, Tensor]) -> None:
        state = {
            index: {key: stored[f"{key}/{name}"] for key in _ADAM}
            for index, name in enumerate(self.parameters)
        }
        self.adam.load_state_dict({**self.adam.state_dict(), "state": state})

    def checkpoint(self, identity: dict[str, object]) -> Checkpoint:
        """Everything needed to go on from here."""
        tensors = {f"weights/{name}": p.detach() for name, p in self.parameters.items()}
        tensors |= {f"adam/{place}": value for place, value in self._adam_state().items()}
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
        weights, adam, average, best = (
            _Stored(found.tensors, kind, self.device)
            for kind in ("weights", "adam", "average", "best")
        )
        _assign(self.parameters, weights)
        self._restore_adam(adam)
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


def _copies(
    parameters: Mapping[str, nn.Parameter] | Mapping[str, Tensor],
) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}


@torch.no_grad()
def _assign(
    parameters: Mapping[str, nn.Parameter] | Mapping[str, Tensor], values: Mapping[str, Tensor]
) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])


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
