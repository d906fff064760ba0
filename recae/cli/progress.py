"""Training progress on stderr: a line that moves on a terminal, else a few lines a training."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, final

import click

from recae.models.progress import About, MovingLine, line, summary

if TYPE_CHECKING:
    from recae.training.trainer import EpochRecord

_PARTS = 10  # of a training, after each of which a line may be due where there is no terminal
_PAUSE_S = 5.0  # no line sooner than this after the last one


@contextmanager
def shown(name: str = "", *, summaries: bool = True) -> Iterator[Callable[[str], None]]:
    """Show what trainings inside report.

    Parameters
    ----------
    name
        Of the model that is trained, where there is one only.
    summaries
        Whether a line says how each training went. Without, the caller has lines of its own, and
        only the line that moves is shown.

    Yields
    ------
    Prints a line on stderr, above the one that moves.
    """
    logger = logging.getLogger("recae")
    handler = _Handler(name, summaries=summaries)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield handler.say
        handler.trained(name)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        handler.close()


@final
class _Handler(logging.Handler):
    """Turns the records of `recae.training` and `recae.compare` into progress."""

    def __init__(self, name: str, *, summaries: bool) -> None:
        super().__init__()
        self._name = name
        self._about = About(name)
        self._summaries = summaries
        self._line = MovingLine()
        self._epochs: list[EpochRecord] = []  # of all trainings since the last summary
        self._n_epochs = 0
        self._said_at = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "training":
            self._about = record.__dict__["about"]
            if self._name:  # which a caller may have indented
                self._about = replace(self._about, name=self._name)
        elif record.msg == "epoch":
            self._epoch(record.__dict__["record"], record.__dict__["n_epochs"])
        elif record.msg == "resumed":
            self.say(f"resuming after epoch {record.__dict__['epoch']}")
        elif record.msg == "compared":
            self.compared(record.__dict__["entry"])
        elif record.levelno >= logging.WARNING:
            self.say(f"note: {record.getMessage()}")

    def say(self, text: str) -> None:
        """Print a line; what moves is wiped away first, and comes back with the next epoch."""
        self._line.wipe()
        click.echo(text, err=True)
        self._said_at = time.monotonic()

    def compared(self, name: str) -> None:
        """Say that `name` is fitted and judged, and how its trainings went."""
        if self._epochs:
            self.trained(name)
        elif self._summaries:
            self.say(f"{name}: done")

    def trained(self, name: str) -> None:
        """Say how the trainings of `name` since the last time went, where there were any."""
        epochs, self._epochs = self._epochs, []
        if epochs and self._summaries:
            self.say(f"{name}: {summary(self._about, epochs, self._n_epochs)}")

    def close(self) -> None:
        """Leave no line that moves."""
        self._line.wipe()
        super().close()

    def _epoch(self, epoch: "EpochRecord", n_epochs: int) -> None:
        first = not self._epochs or epoch.epoch <= self._epochs[-1].epoch
        self._epochs.append(epoch)
        self._n_epochs = n_epochs
        narrow = sys.stderr.isatty()
        said = line(self._about, self._epochs[-epoch.epoch :], n_epochs, narrow=narrow)
        if narrow:
            if first:
                self._line.wipe()
            self._line.show(said, epoch.epoch, n_epochs)
        elif self._summaries and (first or self._due(epoch.epoch, n_epochs)):
            self.say(f"{said} ({epoch.seconds:.1f} s)")

    def _due(self, epoch: int, n_epochs: int) -> bool:
        part_ended = epoch * _PARTS // n_epochs > (epoch - 1) * _PARTS // n_epochs
        return part_ended and time.monotonic() - self._said_at >= _PAUSE_S
