"""`ReadOptions`: what a reader may be told about its input."""

from dataclasses import dataclass
from typing import final

from recae.errors import ConfigError
from recae.options import Options, option


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions(Options):
    """How to read interactions; every default is what most files need.

    Columns are names, or positions counted from 1 (``"1"``) where no column has that name. None
    looks for a known name; ``""`` says that the column is not to be used.
    """

    user_col: str | None = option(None, help="Column of the user ids.")
    item_col: str | None = option(None, help="Column of the item ids.")
    rating_col: str | None = option(None, help="Column of the ratings.")
    time_col: str | None = option(None, help="Column of the times.")
    split_col: str | None = option(
        None, help="Column with train, validation or test; it is never guessed."
    )
    sep: str | None = option(
        None,
        help="Column separator of text files, of any length; \\t is a tab. None tries comma, tab,"
        " ;, |, ::. Quotes have a meaning with separators of one character only.",
    )
    header: bool = option(
        True,
        help="Whether text files start with column names. Without, and without named columns, the"
        " columns are user, item, rating, time.",
    )
    min_rating: float | int | None = option(
        None,
        help="Rows rated lower are dropped. None keeps all rows: each one counts as a positive.",
    )
    keep_ratings: bool = option(
        False,
        help="Store ratings, which must then be above 0, as the values of interactions. Graded"
        " metrics read them; models learn who has what, whatever the values.",
    )
    min_user: int = option(
        0,
        low=0,
        help="Users with fewer pairs are dropped after duplicates are merged: first items, then"
        " users, one pass each.",
    )
    min_item: int = option(0, low=0, help="The same for items.")
    max_bad_rows: float | int = option(
        0.01,
        low=0,
        help="Malformed rows above which an input is refused: a share below 1, a count from 1 on.",
    )
    ids_as_written: bool = option(
        False,
        help="Take every text as an id. Otherwise 12.0 is the id 12, written as a number by other"
        " programs, and rows with nan, null, None or NA for an id are dropped.",
    )
    max_id_length: int = option(4096, low=1, help="Longest id, in bytes of UTF-8.")
    items_id_col: str | None = option(
        None, help="Column of the item ids in the file of items, if it has another name there."
    )
    items_title_col: str | None = option(None, help="Column of the titles in the file of items.")
    items_encoding: str = option(
        "utf-8", help="Encoding of the text file of items; nothing else is ever tried."
    )

    def check(self) -> None:
        """Refuse separators that quotes or line ends would break, and unknown encodings."""
        if self.sep == "\\t":  # as a shell hands it over
            object.__setattr__(self, "sep", "\t")
        if self.sep is not None and (not self.sep or set(self.sep) & set('"\r\n')):
            raise ConfigError(
                f"sep is {self.sep!r}; accepted: characters other than quotes and line ends"
            )
        try:
            "".encode(self.items_encoding)
        except LookupError as error:
            raise ConfigError(
                f"items_encoding is {self.items_encoding!r}; accepted: an encoding Python knows"
            ) from error
