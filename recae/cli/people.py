"""People and items that arguments name, stored or of a file, and the list of one of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, final

import click
import numpy as np
from jaxtyping import Int64
from scipy.sparse import csr_array

from recae.cli.output import show
from recae.cli.reading import read, resolve
from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.data.readers import read_interactions
from recae.data.readers.batch import POINTED
from recae.data.readers.columns import matches
from recae.errors import ConfigError, DataError, shown
from recae.experiment.config import RunConfig
from recae.serving import Bundle, Recommendations, Similar
from recae.serving.lists import Format, format_of

# How a file is laid out and which rows count; the counts that users and items of the training data
# needed say nothing about people who come later.
_FORMAT: Final = (
    *("user_col", "item_col", "rating_col", "time_col", "sep", "header", "min_rating"),
    *("max_bad_rows", "max_id_length", "ids_as_written"),
)


@final
@dataclass(frozen=True, slots=True)
class LeftOut:
    """People who get nothing: no row of theirs counts, or the model knows no item of theirs.

    Attributes
    ----------
    count
        How many.
    first
        Ids of the first of them.
    """

    count: int = 0
    first: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, ids: Sequence[str]) -> "LeftOut":
        """All of `ids`."""
        return cls(len(ids), list(ids[:5]))

    def __add__(self, other: "LeftOut") -> "LeftOut":
        return LeftOut(self.count + other.count, (self.first + other.first)[:5])

    def names(self) -> str:
        """Return the first of them, and how many more there are, for a message."""
        more = self.count - len(self.first)
        return f"{shown(self.first)} and {more} more" if more else shown(self.first)

    def to_json(self) -> dict[str, object]:
        """Return how many there are, and the first of them."""
        return {"left_out": self.count, "left_out_first": self.first}

    def __str__(self) -> str:
        if not self.count:
            return ""
        return f"; left out {self.count} of whom nothing is known that counts: {self.names()}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Who asks; iterated, one group of them all.

    Attributes
    ----------
    histories
        A row for each of `ids`, in the model's items.
    ids
        Their ids.
    left_out
        Who else was in the input.
    """

    histories: Histories
    ids: IdMap
    left_out: LeftOut = field(default_factory=LeftOut)

    def __iter__(self) -> Iterator[tuple[Histories, IdMap]]:
        yield self.histories, self.ids

    def part(self, rows: slice) -> "People":
        """Only the people of some `rows`."""
        ids = self.ids.take(np.arange(rows.start, rows.stop, dtype=np.int64))
        return replace(self, histories=self.histories.take(rows), ids=ids)


def stored_people(
    bundle: Bundle, wanted: Sequence[str] | None, *, source: str | None = None
) -> People:
    """Stored histories of the users `wanted`, or of all of them.

    Of those that a `source` names, the unknown ones are left out and told.

    Raises
    ------
    ConfigError
        If the model was stored without people.
    UnknownIdError
        If one of the users is not known and there is no `source`, or if none is.
    """
    if bundle.users is None or bundle.histories is None:
        raise ConfigError(
            "the model was stored without users; give --interactions FILE or --history ID"
        )
    if wanted is None:
        people = People(bundle.histories, bundle.users)
    else:
        rows, unknown = bundle.users.split_known(wanted)
        if unknown and (source is None or not len(rows)):
            bundle.users.indices_of(wanted)  # says which
        people = People(bundle.histories.take(rows), bundle.users.take(rows), LeftOut.of(unknown))
        if unknown:
            click.echo(
                f"warning: {len(unknown)} people of {source} are not known and get nothing:"
                f" {people.left_out.names()}",
                err=True,
            )
    empty = np.flatnonzero(np.diff(people.histories.matrix.indptr) == 0)
    if len(empty):
        click.echo(
            f"note: the history of {len(empty)} people is empty, and what they get the same for"
            f" everybody: {shown(people.ids.ids_at(empty))}",
            err=True,
        )
    return people


def wanted_users(bundle: Bundle, users: str | None, one: Sequence[str] = ()) -> list[str] | None:
    """Users of the file `users`, None for ``all``; or `one` where there is no file.

    Raises
    ------
    DataError
        If nobody is named, or the file cannot be read.
    """
    if users == "all":
        return None
    if users is not None and not Path(users).exists():
        raise DataError(
            f"--users {users}: no such file; all, or a file with an id a line, is accepted"
            " (--user ID names one person)"
        )
    ids = list(one) if users is None else ids_of(bundle, Path(users), "user")
    if not ids:
        raise DataError(f"{users} names no user; one id a line is expected")
    return list(dict.fromkeys(ids))


def people_of(bundle: Bundle, source: str, options: Mapping[str, Any]) -> People:
    """People of a file, known or not: their rows in the model's items.

    The file is read as the training data was, where `options` do not say otherwise. People of whom
    the model knows no item are left out, as they are refused over HTTP, and so are those all of
    whose rows are below a minimum.

    Raises
    ------
    DataError
        If the file is refused, or has no item that the model knows.
    """
    config = as_at_training(bundle, resolve(options))
    data = read(source, config, options)
    below = _below_minimum(source, config, data)
    place, unknown = places_of(bundle, data.items)
    refuse_if_none_known(source, len(unknown) < len(place))
    tell_unknown_items(source, unknown)
    given, users = asked_of(bundle, data), data.users
    mapped = in_model(bundle, given, place)
    mapped = with_seen(bundle, mapped, data)
    del data, given  # millions of people are held as few times as can be, here and below
    histories, users, strangers = asking(mapped, users)
    tell_left_out(source, strangers, below)
    return People(histories, users, strangers + below)


def places_of(bundle: Bundle, items: IdMap) -> tuple[Int64[np.ndarray, " items"], list[str]]:
    """Index in the model of each of `items`, -1 where it knows none, and the ids of those."""
    known, unknown = bundle.items.split_known(items.ids_at(range(len(items))))
    place = np.full(len(items), -1, dtype=np.int64)
    place[items.indices_of(bundle.items.ids_at(known))] = known
    return place, unknown


def asked_of(bundle: Bundle, data: Interactions) -> Histories:
    """Histories of `data`, with their order where results of the model depend on it."""
    return data.histories() if bundle.model.ordered else Histories(data.matrix)


def in_model(bundle: Bundle, histories: Histories, place: Int64[np.ndarray, " items"]) -> Histories:
    """Histories in the items of the model, without the items that it does not know."""
    matrix = histories.matrix
    columns = place[matrix.indices]
    shape = (matrix.shape[0], len(bundle.items))
    known = columns >= 0
    if histories.order is None:
        values = np.where(known, matrix.data, np.float32(0))
        mapped = csr_array((values, columns, matrix.indptr.copy()), shape=shape)
        mapped.eliminate_zeros()  # what is of no known item
        mapped.sort_indices()
        return Histories(mapped)
    places = np.where(known, np.arange(1, len(columns) + 1), 0)  # of the entries, from 1
    moved = csr_array((places, columns, matrix.indptr.copy()), shape=shape)
    moved.eliminate_zeros()
    moved.sort_indices()
    entries = moved.data - 1
    mapped = csr_array((matrix.data[entries], moved.indices, moved.indptr), shape=shape)
    mapped.has_canonical_format = True
    return Histories(mapped, histories.order[entries])


def with_seen(bundle: Bundle, mapped: Histories, data: Interactions) -> Histories:
    """Histories in the items of the model, with what the people of `data` saw and did not like."""
    if data.seen is None:
        return mapped
    place, _ = places_of(bundle, data.seen.items)
    of_people = Histories(data.seen.matrix).take(slice(0, len(mapped)))
    return replace(mapped, seen=in_model(bundle, of_people, place).matrix)


def asking(mapped: Histories, users: IdMap) -> tuple[Histories, IdMap, LeftOut]:
    """Histories that hold something, whose they are, and the people of the others."""
    something = np.diff(mapped.matrix.indptr) > 0
    strangers = LeftOut.of(users.ids_at(np.flatnonzero(~something)))
    if strangers.count:
        mapped = mapped.take(np.flatnonzero(something))
        users = users.take(np.flatnonzero(something))
    return mapped, users, strangers


def refuse_if_none_known(source: str, any_known: bool) -> None:
    """Refuse a file of which the model knows nothing.

    Raises
    ------
    DataError
        If it knows no item.
    """
    if not any_known:
        raise DataError(f"{source} has no item that the model knows; ids are compared as text")


def tell_unknown_items(source: str, unknown: Sequence[str]) -> None:
    """Say on stderr which items of a file the model does not know."""
    if unknown:
        click.echo(
            f"note: {len(unknown)} items of {source} are not known to the model and left out:"
            f" {shown(unknown)}",
            err=True,
        )


def tell_left_out(source: str, strangers: LeftOut, below: LeftOut) -> None:
    """Say on stderr who gets nothing: the model knows no item, or all rows are below a minimum."""
    if strangers.count:
        click.echo(
            f"warning: {strangers.count} people of {source} have no item that the model knows and"
            f" get nothing: {strangers.names()}",
            err=True,
        )
    if below.count:
        click.echo(
            f"warning: all rows of {below.count} people of {source} are below a minimum, and they"
            f" get nothing: {below.names()}",
            err=True,
        )


def _below_minimum(source: str, config: RunConfig, data: Interactions) -> LeftOut:
    """People of the file who are not in `data` because a minimum leaves none of their rows."""
    assert data.report is not None
    if not {"below_min_item", "below_min_user"} & set(data.report.rows_dropped):
        known, seen = data.n_users, data.seen
        return LeftOut.of([] if seen is None else seen.users.ids_at(range(known, seen.n_users)))
    if source == "-":
        click.echo(
            "warning: people all of whose rows are below a minimum are not named: standard input is"
            " read only once",
            err=True,
        )
        return LeftOut()
    every_row = {name: v for name, v in config.read.items() if not name.startswith("min_")}
    everybody = read_interactions(source, **every_row).users
    _, below = data.users.split_known(everybody.ids_at(range(len(everybody))))
    return LeftOut.of(below)


def as_at_training(bundle: Bundle, config: RunConfig) -> RunConfig:
    """`config` with what is not given taken from the reading of the training data."""
    stored = bundle.reading
    kept = {name: stored[name] for name in _FORMAT if name in stored and name not in config.read}
    if config.read.get("rating_col") == "":  # the file has no ratings, so no minimum either
        kept.pop("min_rating", None)
    if kept:
        said = ", ".join(f"{name}={value!r}" for name, value in kept.items())
        rated = ", --rating-col '' that there are no ratings" if "min_rating" in kept else ""
        click.echo(
            f"note: read as the training data was, {said}; options say otherwise{rated}", err=True
        )
    return replace(config, read={**kept, **config.read})


def items_of(bundle: Bundle, path: Path | None) -> np.ndarray | None:
    """Indices of the items that a file names, None without a file; unknown ones are told.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    if path is None:
        return None
    known, unknown = bundle.items.split_known(ids_of(bundle, path, "item"))
    if unknown:
        click.echo(f"note: {path} names items the model does not know: {shown(unknown)}", err=True)
    return np.unique(known)


def ids_of(bundle: Bundle, path: Path, role: Literal["user", "item"]) -> list[str]:
    """Ids of a file, one a line, written as those of the training data were; no header.

    Raises
    ------
    DataError
        As `lines_of`.
    """
    ids = lines_of(path)
    known = bundle.items if role == "item" else bundle.users or IdMap()
    if ids and ids[0] not in known and matches(ids[0], role):
        ids = ids[1:]
    if bundle.reading.get("ids_as_written"):
        return ids
    return [id_[:-2] if POINTED.match(id_) else id_ for id_ in ids]


def lines_of(path: Path) -> list[str]:
    """Lines of a UTF-8 file, empty ones left out.

    Raises
    ------
    DataError
        If the file cannot be read, has a line of more than 1 MiB or more than 1 GiB.
    """
    blocks, since = [], 0
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                blocks.append(block)
                since = 0 if b"\n" in block else since + len(block)
                if since > 1 << 20 or len(blocks) > 1 << 10:
                    what = "a line of more than 1 MiB" if since > 1 << 20 else "more than 1 GiB"
                    raise DataError(f"{path} has {what}; an id a line is expected")
        text = b"".join(blocks).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip()]


def list_format(target: Path | None, given: Format | None, *, as_json: bool) -> Format:
    """Format of lists that go to `target`, None for stdout; CSV where nothing tells another.

    Raises
    ------
    UsageError
        If they cannot go to stdout in the format given, or are asked for as JSON too.
    """
    if target is not None:
        return format_of(target, given)
    if given == "parquet":
        raise click.UsageError("Parquet does not go to stdout; name a file with -o")
    if as_json and given not in (None, "jsonl"):
        raise click.UsageError(
            f"--json prints the lists as JSON; --format {given} does not go with it"
        )
    return given or ("jsonl" if as_json else "csv")


def show_list(answer: Recommendations | Similar, *, as_json: bool) -> None:
    """Print the list of an answer of a service, and on stderr what could not be followed."""
    for warning in answer.warnings:
        click.echo(f"note: {warning}", err=True)
    items = [
        {"item_id": i.item, "rank": i.rank, "score": i.score, "title": i.title}
        for i in answer.items
    ]
    text = "\n".join(
        f"{i.rank:>4}  {i.score:9.4f}  {i.item}  {i.title or ''}".rstrip() for i in answer.items
    )
    show(items, text, as_json=as_json)
