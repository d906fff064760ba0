"""Results: JSON or text on stdout, files whole or not at all."""

import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import click

from recae.errors import ConfigError

LISTS = click.Choice(["csv", "tsv", "parquet", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz"])
"""The formats of lists: `recae.serving.lists.FORMATS`, whose module loads pyarrow."""


_ENDINGS = frozenset(
    [
        "arrow",
        "bz2",
        "csv",
        "feather",
        "gz",
        "html",
        "json",
        "jsonl",
        "md",
        "ndjson",
        "parquet",
        "tsv",
        "xls",
        "xlsx",
        "xz",
        "zip",
        "zst",
    ]
)

# Controls but the line break, other breaks of lines, and what turns the direction of writing.
_COMMANDS_OF_TERMINALS = re.compile(
    r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


@final
class NewFile(click.Path):
    """A file to write, refused before any work where it could not be written in the end.

    Parameters
    ----------
    stdout
        Accept ``-``.
    ending
        That of the only format written here: a name with the ending of another one is refused.
    """

    def __init__(self, *, stdout: bool = False, ending: str | None = None) -> None:
        self._stdout = stdout
        self._ending = ending
        super().__init__(dir_okay=False, allow_dash=stdout, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # click's signature
        """Path of the file; ``-`` is stdout where that is allowed, and refused elsewhere."""
        if str(value) == "-" and not self._stdout:
            self.fail("- is no file; this is not written to stdout", param, ctx)
        if value == "":
            self.fail("an empty name is no file", param, ctx)
        ending = Path(value).suffix.lower().removeprefix(".")
        if self._ending is not None and ending != self._ending and ending in _ENDINGS:
            self.fail(f"{value!s}: .{self._ending} is what is written here", param, ctx)
        if not Path(value).absolute().parent.is_dir():
            self.fail(f"{value!s} has no directory to lie in; make it first", param, ctx)
        path = Path(str(super().convert(value, param, ctx)))
        if str(path) == "-":
            return path
        from recae.storage import named_file

        try:
            return named_file(path)
        except ConfigError as error:
            self.fail(f"{error}{' (- is stdout)' if self._stdout else ''}", param, ctx)


@final
class NewDirectory(click.Path):
    """A directory to write to, there or not; an empty name would be the current one."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(
        self,
        value: str | os.PathLike[str],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:  # click's signature
        """Path of the directory."""
        if value == "":
            self.fail("an empty name is no directory; . is the current one", param, ctx)
        return super().convert(value, param, ctx)


def refuse_overwriting(
    written: Iterable[tuple[str, Path | None]],
    read: Iterable[tuple[str, str | Path | None]],
    model: Path | None = None,
) -> None:
    """Refuse outputs of a command that are inputs, or files of the directory of the `model` too.

    Raises
    ------
    ConfigError
        As in `recae.storage.refuse_overwriting`.
    """
    from recae.storage import refuse_overwriting

    if model is not None:
        from recae.serving.bundle import files_of

        read = [*read, *(("the model", path) for path in files_of(model))]
    refuse_overwriting(written, read)


def show(value: object, text: str, *, as_json: bool) -> None:
    """Print `value` as JSON, or `text`; control characters of either are escaped."""
    shown = json.dumps(value, indent=2, ensure_ascii=False) if as_json else text
    click.echo(_COMMANDS_OF_TERMINALS.sub(_escaped, shown))


def one_line(text: str) -> str:
    """`text` of an input as a part of a line: line breaks are escaped too."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def write_text(path: Path | None, text: str) -> None:
    """Write `text` to `path`, atomically; None or ``-`` is stdout."""
    if path is None or str(path) == "-":
        sys.stdout.write(text)
    else:
        from recae.storage import write_atomic

        write_atomic(path, text.encode())
