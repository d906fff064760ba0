"""The HTTP application of `recae`: recommendations as JSON, served by waitress.

The names below are loaded when first asked for, so that keys are managed without torch and Flask.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recae_api.app import create_app
    from recae_api.keys import Key, Scope, create_key, read_keys, revoke_key
    from recae_api.server import Server, serve
    from recae_api.settings import Settings

_PUBLIC = {
    "Key": "keys",
    "Scope": "keys",
    "Server": "server",
    "Settings": "settings",
    "create_app": "app",
    "create_key": "keys",
    "read_keys": "keys",
    "revoke_key": "keys",
    "serve": "server",
}

__all__ = [
    "Key",
    "Scope",
    "Server",
    "Settings",
    "create_app",
    "create_key",
    "read_keys",
    "revoke_key",
    "serve",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"recae_api.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'recae_api' has no attribute {name!r}")
