"""The slow, exact reader: the definition of what a row is, one record at a time.

A record ends at a line end outside quotes. A field is quoted if it starts with a quote; it then
ends at the first lone quote, which must be followed by a separator or a line end (RFC 4180); two
quotes stand for one. A quote inside a field that does not start with one is an ordinary character.

A record whose quotes do not match, or that is longer than `MAX_LINE_BYTES`, costs its first line
and no more: reading goes on with the next line. So a quote never closed loses one row, not half of
the file. A record with the wrong number of fields, or a line break in a column that is used, is
rejected whole, so that no half of it is taken for a row; unless a line inside it is a row by
itself: then its quotes are taken for two that were never closed, and it too costs its first line.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import final

MAX_LINE_BYTES = 1 << 20


@lru_cache(maxsize=8)
def _field_pattern(sep: bytes) -> re.Pattern[bytes]:
    s = re.escape(sep)
    return re.compile(rb'(?:"([^"]*+(?:""[^"]*+)*+)"|((?!")[^\n%b]*+))(?=(%b)|\n|\Z)' % (s, s))


def split_record(text: bytes, start: int, stop: int, sep: bytes) -> tuple[list[bytes], int] | None:
    """Fields of the record at `start` and where it ends, before its line end; None if malformed.

    The quotes and doubled quotes of quoted fields are taken off. Nothing from `stop` on is read.
    """
    pattern = _field_pattern(sep)
    fields = []
    while True:
        match = pattern.match(text, start, stop)
        if match is None:
            return None
        quoted, plain, separator = match.groups()
        fields.append(plain if plain is not None else quoted.replace(b'""', b'"'))
        if separator is None:
            return fields, match.end()
        start = match.end() + len(sep)


def split_line(line: bytes, sep: bytes) -> list[bytes] | None:
    """Fields of one line; None if its quotes do not match.

    Examples
    --------
    >>> split_line(b'u1,"a ""b"", c",4', b",")
    [b'u1', b'a "b", c', b'4']
    >>> split_line(b'u1,"a"b,4', b",") is None
    True
    """
    if len(sep) > 1:
        return line.split(sep)
    found = split_record(line, 0, len(line), sep)
    return None if found is None or found[1] != len(line) else found[0]


@final
@dataclass(slots=True)
class ExactRows:
    """What `read_exactly` found.

    Attributes
    ----------
    fields
        The used columns of each good row, in the order they were asked for.
    lines
        Line of each good row, counted from 0 in the block.
    raw
        Bytes of each good row.
    rejects
        ``(line, reason, bytes)`` of each row that is none.
    stop, stop_line
        Where reading stopped: the start of a record.
    """

    fields: list[list[bytes]]
    lines: list[int] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    rejects: list[tuple[int, str, bytes]] = field(default_factory=list)
    stop: int = 0
    stop_line: int = 0


def read_exactly(
    text: bytes,
    start: int,
    stop: int,
    *,
    sep: bytes,
    n_fields: int,
    used: Collection[int],
    multiline: Collection[int] = (),
) -> ExactRows:
    r"""Rows of the records that start in ``text[start:stop]``.

    Parameters
    ----------
    text
        Lines ended by ``\n`` only. A record that starts before `stop` may end after it.
    used
        Positions of the columns to return.
    multiline
        Positions of those among them that may break the line.
    """
    out = ExactRows(fields=[[] for _ in used])
    one_line = [place for place in used if place not in multiline]
    line = 0
    while start < stop:
        end = text.find(b"\n", start)
        end = len(text) if end < 0 else end
        if end == start:
            start, line = end + 1, line + 1
            continue
        fields: list[bytes] | None
        if len(sep) > 1 or text.find(b'"', start, end) < 0:
            fields = text[start:end].split(sep)
        else:
            fields, limit = None, min(len(text), start + MAX_LINE_BYTES)
            found = split_record(text, start, limit, sep)
            if found is not None and not found[1] == limit < len(text):  # the limit ends no record
                whole = len(found[0]) == n_fields
                whole = whole and not any(b"\n" in found[0][place] for place in one_line)
                fields = found[0] if whole else None
                if whole or not _holds_row(text[start : found[1]], sep, n_fields):
                    end = found[1]
        raw = text[start:end]
        if not is_utf8(raw):
            out.rejects.append((line, "not_utf8", raw))
        elif fields is None or len(fields) != n_fields:
            out.rejects.append((line, "malformed", raw))
        else:
            out.lines.append(line)
            out.raw.append(raw)
            for column, place in zip(out.fields, used, strict=True):
                column.append(fields[place])
        start, line = end + 1, line + 1 + raw.count(b"\n")
    out.stop, out.stop_line = min(start, len(text)), line
    return out


def _holds_row(record: bytes, sep: bytes, n_fields: int) -> bool:
    """Whether a line between the first and the last is a row by itself."""
    inside = record.split(b"\n")[1:-1]
    return any(len(split_line(line, sep) or ()) == n_fields for line in inside)


def is_utf8(raw: bytes) -> bool:
    """Whether the bytes are UTF-8."""
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
