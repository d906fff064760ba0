"""Training progress on stderr: a bar on a terminal, a line an epoch otherwise."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import click
from tqdm import tqdm


@contextmanager
def shown() -> Iterator[None]:
    """Show what trainings inside report."""
    logger = logging.getLogger("recae")
    handler = _Handler()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        handler.close()


@final
class _Handler(logging.Handler):
    """Turns the records of `recae.training` and `recae.compare` into progress."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[int] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "epoch":
            self._epoch(record)
        elif record.msg == "resumed":
            click.echo(f"resuming after epoch {record.__dict__['epoch']}", err=True)
        elif record.msg == "nothing to resume":
            click.echo("note: there is no checkpoint; training starts anew", err=True)
        elif record.msg == "compared":
            click.echo(f"done: {record.__dict__['entry']}", err=True)

    def _epoch(self, record: logging.LogRecord) -> None:
        epoch, n_epochs = record.__dict__["record"], record.__dict__["n_epochs"]
        score = "" if epoch.validation is None else f" validation {epoch.validation:.4f}"
        line = f"loss {epoch.loss:.3f}{score}{' best' if epoch.best else ''}"
        if not sys.stderr.isatty():
            click.echo(f"epoch {epoch.epoch}/{n_epochs} {line} ({epoch.seconds:.1f} s)", err=True)
            return
        if self._bar is None or epoch.epoch <= self._bar.n:
            self.close()
            self._bar = tqdm(total=n_epochs, initial=epoch.epoch - 1, unit="epoch", leave=True)
        self._bar.set_postfix_str(line)
        self._bar.update(1)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        super().close()
