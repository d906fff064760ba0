"""The HTTP application of `recae`: recommendations as JSON, served by waitress."""

from recae_api.app import create_app
from recae_api.keys import Key, Scope, create_key, read_keys, revoke_key
from recae_api.server import Server, serve
from recae_api.settings import Settings

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
