"""Constructors: one config dataclass per model, given whole or by keyword."""

from collections.abc import Mapping
from typing import TypeVar

from recae.data.options import checked_options
from recae.errors import ConfigError

Config = TypeVar("Config")


def configured(kind: type[Config], config: Config | None, options: Mapping[str, object]) -> Config:
    """Config of type `kind`: `config` itself, or one made of `options`.

    Raises
    ------
    ConfigError
        If both are given, `config` is one of another model, a name is unknown or a value is not
        accepted.
    """
    name = kind.__name__
    if config is None:
        return kind(**checked_options(kind, options, where=name))
    if options:
        raise ConfigError(f"a {name} and options were both given; one is accepted")
    if not isinstance(config, kind):
        raise ConfigError(f"the config is of type {type(config).__name__}; accepted: {name}")
    return config
