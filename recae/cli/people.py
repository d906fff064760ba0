"""People and items that arguments name, stored or of a file, and the list of one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import click
import numpy as np
from scipy.sparse import csr_array

from recae.cli.output import show
from recae.cli.reading import read, resolve
from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.data.readers import read_interactions
from recae.errors import ConfigError, DataError, shown
from recae.experiment import RunConfig
from recae.serving import Bundle, Recommendations, Similar
from recae.serving.lists import Format, format_of

# How a file is laid out and which rows count; the counts that users and items of the training data
# needed say nothing about people who come later.
_FORMAT: Final = (
    *("user_col", "item_col", "rating_col", "time_col", "sep", "header", "min_rating"),
    *("max_bad_rows", "max_id_length"),
)


@final
@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Who asks.

    Attributes
    ----------
    histories
        A row for each of `ids`, in the model's items.
    ids
        Their ids.
    left_out
        Ids of people who have no row that counts, or of whom the model knows no item.
    """

    histories: Histories
    ids: IdMap
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return how many were left out, and the first of them."""
        return {"left_out": len(self.left_out), "left_out_first": list(self.left_out[:5])}

    def __str__(self) -> str:
        if not self.left_out:
            return ""
        n = len(self.left_out)
        return f"; left out {n} without a known item that counts: {shown(self.left_out)}"


def stored_people(bundle: Bundle, wanted: Sequence[str] | None) -> People:
    """Stored histories of the users `wanted`, or of all of them.

    Raises
    ------
    ConfigError
        If the model was stored without people.
    UnknownIdError
        If one of the users is not known.
    """
    if bundle.users is None or bundle.histories is None:
        raise ConfigError(
            "the model was stored without users; give --interactions FILE or --history ID"
        )
    if wanted is None:
        people = People(bundle.histories, bundle.users)
    else:
        rows = bundle.users.indices_of(wanted)
        people = People(bundle.histories.take(rows), IdMap(wanted))
    empty = np.flatnonzero(np.diff(people.histories.matrix.indptr) == 0)
    if len(empty):
        click.echo(
            f"note: the history of {len(empty)} people is empty, and what they get the same for"
            f" everybody: {shown(people.ids.ids_at(empty))}",
            err=True,
        )
    return people


def wanted_users(users: str | None, one: Sequence[str] = ()) -> list[str] | None:
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
    ids = list(one) if users is None else lines_of(Path(users))
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
    config = _as_at_training(bundle, resolve(options))
    data = read(source, config, options)
    below = _below_minimum(source, config, data)
    known, unknown = bundle.items.split_known(data.items.ids_at(range(data.n_items)))
    if not len(known):
        raise DataError(f"{source} has no item that the model knows; ids are compared as text")
    if unknown:
        click.echo(
            f"note: {len(unknown)} items of {source} are not known to the model and left out:"
            f" {shown(unknown)}",
            err=True,
        )
    place = np.full(data.n_items, -1, dtype=np.int64)
    place[data.items.indices_of(bundle.items.ids_at(known))] = known
    matrix, users = data.matrix, data.users
    del data  # millions of people are held as few times as can be, here and below
    columns = place[matrix.indices]
    values = np.where(columns < 0, np.float32(0), matrix.data)
    mapped = csr_array(
        (values, columns, matrix.indptr.copy()), shape=(len(users), len(bundle.items))
    )
    del matrix, columns, values
    mapped.eliminate_zeros()  # what is of no known item
    mapped.sort_indices()
    asking = np.diff(mapped.indptr) > 0
    left_out = users.ids_at(np.flatnonzero(~asking))
    if left_out:
        click.echo(
            f"warning: {len(left_out)} people of {source} have no item that the model knows and"
            f" get nothing: {shown(left_out)}",
            err=True,
        )
        mapped = mapped[asking]
        users = users.take(np.flatnonzero(asking))
    return People(Histories(mapped), users, (*left_out, *below))


def _below_minimum(source: str, config: RunConfig, data: Interactions) -> list[str]:
    """People of the file who are not in `data` because a minimum leaves none of their rows."""
    assert data.report is not None
    dropped = data.report.rows_dropped
    if not any(dropped[reason].rows for reason in dropped if reason.startswith("below_min")):
        return []
    if source == "-":
        click.echo(
            "warning: people all of whose rows are below a minimum are not named: standard input is"
            " read only once",
            err=True,
        )
        return []
    every_row = {name: v for name, v in config.read.items() if not name.startswith("min_")}
    everybody = read_interactions(source, **every_row).users
    _, below = data.users.split_known(everybody.ids_at(range(len(everybody))))
    if below:
        click.echo(
            f"warning: all rows of {len(below)} people of {source} are below a minimum, and they"
            f" get nothing: {shown(below)}",
            err=True,
        )
    return below


def _as_at_training(bundle: Bundle, config: RunConfig) -> RunConfig:
    """`config` with what is not given taken from the reading of the training data."""
    stored = bundle.provenance.get("read", {})
    kept = {name: stored[name] for name in _FORMAT if name in stored and name not in config.read}
    if config.read.get("rating_col") == "":  # the file has no ratings, so no minimum either
        kept.pop("min_rating", None)
    if kept:
        said = ", ".join(f"{name}={value!r}" for name, value in kept.items())
        click.echo(f"note: read as the training data was, {said}; options say otherwise", err=True)
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
    known, unknown = bundle.items.split_known(lines_of(path))
    if unknown:
        click.echo(f"note: {path} names items the model does not know: {shown(unknown)}", err=True)
    return np.unique(known)


def lines_of(path: Path) -> list[str]:
    """Lines of a UTF-8 file, empty ones left out.

    Raises
    ------
    DataError
        If the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 at byte {error.start}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return [line for line in text.split("\n") if line.strip()]


def list_format(target: Path | None, given: Format | None, *, as_json: bool) -> Format:
    """Format of lists that go to `target`, None for stdout; CSV where nothing tells another.

    Raises
    ------
    UsageError
        If they cannot go to stdout in the format given, or are asked for as JSON too.
    """
    if target is not None:
        return given or format_of(target)
    if given == "parquet":
        raise click.UsageError("Parquet does not go to stdout; name a file with -o")
    if given == "csv" and as_json:
        raise click.UsageError("--json prints the lists as JSON; --format csv does not go with it")
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
