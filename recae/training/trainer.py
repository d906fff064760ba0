"""`Trainer`: epochs of Adam over device-resident rows, best weights kept, exact resume."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
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
    recorded,
    steps_per_epoch,
)
from recae.training.device import autocast, resolve_device, resolve_precision
from recae.training.device_steps import DeviceNetwork, DeviceSteps
from recae.training.heap import steady_heap
from recae.training.optimiser import Optimiser, resolve_path
from recae.training.rows import STEP, DeviceRows, stream

logger = logging.getLogger("recae.training")


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
    """

    epoch: int
    steps: int
    loss: float
    nll: float
    kl: float
    validation: float | None
    best: bool
    seconds: float


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
        of threads, the device, the precision and the path are added.
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
        run = _Run(self._config, network, rows, resolve_device(self._config.device))
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
        self, config: TrainingConfig, network: nn.Module, rows: csr_array, device: torch.device
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
        self.n_epochs = planned_epochs(config, n_users)
        averaged = config.ema_decay is not None
        self.path = path = resolve_path(config.path, network, device, every_step=averaged)
        self.heap = nullcontext if path == "plain" else steady_heap  # plain is PyTorch alone
        self.parameters = dict(network.named_parameters())
        self.optimiser: Optimiser | DeviceSteps
        if isinstance(network, DeviceNetwork) and recorded(path, device.type, averaged=averaged):
            self.optimiser = DeviceSteps(
                network,
                rows,
                batch_size=self.batch_size,
                n_epochs=self.n_epochs,
                learning_rate=config.learning_rate,
                precision=self.precision,
                seed=config.rng,
            )
        else:
            self.rows = DeviceRows(rows, device)
            self.optimiser = Optimiser(
                network,
                path=path,
                learning_rate=config.learning_rate,
                precision=self.precision,
                entries=self.batch_size * rows.nnz / n_users,
                every_step=averaged,
            )
        self.average = _copies(self.parameters) if config.ema_decay is not None else None
        self.best: dict[str, Tensor] | None = None
        self.best_score = -math.inf
        self.log: list[EpochRecord] = []

    def identity(self) -> dict[str, object]:
        """What "auto" stands for on this machine; each draws or rounds in its own way."""
        return {"device": self.device.type, "precision": self.precision, "path": self.path}

    def to_the_end(
        self,
        validate: Callable[[], float] | None,
        save: Callable[[], None] | None,
        on_epoch: Callable[[EpochRecord], None] | None,
    ) -> tuple[EpochRecord, ...]:
        try:
            while len(self.log) < self.n_epochs and not self._out_of_patience():
                with self.heap():
                    self._epoch(validate)
                if save is not None:
                    save()
                logger.info("epoch", extra={"record": self.log[-1], "n_epochs": self.n_epochs})
                if on_epoch is not None:
                    on_epoch(self.log[-1])
        finally:
            self.optimiser.close()
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
        sums = torch.zeros(3, dtype=torch.float64)
        self.network.train()
        if isinstance(self.optimiser, DeviceSteps):
            sums = self.optimiser.epoch(epoch)
            step += self.steps_per_epoch
            self._check_finite(sums / self.n_users, f"in epoch {epoch + 1}")
        else:
            for x in self.rows.epoch(self.config.rng, epoch, self.batch_size):
                sums += self._step(x, step, self.optimiser) * len(x)
                step += 1
        self.network.eval()
        self.optimiser.settle()
        score = None
        best = False
        if validate is not None:
            with _Averaged(self.parameters, self.average):
                score = validate()
            best = score > self.best_score
            if best:
                self.best_score = score
                self.best = _copies(self.average or self.parameters)
        loss, nll, kl = (sums / self.n_users).tolist()
        seconds = time.monotonic() - started
        self.log.append(EpochRecord(epoch + 1, step, loss, nll, kl, score, best, seconds))

    def _check_finite(self, values: Tensor, where: str) -> None:
        if not torch.isfinite(values).all():
            raise DivergedError(
                f"the loss is {values[0].item()} {where},"
                f" learning rate {self.config.learning_rate:g}; lower the rate"
            )

    def _step(self, x: SparseBatch, step: int, optimiser: Optimiser) -> Tensor:
        rng = torch.Generator(self.device).manual_seed(stream(self.config.rng, STEP, step))
        with autocast(self.precision, self.device):
            loss = self.network.loss(x, step=step, rng=rng)  # type: ignore[operator]  # a TrainableNetwork
        values = torch.stack([loss.total, loss.nll, loss.kl]).detach().double().cpu()
        self._check_finite(values, f"at epoch {step // self.steps_per_epoch + 1}, step {step}")
        optimiser.minimise(loss.total)
        if self.average is not None:
            assert self.config.ema_decay is not None
            decay = min(self.config.ema_decay, (step + 1) / (step + 10))  # short memory at first
            with torch.no_grad():
                for name, value in self.parameters.items():
                    self.average[name].lerp_(value, 1.0 - decay)
        return values

    def checkpoint(self, identity: dict[str, object]) -> Checkpoint:
        """Everything needed to go on from here."""
        tensors = {f"weights/{name}": p.detach() for name, p in self.parameters.items()}
        tensors |= {f"adam/{place}": value for place, value in self.optimiser.state().items()}
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
        self.optimiser.restore(adam)
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


def _copies(parameters: dict[str, nn.Parameter] | dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}


@torch.no_grad()
def _assign(parameters: dict[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
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
