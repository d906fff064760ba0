"""Options by name, as a config file or a caller gives them: known, and of their types."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np

from recae.errors import ConfigError


def checked_options(
    kind: type[Any], options: Mapping[str, object], *, where: str
) -> dict[str, object]:
    """`options` with values of the types that the fields of the dataclass `kind` have.

    Numbers of NumPy become those of Python, and a whole number a float where only that is accepted;
    nothing else is converted: ``"4"`` is no number, and True is not 1.

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
            raise ConfigError(f"{where} has no option {name!r}; it accepts {', '.join(names)}")
    return {n: _typed(f"{where}: option {n}", v, accepted[n]) for n, v in options.items()}


def _typed(name: str, value: object, hint: Any) -> object:
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) is int and not isinstance(value, hint) and isinstance(0.0, hint):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        wanted = getattr(hint, "__name__", None) or str(hint)
        raise ConfigError(f"{name} is {value!r}; it is of type {wanted}")
    return value
