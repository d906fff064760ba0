"""People and items that the arguments of a command name: stored ones, or those of a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.sparse import csr_array

from recae.cli.reading import read, resolve
from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.errors import ConfigError, DataError, shown
from recae.serving import Bundle


def stored_people(bundle: Bundle, wanted: Sequence[str] | None) -> tuple[Histories, IdMap]:
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
        return bundle.histories, bundle.users
    rows = bundle.users.indices_of(wanted)
    return bundle.histories.take(rows), IdMap(wanted)


def wanted_users(users: str | None, one: Sequence[str] = ()) -> list[str] | None:
    """Users of the file `users`, None for ``all``; or `one` where there is no file.

    Raises
    ------
    DataError
        If nobody is named, or the file cannot be read.
    """
    if users == "all":
        return None
    ids = list(one) if users is None else lines_of(Path(users))
    if not ids:
        raise DataError(f"{users} names no user; one id a line is expected")
    return list(dict.fromkeys(ids))


def people_of(bundle: Bundle, source: str, options: Mapping[str, Any]) -> tuple[Histories, IdMap]:
    """People of a file, known or not: their rows in the model's items.

    Raises
    ------
    DataError
        If the file is refused, or has no item that the model knows.
    """
    config = resolve(options)
    data = read(source, config, options)
    known, unknown = bundle.items.split_known(data.items.ids_at(range(data.n_items)))
    if not len(known):
        raise DataError(f"{source} has no item that the model knows; ids are compared as text")
    if unknown:
        click.echo(
            f"note: {len(unknown)} items of {source} are not known to the model and left out:"
            f" {shown(unknown)}",
            err=True,
        )
    inside = set(unknown)
    kept = [i for i, id_ in enumerate(data.items.ids_at(range(data.n_items))) if id_ not in inside]
    matrix = data.take_items(np.array(kept, dtype=np.int64)).matrix.tocoo()
    rows, columns = matrix.coords
    mapped = csr_array(
        (matrix.data, (rows, known[columns])), shape=(data.n_users, len(bundle.items))
    )
    return Histories(mapped), data.users


def items_of(bundle: Bundle, path: Path | None) -> np.ndarray | None:
    """Indices of the items that a file names, None without a file.

    Raises
    ------
    DataError
        If the model knows none of them, or the file cannot be read.
    """
    if path is None:
        return None
    known, unknown = bundle.items.split_known(lines_of(path))
    if unknown:
        click.echo(f"note: {path} names items the model does not know: {shown(unknown)}", err=True)
    if not len(known):
        raise DataError(f"{path} names no item that the model knows")
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
