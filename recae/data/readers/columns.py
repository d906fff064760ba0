"""Which column is which: by name, by a known alias, by position; a guess is never made."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import final

from recae.data.readers.options import ReadOptions
from recae.errors import DataError, shown

_THINGS: tuple[str, ...] = (
    *("item", "product", "movie", "film", "artist", "song", "track", "album", "book", "game"),
    *("anime", "article", "news", "recipe", "video", "business"),
)
# Names in use, without case, blanks, hyphens and underscores. Those of a line count only where no
# column has a name of the lines before. First: RecTools, LensKit, MovieLens, Cornac, Personalize,
# Gorse and Amazon reviews; then data sets that people publish.
ALIASES = {
    "user": (("userid", "user", "uid", "reviewerid"), ("visitorid", "customerid", "memberid")),
    "item": (
        ("itemid", "item", "iid", "movieid", "asin"),
        ("isbn", *(f"{thing}id" for thing in _THINGS)),
    ),
    "rating": (
        ("rating", "weight", "value", "score", "eventvalue", "label", "count"),
        ("bookrating", "feedback", "hours"),
    ),
    "time": (("timestamp", "datetime", "ts", "time"), ("eventtime",)),
    "title": (
        ("title",),
        ("name",),
        tuple(f"{thing}title" for thing in _THINGS),
        tuple(f"{thing}name" for thing in _THINGS),
    ),
    "split": (),
}
ROLES = ("user", "item", "rating", "time", "split")
_RECBOLE_TYPES = (":token", ":float", ":token_seq", ":float_seq")


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
    """Whether `name` is a known alias of `role`."""
    return any(_folded(name) in tier for tier in ALIASES[role])


def _folded(name: str) -> str:
    """`name` without case, blanks, hyphens, underscores and a RecBole type."""
    folded = name.strip().casefold()
    for suffix in _RECBOLE_TYPES:
        folded = folded.removesuffix(suffix)
    return folded.translate(dict.fromkeys(map(ord, " -_")))


def named_alike(names: Sequence[str], role: str, more: Sequence[str] = ()) -> list[int]:
    """Positions of the columns whose names are aliases of `role`, those of the best tier.

    `more` holds aliases that count where there are no others.
    """
    folded = [_folded(name) for name in names]
    for tier in (*ALIASES[role], more):
        found = [place for place, name in enumerate(folded) if name in tier]
        if found:
            return found
    return []


def named(names: Sequence[str], given: str) -> list[int]:
    """Positions of the columns called `given`; if there are none, the position, from 1, it is."""
    for wanted, there in ((given, names), (given.strip(), [name.strip() for name in names])):
        found = [place for place, name in enumerate(there) if name == wanted]
        if found:
            return found
    position = int(given) if given.isascii() and given.isdigit() else 0
    return [position - 1] if 1 <= position <= len(names) else []


def find_column(
    names: Sequence[str],
    role: str,
    given: str | None,
    *,
    needed: bool,
    where: str,
    option: str | None = None,
    more: Sequence[str] = (),
    hint: str = "",
) -> int | None:
    """Position of the column of `role` among `names`, or None if it is optional and not there.

    Parameters
    ----------
    option
        What names the column, for errors; that of the role where it is None.
    more
        Further aliases of the role.
    hint
        What else to say where there is no such column.

    Raises
    ------
    DataError
        If no column, or more than one, answers to the name given or to the aliases of `role`.
    """
    if given == "" and not needed:
        return None
    option = option or f"{role}_col (--{role}-col)"
    if given:
        found, wanted = named(names, given), f"column {given!r}"
    else:
        found, wanted = named_alike(names, role, more), f"column for the {role}"
    if len(found) > 1:
        both = [names[place] for place in found]
        if len(set(both)) > 1:
            raise DataError(
                f"{where}: more than one {wanted}: {shown(both)}; settle it with {option}"
            )
        raise DataError(
            f"{where}: more than one {wanted}: {shown(both)}; settle it by position with {option}:"
            f" {' or '.join(str(place + 1) for place in found[:5])}"
        )
    if not found and (needed or given):
        raise DataError(
            f"{where}: no {wanted} among {shown(names, 12)}; name it with {option}{hint}"
        )
    return found[0] if found else None


def by_name(
    names: Sequence[str], options: ReadOptions, *, where: str, text: bool = False
) -> Columns:
    """Columns of a table with `names`; `text` tells whether it is a text file.

    Raises
    ------
    DataError
        If user or item is missing, a named column is missing, a name is ambiguous, or one column
        would serve twice.
    """
    not_columns = (
        "; sep (--sep) if these are not the columns, header=False (--no-header) if they are data"
    )
    places: dict[str, int] = {}
    for role in ROLES:
        place = find_column(
            names,
            role,
            getattr(options, f"{role}_col"),
            needed=role in ("user", "item"),
            where=where,
            hint=_only_one_left(names, role, options) + (not_columns if text else ""),
        )
        if place is not None:
            places[role] = place
    return _distinct(Columns(**places), names, where)


def _only_one_left(names: Sequence[str], role: str, options: ReadOptions) -> str:
    """Say for an error which column has no role, if it is one alone."""
    taken: set[int | None] = set()
    for other in ROLES:
        if other != role:
            given = getattr(options, f"{other}_col")
            with suppress(DataError):
                taken.add(find_column(names, other, given, needed=False, where=""))
    left = [name for place, name in enumerate(names) if place not in taken]
    return f", such as {left[0]!r}, the only one left" if len(left) == 1 < len(names) else ""


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
