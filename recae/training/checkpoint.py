"""Checkpoints: enough to go on as if nothing had happened, and proof that it is whole."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from recae.errors import BundleError, ConfigError
from recae.storage import (
    StoredArrays,
    directory_lock,
    sha256_of,
    write_atomic,
    write_safetensors,
)

KEPT = 2


@final
@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """State after an epoch.

    Attributes
    ----------
    epoch
        Epochs done.
    tensors
        Weights, optimiser state, moving average and best weights, by name. Those of a file are
        read one by one, as they are asked for.
    log
        The training log so far, a record an epoch, as JSON values.
    identity
        What a run must agree with to go on from here: config, data, threads, device, versions.
    """

    epoch: int
    tensors: Mapping[str, np.ndarray]
    log: list[dict[str, Any]]
    identity: Mapping[str, object]


@final
class CheckpointStore:
    """The newest checkpoints of a directory, and ``training.jsonl``.

    Parameters
    ----------
    directory
        Made if it is not there. Holds ``epoch-000012.safetensors`` and, written after it with its
        hash, ``epoch-000012.json``: a checkpoint without the second file does not exist.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

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
        name = f"epoch-{checkpoint.epoch:06d}"
        sha256, _ = write_safetensors(self._directory / f"{name}.safetensors", checkpoint.tensors)
        about = {
            "epoch": checkpoint.epoch,
            "sha256": sha256,
            "identity": dict(checkpoint.identity),
            "log": checkpoint.log,
        }
        write_atomic(self._directory / f"{name}.json", json.dumps(about, indent=1).encode())
        lines = "".join(json.dumps(record) + "\n" for record in checkpoint.log)
        write_atomic(self._directory / "training.jsonl", lines.encode())
        for old in self._described()[KEPT:]:
            self._remove(old)

    def newest(self, identity: Mapping[str, object]) -> Checkpoint | None:
        """Newest whole checkpoint, or None where there is none; damaged ones are passed over.

        Raises
        ------
        ConfigError
            If it belongs to another run; names what differs.
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
            differing = _differences(about["identity"], json.loads(json.dumps(dict(identity))))
            if differing:
                raise ConfigError(
                    f"the checkpoint in {self._directory} belongs to another run:"
                    f" {'; '.join(differing[:5])}; train without --resume or repeat its options"
                )
            return Checkpoint(about["epoch"], tensors, about["log"], about["identity"])
        return None

    def logs(self) -> Iterator[tuple[Mapping[str, Any], list[dict[str, Any]]]]:
        """Identity and training log of each checkpoint, newest first; damaged ones are left out."""
        for described in self._described():
            try:
                about = json.loads(described.read_bytes())
                found = about["identity"], about["log"]
            except (OSError, ValueError, KeyError):
                continue
            yield found

    def clear(self) -> None:
        """Forget all checkpoints."""
        for described in self._described():
            self._remove(described)
        for left in self._directory.glob("epoch-*.safetensors"):
            left.unlink()

    def _described(self) -> list[Path]:
        return sorted(self._directory.glob("epoch-*.json"), reverse=True)

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
