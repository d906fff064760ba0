"""Every error that can leave `recae`, and the exit code each one gives the command line.

::

    RecaeError                          1   an internal error when raised itself: a bug
    ├── ConfigError (ValueError)        2   an option, parameter or call that is not accepted
    ├── DataError (ValueError)          3   input data that is refused
    │   └── UnknownIdError (LookupError)    an id that the data or the model does not know
    │       └── NoKnownItemError            a history of which the model knows no item
    ├── NotFittedError (RuntimeError)   4   a model asked before it was fitted
    ├── BundleError (RuntimeError)      4   a model directory that is missing, damaged or too new
    ├── ResourceError (RuntimeError)    5   disk, memory or device
    ├── BusyError (RuntimeError)        6   a directory that another process holds
    ├── DivergedError (ArithmeticError) 7   training that stopped being finite
    └── RequirementError (RuntimeError) 8   a stated requirement that was not met

Messages are one lower-case clause: what is wrong, what was given, what is accepted.
"""

from collections.abc import Sequence
from typing import ClassVar

_SHOWN_TEXT = 80


class RecaeError(Exception):
    """Base of all errors raised by `recae`."""

    exit_code: ClassVar[int] = 1


class ConfigError(RecaeError, ValueError):
    """An option, parameter or call that is not accepted."""

    exit_code = 2


class DataError(RecaeError, ValueError):
    """Input data that is refused."""

    exit_code = 3


class UnknownIdError(DataError, LookupError):
    """An id that the data or the model does not know."""


class NoKnownItemError(UnknownIdError):
    """A history of which the model knows no item."""


class NotFittedError(RecaeError, RuntimeError):
    """A model asked for scores before it was fitted."""

    exit_code = 4


class BundleError(RecaeError, RuntimeError):
    """A model directory that is missing, damaged or written by a newer version."""

    exit_code = 4


class ResourceError(RecaeError, RuntimeError):
    """Not enough disk, memory, or no such device."""

    exit_code = 5


class BusyError(RecaeError, RuntimeError):
    """A directory that another process holds."""

    exit_code = 6


class DivergedError(RecaeError, ArithmeticError):
    """Training whose loss stopped being finite."""

    exit_code = 7


class RequirementError(RecaeError, RuntimeError):
    """A requirement stated by the caller that the result does not meet."""

    exit_code = 8


def shown(values: Sequence[object], limit: int = 5) -> str:
    """Offending values for a message: at most `limit` of them, then how many more there are.

    Of a long one the first characters are shown.

    Examples
    --------
    >>> shown(["a", "b"])
    "'a', 'b'"
    >>> shown(range(9))
    '0, 1, 2, 3, 4 and 4 more'
    """
    text = ", ".join(_shortened(repr(value)) for value in values[:limit])
    return text if len(values) <= limit else f"{text} and {len(values) - limit} more"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}..."
