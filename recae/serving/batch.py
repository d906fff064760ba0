"""Recommendations for many people to a file: streamed, in constant memory, resumable.

People come as histories in index space; their lists are turned into an Arrow table and written,
some people at a time, while the next are ranked. What stands on disk under the final name is always
whole.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import Int64

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.errors import ConfigError
from recae.ranking.recommender import Recommender
from recae.serving.lists import Format, ListWriter, quoting
from recae.storage import atomic_file, sha256_of, write_json

_AT_ONCE = 4096  # people whose lists are written at once, while the next are ranked
_PART = 65_536  # people of a part, the unit of resuming


@final
@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is asked for everybody.

    Attributes
    ----------
    model
        A fitted model.
    items
        Its item ids.
    k
        Length of the lists.
    exclude_seen
        Leave out the items of the history.
    candidates, exclude
        Item indices that alone may, or may not, be listed.
    version
        Of the model; parts of another version are not resumed.
    """

    model: Recommender
    items: IdMap
    k: int
    exclude_seen: bool = True
    candidates: Int64[np.ndarray, " c"] | None = None
    exclude: Int64[np.ndarray, " e"] | None = None
    version: str = ""


@final
@dataclass(frozen=True, slots=True)
class Done:
    """What was written: people, rows, and people whose list is shorter than `k`."""

    users: int
    rows: int
    short: int

    def __add__(self, other: "Done") -> "Done":
        return Done(self.users + other.users, self.rows + other.rows, self.short + other.short)


def write_recommendations(
    asked: Asked,
    histories: Histories,
    users: IdMap,
    path: Path,
    *,
    file_format: Format,
    resume: bool = False,
) -> Done:
    """Write the lists of all `users` to `path`, which appears whole or not at all.

    Parameters
    ----------
    asked
        The model and what is asked of it.
    histories, users
        Who asks: a history a row, and the ids of the rows.
    path
        The file. With `resume`, finished parts are kept in ``PATH.parts`` until it is written, and
        a later call with the same question goes on after them.
    file_format
        ``"csv"`` and ``"parquet"``: ``user_id, item_id, score, rank``, a row an item, ranks from 1;
        ``"jsonl"``: a line a person.
    resume
        Go on after the parts of an interrupted call.

    Raises
    ------
    ConfigError
        If the parts belong to another question.
    ResourceError
        If the disk is full.
    """
    if not resume:
        with (
            atomic_file(path) as file,
            ListWriter(file, file_format, quoting(asked.items, users)) as writer,
        ):
            return _write(asked, histories, users, slice(0, len(users)), writer)
    parts = _Parts(path, file_format, question(asked, histories, users, file_format))
    cuts = [slice(at, min(len(users), at + _PART)) for at in range(0, len(users), _PART)]
    total = Done(0, 0, 0)
    for people in cuts:
        total += parts.done(people) or parts.write(asked, histories, users, people)
    parts.join(cuts)
    return total


def stream_recommendations(
    asked: Asked, histories: Histories, users: IdMap, file: Any, *, file_format: Format
) -> Done:
    """Write the lists of all `users` to an open binary file, a standard output say."""
    with ListWriter(file, file_format, quoting(asked.items, users)) as writer:
        return _write(asked, histories, users, slice(0, len(users)), writer)


def question(
    asked: Asked, histories: Histories, users: IdMap, file_format: Format
) -> dict[str, object]:
    """What decides the lists of `users`, as JSON values: files of equal ones belong together.

    Values and order of the histories are not in it, because no model looks at them.
    """
    digest = hashlib.sha256(bytes.fromhex(users.fingerprint()))
    for array in (
        histories.matrix.indptr,
        histories.matrix.indices,
        asked.candidates,
        asked.exclude,
    ):
        # Its length first, or items would count as the next array's; -1 differs from no items.
        digest.update(np.int64(-1 if array is None else len(array)).tobytes())
        if array is not None:
            digest.update(np.ascontiguousarray(array, dtype=np.int64).data)
    return {
        "model": asked.version,
        "k": asked.k,
        "exclude_seen": asked.exclude_seen,
        "format": file_format,
        "asked_sha256": digest.hexdigest(),
    }


def _write(
    asked: Asked, histories: Histories, users: IdMap, people: slice, writer: ListWriter
) -> Done:
    total = Done(0, 0, 0)
    lists = asked.model.recommend_batches(
        histories.take(people),
        k=min(asked.k, len(asked.items)),  # places beyond the catalogue stay empty
        batch_size=_AT_ONCE,
        exclude_seen=asked.exclude_seen,
        candidates=asked.candidates,
        exclude=asked.exclude,
    )
    for some, top in lists:
        rows = slice(people.start + some.start, people.start + some.stop)
        writer.write(top, users, rows, asked.items)
        lengths = (top.items >= 0).sum(axis=1)
        short = int((lengths < asked.k).sum())
        total += Done(rows.stop - rows.start, int(lengths.sum()), short)
    return total


@final
class _Parts:
    """Finished parts of an output, beside it, and the question they answer.

    A part is a data file and, written after it, a JSON file of its counts and hash: one of them
    alone is no part. ``question.json`` is there before the first of them and goes after the last,
    and parts without it answer nobody knows what. So the process may die at any moment.
    """

    def __init__(self, path: Path, file_format: Format, question: dict[str, object]) -> None:
        self._path = path
        self._format = file_format
        self._directory = path.with_name(path.name + ".parts")
        self._directory.mkdir(parents=True, exist_ok=True)
        self._question = self._directory / "question.json"
        if not self._question.exists():
            self._remove()
            write_json(self._question, question)
        elif json.loads(self._question.read_bytes()) != question:
            raise ConfigError(
                f"{self._directory} holds parts of another question: remove it, or repeat the"
                " options it was started with"
            )

    def _files(self, people: slice) -> tuple[Path, Path]:
        part = self._directory / f"part-{people.start:012d}"
        return part, part.with_suffix(".json")

    def done(self, people: slice) -> Done | None:
        """Counts of a part that is there already, whole and of these people."""
        part, about = self._files(people)
        if not (part.exists() and about.exists()):
            return None
        said = json.loads(about.read_bytes())
        if said.pop("sha256", None) != sha256_of(part):
            return None
        done = Done(**said)
        return done if done.users == people.stop - people.start else None

    def write(self, asked: Asked, histories: Histories, users: IdMap, people: slice) -> Done:
        part, about = self._files(people)
        quotes = quoting(asked.items, users)
        with (
            atomic_file(part) as file,
            ListWriter(file, self._format, quotes, header=False) as writer,
        ):
            done = _write(asked, histories, users, people, writer)
        write_json(about, {**asdict(done), "sha256": file.written.sha256})
        return done

    def join(self, cuts: Sequence[slice]) -> None:
        """Put the parts of `cuts` together under the final name, and remove all."""
        with atomic_file(self._path) as file, ListWriter(file, self._format, "none") as writer:
            for people in cuts:
                part, _ = self._files(people)
                with part.open("rb") as source:
                    writer.copy(source)
        self._remove()
        self._question.unlink()
        with suppress(OSError):  # what others put there stays
            self._directory.rmdir()

    def _remove(self) -> None:
        """Remove all parts, first what says that they are whole."""
        for names in ("part-*.json", "part-*", ".*.partial"):
            for left in sorted(self._directory.glob(names)):
                left.unlink()
