"""What a training cannot do without, from shapes alone, and the refusal of what cannot fit.

What it takes in full is measured, by real steps: see `recae.experiment.rehearsal`.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from recae import machine
from recae.data.split import Split
from recae.errors import ResourceError
from recae.experiment.config import RunConfig
from recae.experiment.run import make_model
from recae.ranking.recommender import TrainingShape

_CHECKPOINT_BYTES = 12  # a parameter in a checkpoint: the weight and two moments of Adam
_CHECKPOINTS = 3  # two are kept while the next one is written
_FEWEST = (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)  # values of --min-item that are tried


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a training cannot do without, beside what this process holds already.

    Attributes
    ----------
    model
        Its name.
    shape
        What it is trained on.
    n_validation
        Users who decide when to stop.
    parameters
        Numbers that Adam learns; None for models that are not trained in steps.
    least_bytes
        See `Recommender.least_bytes`; None where that is not known beforehand.
    disk_bytes
        Of the checkpoints that are there at once.
    resident_bytes
        Memory that this process holds already.
    available_bytes, disk_available_bytes
        What is free now; None where the system does not say, or nothing is written.
    """

    model: str
    shape: TrainingShape
    n_validation: int
    parameters: int | None
    least_bytes: int | None
    disk_bytes: int
    resident_bytes: int
    available_bytes: int | None
    disk_available_bytes: int | None

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        if self.least_bytes is None:
            return f"what {self.model} needs is not known beforehand"
        memory = f"at least {size(self.least_bytes)} of memory{_free(self.available_bytes)}"
        disk = f", {size(self.disk_bytes)} of disk{_free(self.disk_available_bytes)}"
        return f"needs {memory}{disk if self.disk_bytes else ''}"


def needs(split: Split, config: RunConfig, *, directory: Path | None = None) -> Needs:
    """State what training the model of `config` cannot do without; takes no time.

    Parameters
    ----------
    directory
        Where checkpoints will be; None writes nothing.
    """
    model = make_model(config.model, config)
    shape = TrainingShape.of(split.train.matrix)
    parameters = model.n_parameters(shape.n_items)
    memory = machine.memory()
    return Needs(
        model=config.model,
        shape=shape,
        n_validation=0 if split.validation is None else len(split.validation),
        parameters=parameters,
        least_bytes=model.least_bytes(shape),
        disk_bytes=_CHECKPOINTS * _CHECKPOINT_BYTES * (parameters or 0),
        resident_bytes=memory.resident_bytes,
        available_bytes=memory.available_bytes,
        disk_available_bytes=None if directory is None else machine.free_disk_bytes(directory),
    )


def refuse_what_cannot_fit(found: Needs, split: Split, config: RunConfig) -> None:
    """Refuse a training that cannot fit.

    Raises
    ------
    ResourceError
        If memory or disk are too small; the message names the fewest interactions of an item
        (``--min-item``) with which it would fit, where one of those tried does.
    """
    disk = found.disk_available_bytes
    if disk is not None and found.disk_bytes > disk:
        raise ResourceError(
            f"{found.model} needs {size(found.disk_bytes)} of disk for its checkpoints and"
            f" {size(disk)} are free; free some, or write elsewhere with -o"
        )
    if found.available_bytes is None or (found.least_bytes or 0) <= found.available_bytes:
        return
    model = make_model(config.model, config)
    counts = np.bincount(split.train.matrix.indices, minlength=split.train.n_items)
    advice = "use a smaller model, a larger machine or less data"
    for fewest in _FEWEST:
        kept = counts >= fewest
        fewer = replace(
            found.shape, n_items=max(1, int(kept.sum())), n_interactions=int(counts[kept].sum())
        )
        if (model.least_bytes(fewer) or 0) <= found.available_bytes:
            advice = f"train with --min-item {fewest}"
            break
    raise ResourceError(
        f"{found.model} needs at least {size(found.least_bytes or 0)} of memory and"
        f" {size(found.available_bytes)} are free; {advice}"
    )


def size(n_bytes: int) -> str:
    """`n_bytes` in GB or MB.

    Examples
    --------
    >>> size(2_340_000_000), size(7_000_000)
    ('2.34 GB', '7.0 MB')
    """
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _free(n_bytes: int | None) -> str:
    return "" if n_bytes is None else f" ({size(n_bytes)} free)"
