"""Options: what a caller may set, said once: default, bounds, what `tune` tries, and help.

A class of options is a frozen dataclass that extends `Options`, its fields are made by `option`:
configs of models, options of protocols and of readers. Types are checked by pydantic, which is
imported here alone, and not before a value is given: checking a small file takes less CPU time than
that import.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from datetime import date
from functools import cache, wraps
from inspect import get_annotations
from types import UnionType
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    cast,
    final,
    get_args,
    get_origin,
)

import numpy as np

from recae.errors import ConfigError

T = TypeVar("T")
P = ParamSpec("P")
Given = TypeVar("Given", bound="Options")
_KEY = "recae.option"


@final
@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes
    ----------
    low, high
        The bounds; whole numbers where both are ints.
    log
        Whether equal ratios are equally likely, and not equal differences.
    """

    low: int | float
    high: int | float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        kind = "int" if self.whole else "real"
        return f"{self.low:g} to {self.high:g} ({kind}{', log' if self.log else ''})"


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """A few values without an order; None is the default of an option that is off by default."""

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return " | ".join("none" if v is None else str(v) for v in self.values)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What an option says beside its type and default; see `option`."""

    help: str
    low: int | float | None
    high: int | float | None
    above: int | float | None
    below: int | float | None
    search: Range | Choice | None
    only_with: tuple[str, object] | None

    @property
    def accepted(self) -> str:
        """The bounds in words; empty where there are none."""
        if self.low is not None and self.high is not None:
            return f"{self.low} to {self.high}"
        words = {"at least": self.low, "above": self.above, "at most": self.high}
        words["below"] = self.below
        return " and ".join(f"{word} {bound}" for word, bound in words.items() if bound is not None)

    def accepts(self, number: int | float) -> bool:
        """Whether `number` is finite and within the bounds."""
        return (
            (isinstance(number, int) or math.isfinite(number))
            and (self.low is None or number >= self.low)
            and (self.above is None or number > self.above)
            and (self.high is None or number <= self.high)
            and (self.below is None or number < self.below)
        )


def option(
    default: T,
    *,
    help: str,
    low: int | float | None = None,
    high: int | float | None = None,
    above: int | float | None = None,
    below: int | float | None = None,
    search: Range | Choice | None = None,
    only_with: tuple[str, object] | None = None,
) -> T:
    """Return the field of an option, for the body of a class that extends `Options`.

    Parameters
    ----------
    default
        What it is where nothing is given.
    help
        What it means, in a sentence or two.
    low, high, above, below
        Bounds of its numbers, those of a list included: `low` and `high` are accepted themselves.
        Numbers are finite in any case.
    search
        What `tune` tries; None leaves the option out.
    only_with
        Another option and the one value of it beside which this option matters.
    """
    about = Details(
        help=help,
        low=low,
        high=high,
        above=above,
        below=below,
        search=search,
        only_with=only_with,
    )
    return field(default=default, metadata={_KEY: about})


class Options:
    """Options by name; extended by dataclasses that are frozen, slotted and keyword-only.

    Values are checked when an object is made. Numbers of NumPy become those of Python, lists
    tuples, and a whole number a float where only that is accepted; a text option takes a date, as
    ISO 8601, and a whole number. Nothing else is converted: ``"4"`` is no number, True is not 1.

    Attributes
    ----------
    removed
        Names of options that there once were: stored options may hold them, and they say nothing.

    Raises
    ------
    ConfigError
        If a value is of another type or outside the bounds.

    Examples
    --------
    >>> @dataclass(frozen=True, slots=True, kw_only=True)
    ... class Solving(Options):
    ...     l2: float = option(500.0, above=0, help="Weight of the squares.")
    >>> Solving(l2=3)
    Solving(l2=3.0)
    >>> Solving.of({"l2": -1.0}, where="ease")
    Traceback (most recent call last):
        ...
    recae.errors.ConfigError: ease: option l2 is -1.0; above 0 is accepted
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    __no_type_check__: ClassVar[bool] = True  # values of other types are for `ConfigError` to name
    removed: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        # a slotted dataclass is made twice: when this runs for the second one, the fields are known
        if "__dataclass_fields__" in vars(cls):
            cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{_numpydoc(cls)}"

    def __post_init__(self) -> None:
        hints = _hints(type(self))
        for one in fields(self):
            given = getattr(self, one.name)
            if given is not one.default:
                value = _checked(one.name, given, hints[one.name], details(one))
                object.__setattr__(self, one.name, value)
        self.check()

    def check(self) -> None:
        """Refuse options that do not go together, or that no bounds can describe.

        Raises
        ------
        ConfigError
            If there are any.
        """

    @classmethod
    def of(cls: type[Given], options: Mapping[str, object], *, where: str) -> Given:
        """Options made of `options`, by name; `where` is what has them, for errors.

        Raises
        ------
        ConfigError
            If a name is unknown or a value is not accepted.
        """
        names = [one.name for one in fields(cls)]
        for name in options:
            if name not in names:
                accepts = ", ".join(names) or "none"
                raise ConfigError(f"{where} has no option {name!r}; it accepts {accepts}")
        try:
            return cls(**options)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error

    @classmethod
    def stored(cls: type[Given], options: Mapping[str, object]) -> Given:
        """Options made of `options` that were stored, maybe by an earlier version.

        Names that the class, or one that it extends, has in `removed` are ignored. Options that
        there were not yet get their defaults.

        Raises
        ------
        ConfigError
            If any other name is unknown or a value is not accepted.
        """
        removed = {name for base in cls.__mro__ for name in vars(base).get("removed", ())}
        known = {name: value for name, value in options.items() if name not in removed}
        return cls.of(known, where=cls.__name__)

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def takes_text(kind: type[Options], name: str) -> bool:
    """Whether the option `name` of `kind`, if there is one, takes any text."""
    return _takes_text(_hints(kind).get(name))


def details(one: Field[Any]) -> Details:
    """What the option `one` of a class of options says beside its type and default."""
    found: Details = one.metadata[_KEY]
    return found


def listed(kind: type[Options]) -> list[dict[str, object]]:
    """The options of `kind` for people: name, type, default, accepted, searched and help.

    Examples
    --------
    >>> from recae.models.ease import EASEConfig
    >>> listed(EASEConfig)[0]["accepted"]
    'above 0'
    """
    hints = _hints(kind)
    return [
        {
            "name": one.name,
            "type": _named(hints[one.name]),
            "default": list(one.default) if isinstance(one.default, tuple) else one.default,
            "accepted": details(one).accepted,
            "searched": "" if details(one).search is None else str(details(one).search),
            "help": details(one).help,
        }
        for one in fields(kind)
    ]


def configured_by(
    kind: Callable[P, Options],
) -> Callable[[Callable[[T], None]], Callable[Concatenate[T, P], None]]:
    """Let the constructor of a model take the options of `kind` by name, its ``config``.

    Editors, type checkers and `inspect.signature` show every option. A whole `kind` is accepted as
    well, as the argument ``config``.

    Raises
    ------
    ConfigError
        Leaves the constructor if a name or value is not accepted, a config and options are both
        given, or the config is one of another model.
    """
    assert isinstance(kind, type)
    assert issubclass(kind, Options)
    hints = _hints(kind)
    keyword, either = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter("self", either),
        inspect.Parameter("config", either, default=None, annotation=kind | None),
        *(
            inspect.Parameter(one.name, keyword, default=one.default, annotation=hints[one.name])
            for one in fields(kind)
        ),
    ]

    def decorate(prepare: Callable[[T], None]) -> Callable[Concatenate[T, P], None]:
        @wraps(prepare)
        def init(self: Any, config: object = None, **options: object) -> None:
            self.config = config_of(kind, config, options, where=type(self).__name__)
            prepare(self)

        init.__doc__ = kind.__doc__
        init.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # functions take attributes
        return cast(Callable[Concatenate[T, P], None], init)

    return decorate


def config_of(
    kind: type[Options], config: object, options: Mapping[str, object], *, where: str
) -> Options:
    """Return `config`, or where it is None the options made of `options`, by name.

    Parameters
    ----------
    where
        What is constructed, for errors.

    Raises
    ------
    ConfigError
        If a name or value is not accepted, both are given, or `config` is one of another model.
    """
    if config is None:
        return kind.of(options, where=where)
    if options:
        raise ConfigError(f"{where}: a config and options were both given; one is accepted")
    if not isinstance(config, kind):
        raise ConfigError(
            f"{where}: the config is of type {type(config).__name__}; accepted: {kind.__name__}"
        )
    return config


def _numpydoc(kind: type[Options]) -> str:
    """Section of a docstring about the options of `kind`."""
    lines = ["Attributes", "----------"]
    for one in listed(kind):
        bounds = f", {one['accepted']}" if one["accepted"] else ""
        lines += [f"{one['name']} : {one['type']}, default {one['default']!r}{bounds}"]
        lines += [f"    {one['help']}"]
    return "\n".join(lines if lines[2:] else ["There are none."])


def _hints(kind: type[Options]) -> dict[str, Any]:
    """Type of each option; `get_type_hints` says nothing of a class with ``__no_type_check__``."""
    bases = reversed(kind.__mro__)
    return {k: v for base in bases for k, v in get_annotations(base, eval_str=True).items()}


def _checked(name: str, given: object, hint: Any, bounds: Details) -> object:
    try:
        value = _validator(hint)(_as_text(_plain(given), hint))
    except ValueError:  # what pydantic says of it is not for our users
        raise ConfigError(f"option {name} is {given!r}; it is of type {_named(hint)}") from None
    if not all(bounds.accepts(number) for number in _numbers(value)):
        accepted = bounds.accepted or "a finite number"
        raise ConfigError(f"option {name} is {given!r}; {accepted} is accepted")
    return value


@cache
def _validator(hint: Any) -> Callable[[object], object]:
    from pydantic import ConfigDict, TypeAdapter

    adapter: TypeAdapter[object] = TypeAdapter(hint, config=ConfigDict(strict=True))
    return adapter.validate_python


def _plain(value: object) -> object:
    if isinstance(value, np.datetime64):
        return value.astype("datetime64[us]").item()
    if isinstance(value, np.generic):
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _takes_text(hint: Any) -> bool:
    return str in (hint, *get_args(hint))


def _as_text(value: object, hint: Any) -> object:
    if _takes_text(hint):
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return value


def _numbers(value: object) -> Iterator[int | float]:
    if isinstance(value, tuple):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def _named(hint: Any) -> str:
    """`hint` in words."""
    kind, arguments = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return " | ".join(map(_named, arguments))
    if kind is Literal:
        return " | ".join(map(repr, arguments))
    if kind is tuple:
        return f"list of {_named(arguments[0])}"
    return "None" if hint is type(None) else str(hint.__name__)
