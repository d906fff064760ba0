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


def stored_config(kind: type[Config], options: Mapping[str, object]) -> Config:
    """Config of type `kind` from `options` that were stored, maybe by an earlier version.

    Options that `kind` no longer has are ignored: those that it, or a class it extends, names in
    ``removed``, a frozenset. Options that it did not have yet get their defaults.

    Raises
    ------
    ConfigError
        If any other name is unknown or a value is not accepted.
    """
    removed = {name for base in kind.__mro__ for name in vars(base).get("removed", ())}
    known = {name: value for name, value in options.items() if name not in removed}
    return configured(kind, None, known)


def config_json(config: Any) -> dict[str, object]:
    """Hyper-parameters, a config dataclass, as JSON values."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
