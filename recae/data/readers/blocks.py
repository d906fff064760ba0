"""`Blocks`: the lines of a text stream in large pieces that end where a row ends."""

import io
from dataclasses import dataclass
from typing import final

import numpy as np

from recae.data.readers.exact import MAX_LINE_BYTES
from recae.errors import DataError

BLOCK_BYTES = 4 << 20
BOM = b"\xef\xbb\xbf"
_NEWLINE, _QUOTE = 10, 34


@final
@dataclass(frozen=True, slots=True)
class Block:
    """Some lines.

    Attributes
    ----------
    text
        Lines, each ended by a line feed whatever the file has, perhaps without the last one.
    stop
        The rows of this block start before this offset; what follows is there to complete the last.
    plain
        Whether every line is a row by itself: its quotes match on that line.
    """

    text: bytes
    stop: int
    plain: bool


def lines_stand_alone(text: bytes, sep: bytes) -> bool:
    """Whether quotes in `text` only enclose whole fields, of one line, without quotes inside.

    Then the simple reader and the exact one agree on where rows and fields end.
    """
    if b'"' not in text:
        return True
    data = np.frombuffer(text, dtype=np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    if len(quotes) % 2:
        return False
    padded = np.frombuffer(b"\n" + text + b"\n", dtype=np.uint8)
    before, after = padded[quotes[::2]], padded[quotes[1::2] + 2]
    opened = (before == sep[0]) | (before == _NEWLINE)
    closed = (after == sep[0]) | (after == _NEWLINE)
    if not (opened.all() and closed.all()):
        return False
    return not (np.searchsorted(quotes, np.flatnonzero(data == _NEWLINE)) % 2).any()


@final
class Blocks:
    """Blocks of a stream, one after the other.

    Parameters
    ----------
    stream
        Bytes; a byte-order mark is skipped, and every line end becomes a line feed.
    name
        What to call the stream in an error.
    size
        Bytes to a block.
    """

    def __init__(self, stream: io.BufferedIOBase, name: str, *, size: int = BLOCK_BYTES) -> None:
        self.name = name
        self._stream, self._size = stream, size
        self._buffer = b""
        self._ended = False
        self.line = 1  # of the first row not handed on by whoever reads the blocks
        self._held = b""  # a carriage return that may be half of a line end
        self._fill(len(BOM))
        self._buffer = self._buffer.removeprefix(BOM)

    def _fill(self, wanted: int) -> None:
        pieces, have = [self._buffer], len(self._buffer)
        while have < wanted and not self._ended:
            chunk = self._stream.read(wanted - have)
            self._ended = not chunk
            chunk = self._held + chunk
            self._held = b""
            if b"\r" in chunk:
                if chunk.endswith(b"\r") and not self._ended:
                    chunk, self._held = chunk[:-1], b"\r"
                chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            pieces.append(chunk)
            have += len(chunk)
        self._buffer = b"".join(pieces)

    def head(self, n_lines: int) -> list[bytes]:
        """Return the first lines that are not blank, without taking them."""
        self._fill(self._size)
        lines = [line for line in self._buffer[: 4 * MAX_LINE_BYTES].split(b"\n") if line]
        return lines[:n_lines]

    def skip_line(self) -> None:
        """Take the first line that is not blank, and the blank ones before it."""
        blank = len(self._buffer) - len(self._buffer.lstrip(b"\n"))
        end = self._buffer.find(b"\n", blank)
        self._buffer = self._buffer[end + 1 :] if end >= 0 else b""
        self.line += blank + 1

    def next(self, sep: bytes) -> Block | None:
        """Return the next block, None at the end; take one that is not plain with `advance`.

        Raises
        ------
        DataError
            If a line is longer than `MAX_LINE_BYTES`.
        """
        stop = 0
        while not stop:
            self._fill(len(self._buffer) + self._size)
            if not self._buffer:
                return None
            stop = len(self._buffer) if self._ended else self._buffer.rfind(b"\n") + 1
            self._refuse_long_lines()
        text = self._buffer if stop == len(self._buffer) else self._buffer[:stop]
        if len(sep) > 1 or lines_stand_alone(text, sep):
            self._buffer = self._buffer[stop:]
            return Block(text, stop, plain=True)
        self._fill(stop + MAX_LINE_BYTES)
        return Block(self._buffer, stop, plain=False)

    def advance(self, offset: int) -> None:
        """Take the bytes of a block up to `offset`."""
        self._buffer = self._buffer[offset:]

    def _refuse_long_lines(self) -> None:
        # A line too long covers one of these steps whole, so most blocks are settled by looking
        # for one line feed in each
        step = MAX_LINE_BYTES // 2
        text = self._buffer
        if all(text.find(b"\n", at, at + step) >= 0 for at in range(0, len(text) - step, step)):
            return
        ends = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == _NEWLINE)
        if np.diff(ends, prepend=-1, append=len(text)).max() > MAX_LINE_BYTES + 1:
            raise DataError(
                f"{self.name} has a line of more than {MAX_LINE_BYTES >> 20} MiB; that is no row"
            )
