"""What people see of a training while it runs, and how it went, on stderr."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, final

from tqdm import tqdm

if TYPE_CHECKING:
    from recae.training.trainer import EpochRecord


@final
@dataclass(frozen=True, slots=True)
class About:
    """What is trained.

    Attributes
    ----------
    name
        Of the model.
    metric
        That decides which weights are kept.
    patience
        Epochs without a better one after which the training stops; None for never.
    """

    name: str = ""
    metric: str = "validation"
    patience: int | None = None


def is_wanted(progress: bool | None) -> bool:
    """Whether a fit shows its progress itself.

    None is where somebody looks: on a terminal or in a notebook, unless the logger ``recae`` has a
    handler, as commands have, which shows what it hears.
    """
    if progress is not None:
        return progress
    looked_at = sys.stderr.isatty() or "ipykernel" in sys.modules
    return looked_at and not logging.getLogger("recae").handlers


def line(
    about: About, epochs: "Sequence[EpochRecord]", n_epochs: int, *, narrow: bool = False
) -> str:
    """How far a training is: the epochs of it so far, of `n_epochs` that are planned.

    Where it must be `narrow`, for a terminal, a validation score stands without the loss.
    """
    last = epochs[-1]
    said = f"{about.name}, " if about.name else ""
    said += f"epoch {last.epoch}/{n_epochs}"
    if last.validation is None or not narrow:
        said += f", loss {last.loss:.3f}"
    if last.validation is None:
        return said
    said += f", {about.metric} {last.validation:.4f}"
    best = next((one for one in reversed(epochs) if one.best), last)  # none yet where it resumed
    if best is last:
        return said
    stops = "" if about.patience is None else f", stops at {best.epoch + about.patience}"
    return f"{said}, best {best.validation:.4f} at {best.epoch}{stops}"


def summary(about: About, epochs: "Sequence[EpochRecord]", n_epochs: int) -> str:
    """How one or several trainings of `n_epochs` planned epochs went."""
    trainings = 1 + sum(b.epoch <= a.epoch for a, b in pairwise(epochs))
    last = epochs[-1].epoch
    planned = "" if last == n_epochs else f" of {n_epochs}"
    what = f"{last}{planned} epochs" if trainings == 1 else f"{trainings} trainings"
    said = f"{what} in {sum(epoch.seconds for epoch in epochs):.1f} s"
    scores = [(epoch.validation, epoch.epoch) for epoch in epochs if epoch.validation is not None]
    if not scores:
        return f"{said}, loss {epochs[-1].loss:.3f}"
    best, at = max(scores, key=lambda pair: pair[0])
    return f"{said}, best {about.metric} {best:.4f} after epoch {at}"


@final
class MovingLine:
    """A line on stderr that is written over."""

    def __init__(self) -> None:
        self._bar: tqdm[int] | None = None

    def show(self, text: str, epoch: int, n_epochs: int) -> None:
        """Show `text` and the time that is left; the time counts from the first call."""
        if self._bar is None:
            self._bar = tqdm(
                desc=text,
                total=n_epochs,
                initial=epoch,
                leave=False,
                dynamic_ncols=True,
                bar_format="{remaining} left, {desc} |{bar}|",
            )
            return
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(1)

    def wipe(self) -> None:
        """Leave nothing of it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@final
class Shown:
    """Shows a training, epoch by epoch, and at its end how it went; a context manager."""

    def __init__(self, about: About, n_epochs: int) -> None:
        self._about, self._n_epochs = about, n_epochs
        self._epochs: list[EpochRecord] = []
        self._line = MovingLine()

    def __enter__(self) -> "Shown":
        return self

    def epoch(self, record: "EpochRecord") -> None:
        """Show that an epoch ended."""
        self._epochs.append(record)
        said = line(self._about, self._epochs, self._n_epochs, narrow=True)
        self._line.show(said, record.epoch, self._n_epochs)

    def __exit__(self, *_: object) -> None:
        self._line.wipe()
        if self._epochs:
            said = summary(self._about, self._epochs, self._n_epochs)
            tqdm.write(f"{self._about.name}: {said}", file=sys.stderr)
