"""Options by name, as a config file or a caller gives them: known, and of their types."""

import sys
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from recae.errors import ConfigError


def checked_options(
    kind: type[Any], options: Mapping[str, object], *, where: str
) -> dict[str, object]:
    """`options` with values of the types that the fields of the dataclass `kind` have.

    Numbers of NumPy become those of Python, lists tuples, and a whole number a float where only
    that is accepted; nothing else is converted: ``"4"`` is no number, and True is not 1.

    Parameters
    ----------
    kind
        A dataclass.
    options
        Values by field name.
    where
        What has these options, for the error.

    Raises
    ------
    ConfigError
        If a name is unknown or a value is of another type.
    """
    accepted = get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    for name in options:
        if name not in names:
            accepts = ", ".join(names) or "none"
            raise ConfigError(f"{where} has no option {name!r}; it accepts {accepts}")
    return {n: _typed(f"{where}: option {n}", v, accepted[n]) for n, v in options.items()}


def _typed(name: str, given: object, hint: Any) -> object:
    value = _plain(given)
    if _is(value, hint):
        return value
    if type(value) is int and abs(value) <= sys.float_info.max and _is(0.0, hint):
        return float(value)
    raise ConfigError(f"{name} is {given!r}; it is of type {_said(hint)}")


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _is(value: object, hint: Any) -> bool:
    """Whether `value` is of the type `hint`: a class, a union, a tuple of any length, literals."""
    kind, arguments = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return any(_is(value, one) for one in arguments)
    if kind is Literal:
        return isinstance(value, str) and value in arguments
    if kind is tuple:
        return isinstance(value, tuple) and all(_is(one, arguments[0]) for one in value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _said(hint: Any) -> str:
    kind, arguments = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " | ".join(map(_said, arguments))
    if kind is Literal:
        return " | ".join(map(repr, arguments))
    if kind is tuple:
        return f"list of {_said(arguments[0])}"
    return "None" if hint is type(None) else str(hint.__name__)
