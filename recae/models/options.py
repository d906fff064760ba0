"""Constructors: one config dataclass per model, given whole or by keyword."""

from dataclasses import fields, is_dataclass
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from recae.errors import ConfigError

Config = TypeVar("Config")


def configured(kind: type[Config], config: Config | None, options: dict[str, object]) -> Config:
    """Config of type `kind`: `config` itself, or one made of `options`.

    Raises
    ------
    ConfigError
        If both are given, a name is unknown or a value is not of the field's type.
    """
    assert is_dataclass(kind)
    if config is not None:
        if options:
            raise ConfigError(f"a {kind.__name__} and options were both given; one is accepted")
        return config
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigError(
            f"{kind.__name__} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    try:
        made: Config = TypeAdapter(kind).validate_python(options)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # raised by the config itself, which says what is wrong
            raise ConfigError(str(first["ctx"]["error"])) from error
        name = ".".join(str(part) for part in first["loc"][:1])
        raise ConfigError(f"{name} is {options.get(name)!r}: {first['msg'].lower()}") from error
    return made
