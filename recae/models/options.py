"""Constructors: one config dataclass per model, given whole or by keyword."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

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


def config_json(config: Any) -> dict[str, object]:
    """Hyper-parameters, a config dataclass, as JSON values."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
