"""What there is of a kind, models or protocols, with options: as text and as JSON."""

import inspect
from collections.abc import Mapping
from typing import Any

import click

from recae.cli.output import show
from recae.evaluation.aligned import aligned
from recae.options import Options, listed

_WIDTH = 100  # characters of a line of help
_INDENT = " " * 6


def show_options(
    kinds: Mapping[str, tuple[type[Any], type[Options]]], *, in_full: bool, as_json: bool
) -> None:
    """Print every kind by name: what its class is, and the options it has.

    Parameters
    ----------
    kinds
        The class whose docstring says what it is, and its options.
    in_full
        Also what each option means, and what `recae tune` tries.
    """
    value = {
        name: {"about": _about(kind), "options": listed(options)}
        for name, (kind, options) in kinds.items()
    }
    blocks = [
        "\n".join([f"{name}: {_about(kind)}", *_rows(options, in_full)])
        for name, (kind, options) in kinds.items()
    ]
    show(value, "\n\n".join(blocks), as_json=as_json)


def _about(kind: type[Any]) -> str:
    """First paragraph of the docstring, in one line, and what a protocol does with seen pairs."""
    first = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0]
    return " ".join([*first.replace("`", "").split(), getattr(kind, "of_seen", "")]).strip()


def _rows(options: type[Options], in_full: bool) -> list[str]:
    found = listed(options)
    if not found:
        return ["  it has no options"]
    cells = [("option", "default", "accepted")] + [
        (
            str(one["name"]),
            "none" if one["default"] is None else str(one["default"]),
            ", ".join(str(one[key]) for key in ("type", "accepted") if one[key]),
        )
        for one in found
    ]
    lines = [f"  {line}" for line in aligned(cells, left=(0, 1, 2))]
    if not in_full:
        return lines
    out = lines[:1]
    for line, one in zip(lines[1:], found, strict=True):
        out += [line, click.wrap_text(str(one["help"]), _WIDTH, _INDENT, _INDENT)]
        if one["searched"]:
            out.append(f"{_INDENT}recae tune tries {one['searched']}.")
    return out
