"""The command line, one file per command."""

from recae.cli.main import main

__all__ = ["main"]
