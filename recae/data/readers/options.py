"""`ReadOptions`: what a reader may be told about its input."""

import math
from dataclasses import dataclass
from typing import final

from recae.errors import ConfigError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read interactions; every default is what most files need.

    Attributes
    ----------
    user_col, item_col, rating_col, time_col, split_col
        Column names, or positions counted from 1 (``"1"``) with ``header=False``. None looks for a
        known name; ``""`` says that the column is not to be used. `split_col` is never guessed.
    sep
        Column separator of text files, of any length. None tries comma, tab, ``;``, ``|``, ``::``.
        Quotes have a meaning with separators of one character only.
    header
        Whether text files start with column names. Without, and without named columns, the
        columns are user, item, rating, time.
    min_rating
        Rows rated lower are dropped. None keeps all rows: each one counts as a positive.
    keep_ratings
        Store ratings, which must then be above 0, as the values of interactions. Graded metrics
        read them; models learn who has what, whatever the values.
    min_user, min_item
        Users and items with fewer pairs are dropped after duplicates are merged: first items, then
        users, one pass each.
    max_bad_rows
        Malformed rows above which an input is refused: a share below 1, a count from 1 on.
    max_id_length
        Longest id, in bytes of UTF-8.
    items_encoding
        Encoding of the text file of items; nothing else is ever tried.

    Raises
    ------
    ConfigError
        If a value is not accepted.
    """

    user_col: str | None = None
    item_col: str | None = None
    rating_col: str | None = None
    time_col: str | None = None
    split_col: str | None = None
    sep: str | None = None
    header: bool = True
    min_rating: float | int | None = None
    keep_ratings: bool = False
    min_user: int = 0
    min_item: int = 0
    max_bad_rows: float | int = 0.01
    max_id_length: int = 4096
    items_encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if self.sep is not None and (not self.sep or set(self.sep) & set('"\r\n')):
            raise ConfigError(
                f"sep is {self.sep!r}; accepted: characters other than quotes and line ends"
            )
        if self.min_rating is not None and not math.isfinite(self.min_rating):
            raise ConfigError(f"min_rating is {self.min_rating}; accepted: a finite number")
        for name in ("min_user", "min_item"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; accepted: 0 or more")
        if not 0 <= self.max_bad_rows < math.inf:
            raise ConfigError(
                f"max_bad_rows is {self.max_bad_rows}; accepted: a share below 1 or a count"
            )
        if self.max_id_length < 1:
            raise ConfigError(f"max_id_length is {self.max_id_length}; accepted: 1 or more")
        try:
            "".encode(self.items_encoding)
        except LookupError as error:
            raise ConfigError(
                f"items_encoding is {self.items_encoding!r}; accepted: an encoding Python knows"
            ) from error
