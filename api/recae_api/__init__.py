"""The HTTP application of `recae`: recommendations as JSON, served by waitress."""

from recae_api.app import create_app
from recae_api.settings import Settings

__all__ = ["Settings", "create_app"]
