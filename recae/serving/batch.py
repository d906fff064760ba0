"""Recommendations for many people to a file: streamed, in constant memory, resumable.

People come in groups, as histories in index space, and while one is ranked, the next is read; the
lists are turned into an Arrow table and written, some people at a time, while the next are ranked.
What stands on disk under the final name is always whole.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any, final

import numpy as np
from jaxtyping import Int64

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.errors import ConfigError
from recae.ranking.recommender import Recommender
from recae.serving.lists import Format, ListWriter
from recae.storage import atomic_file, directory_lock, sha256_of, write_json

_AT_ONCE = 4096  # people whose lists are written at once, while the next are ranked
PART = 65_536  # people of a part, the unit of resuming

People = tuple[Histories, IdMap]


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
    titles
        Title of each item, an Arrow array, or None; they are written where they are given.
    """

    model: Recommender
    items: IdMap
    k: int
    exclude_seen: bool = True
    candidates: Int64[np.ndarray, " c"] | None = None
    exclude: Int64[np.ndarray, " e"] | None = None
    version: str = ""
    titles: Any = None


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
    groups: Iterable[People],
    path: Path,
    *,
    file_format: Format,
    resume: bool = False,
) -> Done:
    """Write the lists of all people to `path`, which appears whole or not at all.

    Parameters
    ----------
    asked
        The model and what is asked of it.
    groups
        Who asks: histories, and the ids of their rows. The next group is made while one is ranked.
    path
        The file. With `resume`, finished parts are kept in ``PATH.parts`` until it is written, and
        a later call with the same question goes on after them.
    file_format
        ``"csv"`` and ``"parquet"``: ``user_id, item_id, score, rank`` and, where there are any,
        ``title``, a row an item, ranks from 1; ``"jsonl"``: a line a person.
    resume
        Go on after the parts of an interrupted call.

    Raises
    ------
    ConfigError
        If the parts belong to another question.
    BusyError
        If another process resumes this file.
    ResourceError
        If the disk is full.
    """
    if not resume:
        with atomic_file(path) as file:
            return stream_recommendations(asked, groups, file, file_format=file_format)
    directory = path.with_name(path.name + ".parts")
    with directory_lock(directory):
        parts = _Parts(path, directory, file_format, question(asked, file_format))
        total, starts = Done(0, 0, 0), []

        def keep(group: People, left: Event) -> None:
            nonlocal total
            histories, users = group
            for at in range(0, len(users), PART):
                rows = np.arange(at, min(len(users), at + PART))
                some = histories.take(slice(at, at + PART)), users.take(rows)
                starts.append(total.users)
                start = starts[-1]
                done = parts.done(start, asked, some) or parts.write(start, asked, some, left)
                total += done

        _while_reading(groups, keep)
        parts.join(starts, asked.titles)
    return total


def stream_recommendations(
    asked: Asked, groups: Iterable[People], file: Any, *, file_format: Format
) -> Done:
    """Write the lists of all people to an open binary file, a standard output say."""
    total = Done(0, 0, 0)
    with ListWriter(file, file_format, titles=asked.titles) as writer:

        def append(group: People, left: Event) -> None:
            nonlocal total
            total += _write(asked, group, writer, left)

        _while_reading(groups, append)
    return total


def _while_reading(groups: Iterable[People], work: Callable[[People, Event], None]) -> None:
    """Call `work` with each of `groups`, in another thread, while the next is made in this one.

    Here signals arrive, and they end the wait for a pipe that says nothing. `work` also gets what
    tells it to give up, with an error.
    """
    left, coming = Event(), iter(groups)
    with ThreadPoolExecutor(1, "recae-write") as pool:
        try:
            working: Future[None] | None = None
            for group in coming:
                if working is not None:
                    working.result()
                working = pool.submit(work, group, left)
            if working is not None:
                working.result()
        finally:
            left.set()
            if isinstance(coming, Generator):  # a reader has files open
                coming.close()
            working = None  # or its error and this frame hold each other, and what is open


def question(asked: Asked, file_format: Format) -> dict[str, object]:
    """What is asked of a model, as JSON values: files of equal ones belong together."""
    digest = hashlib.sha256()
    for array in (asked.candidates, asked.exclude):
        _digest(digest, array)
    return {
        "model": asked.version,
        "k": asked.k,
        "exclude_seen": asked.exclude_seen,
        "format": file_format,
        "titles": asked.titles is not None,
        "items_sha256": digest.hexdigest(),
    }


def people_sha256(people: People, *, ordered: bool) -> str:
    """SHA-256, in hex, of ids and histories, as far as they decide lists.

    Their order is in it for models whose results depend on it (`ordered`); values never, because
    no model looks at them.
    """
    histories, users = people
    digest = hashlib.sha256(bytes.fromhex(users.fingerprint()))
    for array in (histories.matrix.indptr, histories.matrix.indices):
        _digest(digest, array)
    if ordered:
        _digest(digest, histories.in_time())
    if histories.seen is not None:
        for array in (histories.seen.indptr, histories.seen.indices):
            _digest(digest, array)
    return digest.hexdigest()


def _digest(digest: Any, array: np.ndarray | None) -> None:
    # Its length first, or items would count as the next array's; -1 differs from no items.
    digest.update(np.int64(-1 if array is None else len(array)).tobytes())
    if array is not None:
        digest.update(np.ascontiguousarray(array, dtype=np.int64).data)


def _write(asked: Asked, people: People, writer: ListWriter, left: Event) -> Done:
    histories, users = people
    total = Done(0, 0, 0)
    lists = asked.model.recommend_batches(
        histories,
        k=min(asked.k, len(asked.items)),  # places beyond the catalogue stay empty
        batch_size=_AT_ONCE,
        exclude_seen=asked.exclude_seen,
        candidates=asked.candidates,
        exclude=asked.exclude,
    )
    for rows, top in lists:
        if left.is_set():
            raise CancelledError  # nobody asks for the others any more
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

    def __init__(
        self, path: Path, directory: Path, file_format: Format, question: dict[str, object]
    ) -> None:
        self._path = path
        self._format = file_format
        self._directory = directory
        self._question = self._directory / "question.json"
        if not self._question.exists():
            self._remove()
            write_json(self._question, question)
        elif json.loads(self._question.read_bytes()) != question:
            raise ConfigError(self._refusal())

    def _refusal(self) -> str:
        return (
            f"{self._directory} holds parts of another question: remove it, or repeat the options"
            " it was started with"
        )

    def _files(self, start: int) -> tuple[Path, Path]:
        part = self._directory / f"part-{start:012d}"
        return part, part.with_suffix(".json")

    def done(self, start: int, asked: Asked, people: People) -> Done | None:
        """Counts of a part that is there already, whole and of as many people.

        Raises
        ------
        ConfigError
            If they are other people, or have other histories.
        """
        part, about = self._files(start)
        if not (part.exists() and about.exists()):
            return None
        said = json.loads(about.read_bytes())
        if said.pop("sha256", None) != sha256_of(part) or said["users"] != len(people[1]):
            return None
        if said.pop("people_sha256") != people_sha256(people, ordered=asked.model.ordered):
            raise ConfigError(self._refusal())
        return Done(**said)

    def write(self, start: int, asked: Asked, people: People, left: Event) -> Done:
        part, about = self._files(start)
        with (
            atomic_file(part) as file,
            ListWriter(file, self._format, titles=asked.titles, header=False) as writer,
        ):
            done = _write(asked, people, writer, left)
        whose = people_sha256(people, ordered=asked.model.ordered)
        told = {"people_sha256": whose, "sha256": file.written.sha256}
        write_json(about, {**asdict(done), **told})
        return done

    def join(self, starts: Iterable[int], titles: Any) -> None:
        """Put the parts at `starts` together under the final name, and remove all."""
        with (
            atomic_file(self._path) as file,
            ListWriter(file, self._format, titles=titles) as writer,
        ):
            for start in starts:
                with self._files(start)[0].open("rb") as source:
                    writer.copy(source)
        self._remove()
        self._question.unlink()
        (self._directory / "lock").unlink()  # who comes now makes another
        with suppress(OSError):  # what others put there stays
            self._directory.rmdir()

    def _remove(self) -> None:
        """Remove all parts, first what says that they are whole."""
        for names in ("part-*.json", "part-*", ".*.partial"):
            for left in sorted(self._directory.glob(names)):
                left.unlink()
