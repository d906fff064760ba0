"""What callers give, looked at once at the entry: one of a kind, or several.

Annotations are for type checkers; nobody checks them when a notebook runs.
"""

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import TypeVar

from recae.errors import ConfigError

_SHOWN_CHARACTERS = 80
T = TypeVar("T")


def several(name: str, values: Iterable[T], of: str) -> tuple[T, ...]:
    """`values` as a tuple: an iterator gives them once, and what follows may look twice.

    Parameters
    ----------
    name, of
        What the values are called and what they are, for the error.

    Raises
    ------
    ConfigError
        If it is one text, not several, nothing that holds values, or a mapping or a table, which
        would give their keys or the names of their columns.

    Examples
    --------
    >>> several("metrics", (name for name in ["ndcg@10"]), "names")
    ('ndcg@10',)
    >>> several("metrics", "ndcg@10", "names")
    Traceback (most recent call last):
        ...
    recae.errors.ConfigError: metrics is the text 'ndcg@10'; a list of names is accepted
    """
    if isinstance(values, str):
        raise ConfigError(f"{name} is the text {brief(values)!r}; a list of {of} is accepted")
    given = f"{name} is of type {type(values).__name__}"
    if isinstance(values, Mapping):
        raise ConfigError(f"{given}, whose values would be lost; a list of {of} is accepted")
    if hasattr(values, "columns"):
        raise ConfigError(f"{given}; a list of {of}, or one column, is accepted")
    try:
        return tuple(values)
    except TypeError as error:
        raise ConfigError(f"{given}; a list of {of} is accepted") from error


def refuse_other(name: str, value: object, kind: type | UnionType, accepted: str) -> None:
    """Refuse a `value` that is not of `kind`.

    Parameters
    ----------
    name, accepted
        What the value is called and what it may be, for the error.

    Raises
    ------
    ConfigError
        If it is not.

    Examples
    --------
    >>> refuse_other("data", [], str, "a text")
    Traceback (most recent call last):
        ...
    recae.errors.ConfigError: data is of type list; accepted: a text
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{name} is of type {type(value).__name__}; accepted: {accepted}")


def brief(text: str) -> str:
    """`text`, cut where it is too long to be shown."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
