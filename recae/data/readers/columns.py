"""Which column is which: by name, by a known alias, by position; a guess is never made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from recae.data.readers.options import ReadOptions
from recae.errors import DataError, shown

# Names in use by RecTools, LensKit, MovieLens, Cornac, Personalize, Gorse and Amazon reviews.
ALIASES = {
    "user": ("user_id", "userid", "user", "uid", "reviewerid"),
    "item": ("item_id", "itemid", "item", "iid", "movieid", "asin"),
    "rating": ("rating", "weight", "value", "score", "event_value", "label", "count"),
    "time": ("timestamp", "datetime", "ts", "time"),
    "title": ("title", "name"),
}
ROLES = ("user", "item", "rating", "time", "split")
_RECBOLE_TYPES = (":token", ":float")


@final
@dataclass(frozen=True, slots=True)
class Columns:
    """Positions, from 0, of the columns that are used; None where the input has no such column."""

    user: int
    item: int
    rating: int | None = None
    time: int | None = None
    split: int | None = None

    def roles(self) -> dict[str, int]:
        """Position of each column that is there, by role."""
        places = ((role, getattr(self, role)) for role in ROLES)
        return {role: place for role, place in places if place is not None}


def matches(name: str, role: str) -> bool:
    """Whether `name` is a known alias of `role`, in any case, with or without a RecBole type."""
    folded = name.casefold()
    for suffix in _RECBOLE_TYPES:
        folded = folded.removesuffix(suffix)
    return folded in ALIASES.get(role, ())


def find_column(
    names: Sequence[str], role: str, given: str | None, *, needed: bool, where: str
) -> int | None:
    """Position of the column of `role` among `names`, or None if it is optional and not there.

    Raises
    ------
    DataError
        If no column, or more than one, answers to the name given or to the aliases of `role`.
    """
    if given == "" and not needed:
        return None
    option = f"{role}_col (--{role}-col)"
    if given:
        found = [i for i, name in enumerate(names) if name == given]
        wanted = f"column {given!r}"
    else:
        found = [i for i, name in enumerate(names) if matches(name, role)]
        wanted = f"column for the {role}"
    if len(found) > 1:
        both = shown([names[i] for i in found])
        raise DataError(f"{where}: more than one {wanted}: {both}; settle it with {option}")
    if not found and (needed or given):
        raise DataError(
            f"{where}: no {wanted} among {shown(names, 12)};"
            f" name it with {option}; sep (--sep) if these are not the columns, header=False"
            " (--no-header) if they are data"
        )
    return found[0] if found else None


def by_name(names: Sequence[str], options: ReadOptions, *, where: str) -> Columns:
    """Columns of a table with `names`.

    Raises
    ------
    DataError
        If user or item is missing, a named column is missing, a name is ambiguous, or one column
        would serve twice.
    """
    user = find_column(names, "user", options.user_col, needed=True, where=where)
    item = find_column(names, "item", options.item_col, needed=True, where=where)
    rating = find_column(names, "rating", options.rating_col, needed=False, where=where)
    time = find_column(names, "time", options.time_col, needed=False, where=where)
    split = find_column(names, "split", options.split_col, needed=False, where=where)
    assert user is not None
    assert item is not None
    return _distinct(Columns(user, item, rating, time, split), names, where)


def by_position(n_columns: int, options: ReadOptions, *, where: str) -> Columns:
    """Columns of a table without names; user, item, rating, time unless any position is given.

    Raises
    ------
    DataError
        If a position is not one of the table's, or there are too many columns to assume an order.
    """
    given = {role: getattr(options, f"{role}_col") for role in ROLES}
    places: dict[str, int] = {}
    for role, text in given.items():
        if not text:
            continue
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= n_columns):
            raise DataError(
                f"{where}: {role}_col (--{role}-col) is {text!r}; without a header the {n_columns}"
                f" columns are named by position, 1 to {n_columns}"
            )
        places[role] = int(text) - 1
    if not places:
        if not 2 <= n_columns <= 4:
            raise DataError(
                f"{where}: {n_columns} columns without a header; accepted: 2 to 4 (user, item,"
                " rating, time), or positions, user_col and item_col (--user-col 1 --item-col 2),"
                " or another sep (--sep)"
            )
        default = list(zip(ROLES, range(n_columns), strict=False))
        places = {role: place for role, place in default if given[role] is None}
    if "user" not in places or "item" not in places:
        raise DataError(
            f"{where}: without a header name both user_col and item_col (--user-col, --item-col)"
        )
    names = [str(i + 1) for i in range(n_columns)]
    return _distinct(Columns(**places), names, where)


def _distinct(columns: Columns, names: Sequence[str], where: str) -> Columns:
    roles = columns.roles()
    for role, place in roles.items():
        twin = next((r for r, p in roles.items() if p == place and r != role), None)
        if twin is not None:
            raise DataError(f"{where}: column {names[place]!r} is both {role} and {twin}")
    return columns
