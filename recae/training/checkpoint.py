"""Checkpoints: enough to go on as if nothing had happened, and proof that it is whole."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from recae.errors import BundleError, ConfigError
from recae.storage import (
    StoredArrays,
    directory_lock,
    sha256_of,
    write_atomic,
    write_safetensors,
)

logger = logging.getLogger("recae.training")
KEPT = 2
_LOG = "training.json"
_KINDS = ("step-", "epoch-")  # names of checkpoints, those of earlier versions included


@final
@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """State between two updates.

    Attributes
    ----------
    step
        Updates done, through all passes.
    tensors
        Weights, optimiser state, moving average, best weights and losses of the epoch so far, by
        name. Those of a file are read one by one, as they are asked for.
    log
        A record for each epoch that was judged, as JSON values.
    identity
        What a run must agree with to go on from here: config, data, threads, device, versions.
    """

    step: int
    tensors: Mapping[str, np.ndarray]
    log: list[dict[str, Any]]
    identity: Mapping[str, object]


@final
class CheckpointStore:
    """The newest checkpoints of a directory, and ``training.json``, the log of a finished training.

    Parameters
    ----------
    directory
        Made if it is not there. Holds ``step-000000120.safetensors`` and, written after it with its
        hash, ``step-000000120.json``: a checkpoint without the second file does not exist.

    Attributes
    ----------
    pause_s
        Seconds between two checkpoints, at least.
    spacing
        The same in times of what the last one took to write.
    """

    pause_s: ClassVar[float] = 60.0
    spacing: ClassVar[float] = 20.0

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @classmethod
    def pause(cls, write_s: float = 0.0) -> float:
        """Seconds until the next checkpoint, when the last one took `write_s` to write."""
        return max(cls.pause_s, cls.spacing * write_s)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory, made if missing.

        Raises
        ------
        BusyError
            If another process holds it.
        ResourceError
            If it cannot be made.
        """
        with directory_lock(self._directory):
            yield

    def write(self, checkpoint: Checkpoint) -> None:
        """Store `checkpoint` and forget all but the newest two.

        Raises
        ------
        ResourceError
            If the disk is full or cannot be written; the earlier checkpoints stay.
        """
        name = f"step-{checkpoint.step:09d}"
        sha256, _ = write_safetensors(self._directory / f"{name}.safetensors", checkpoint.tensors)
        about = {
            "step": checkpoint.step,
            "sha256": sha256,
            "identity": dict(checkpoint.identity),
            "log": checkpoint.log,
        }
        write_atomic(self._directory / f"{name}.json", json.dumps(about, indent=1).encode())
        for old in self._described()[KEPT:]:
            self._remove(old)

    def write_log(self, log: list[dict[str, Any]], identity: Mapping[str, object]) -> None:
        """Store the log of a training that came to its end, and whose it is."""
        about = {"identity": dict(identity), "log": log}
        write_atomic(self._directory / _LOG, json.dumps(about, indent=1).encode())

    def newest(self, identity: Mapping[str, object]) -> Checkpoint | None:
        """Newest whole checkpoint, or None where there is none; damaged ones are passed over.

        None, and a warning, also where it was made on other data: nothing can go on from there.

        Raises
        ------
        ConfigError
            If it belongs to another run on the same data; names what differs.
        """
        for described in self._described():
            tensors_path = described.with_suffix(".safetensors")
            try:
                about = json.loads(described.read_bytes())
                if sha256_of(tensors_path) != about["sha256"]:
                    continue
                tensors = StoredArrays(tensors_path)
            except (OSError, ValueError, KeyError, BundleError):
                continue  # damaged: the one before is as good a place to go on from
            ours = json.loads(json.dumps(dict(identity)))
            if about["identity"].get("data") != ours.get("data"):
                logger.warning("the checkpoint is of other data; training starts anew")
                return None
            differing = _differences(about["identity"], ours)
            if differing:
                raise ConfigError(
                    f"the checkpoint in {self._directory} belongs to another run:"
                    f" {'; '.join(differing[:5])}; train without --resume or repeat its options"
                )
            return Checkpoint(about["step"], tensors, about["log"], about["identity"])
        logger.warning("there is no checkpoint; training starts anew")
        return None

    def log(self) -> tuple[Mapping[str, Any], list[dict[str, Any]]] | None:
        """Identity and log of the last training that came to its end; None where there is none.

        Before there was a file for it, the checkpoints that a training left held its log.
        """
        before = sorted(self._directory.glob("epoch-*.json"), reverse=True)
        for path in (self._directory / _LOG, *before):
            with suppress(OSError, ValueError, KeyError):
                about = json.loads(path.read_bytes())
                return about["identity"], about["log"]
        return None

    def clear(self, *, pieces_only: bool = False) -> None:
        """Forget all checkpoints, or only pieces of some: what a writer that was killed left."""
        whole = set()
        if pieces_only:
            whole = {p.stem for p in self._described() if p.with_suffix(".safetensors").exists()}
        for path in sorted(self._directory.glob("*")):  # .json first, see `_remove`
            if path.name.removeprefix(".").startswith(_KINDS) and path.stem not in whole:
                path.unlink(missing_ok=True)

    def _described(self) -> list[Path]:
        return sorted(self._directory.glob("step-*.json"), reverse=True)

    @staticmethod
    def _remove(described: Path) -> None:
        described.unlink()  # first: what remains is not a checkpoint
        described.with_suffix(".safetensors").unlink(missing_ok=True)


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], at: str = "") -> list[str]:
    """Each place where two JSON objects differ, as ``place: stored against given``."""
    out = []
    for key in sorted({*ours, *theirs}):
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            out += _differences(a, b, f"{at}{key}.")
        elif a != b:
            out.append(f"{at}{key} was {a!r} and is {b!r}")
    return out
