"""Results: JSON or text on stdout, files whole or not at all."""

import json
import sys
from pathlib import Path

import click

from recae.storage import write_atomic


def show(value: object, text: str, *, as_json: bool) -> None:
    """Print `value` as JSON, or `text`."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False) if as_json else text)


def write_text(path: Path | None, text: str) -> None:
    """Write `text` to `path`, atomically; None or ``-`` is stdout."""
    if path is None or str(path) == "-":
        sys.stdout.write(text)
    else:
        write_atomic(path, text.encode())
