"""Versions: of this package, and of what else is installed."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION", "installed_version"]


def installed_version(name: str) -> str | None:
    """Version of the distribution called `name`; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


# A checkout need not be installed, as on a machine where nothing can be.
VERSION = installed_version("recae") or "0+checkout"
