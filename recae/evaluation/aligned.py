"""A table as lines of text, and as HTML."""

from collections.abc import Collection, Sequence
from html import escape


def aligned(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> list[str]:
    """Lines of a table, two blanks between columns.

    Parameters
    ----------
    rows
        Cells, as many in each row, the head first.
    left
        Columns of names, aligned on the left; figures are on the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def html_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    caption: str = "",
    left: Collection[int] = (0,),
) -> str:
    """A table as HTML, for notebooks. Cells are text of anybody, and escaped.

    Parameters
    ----------
    head, rows
        Cells, as many in each.
    caption
        What it is, above it.
    left
        Columns of names, aligned on the left; figures are on the right.
    """

    def line(cells: Sequence[str], tag: str) -> str:
        sides = ("left" if i in left else "right" for i in range(len(cells)))
        inner = (
            f'<{tag} style="text-align:{side}">{escape(cell)}</{tag}>'
            for cell, side in zip(cells, sides, strict=True)
        )
        return f"<tr>{''.join(inner)}</tr>"

    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    body = "".join(line(row, "td") for row in rows)
    return f"<table>{said}<thead>{line(head, 'th')}</thead><tbody>{body}</tbody></table>"
