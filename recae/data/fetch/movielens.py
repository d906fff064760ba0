"""What GroupLens publishes, and how it is read."""

from dataclasses import dataclass
from typing import final

GROUPLENS = "https://files.grouplens.org/datasets/movielens"

_TERMS = (
    "MovieLens data is for research: no redistribution and no commercial use without permission of"
    " GroupLens; cite Harper and Konstan 2015, doi 10.1145/2827872"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A data set that its publisher offers as ``NAME.zip`` beside ``NAME.zip.md5``.

    Attributes
    ----------
    max_archive_bytes, max_unpacked_bytes
        About twice what was published; more is refused.
    ratings, items
        Its files for reading.
    options
        Options of ``recae train`` that read them.
    terms
        The licence in a sentence.
    """

    max_archive_bytes: int
    max_unpacked_bytes: int
    ratings: str = "ratings.csv"
    items: str = "movies.csv"
    options: tuple[str, ...] = ("--min-rating", "4", "--min-user", "5")
    terms: str = _TERMS


_MB = 1_000_000

MOVIELENS = {
    "ml-latest-small": Published(max_archive_bytes=2 * _MB, max_unpacked_bytes=8 * _MB),
    "ml-1m": Published(
        max_archive_bytes=12 * _MB,
        max_unpacked_bytes=50 * _MB,
        ratings="ratings.dat",
        items="movies.dat",
        options=(
            *("--no-header", "--set", "read.items_encoding=latin-1"),
            *("--min-rating", "4", "--min-user", "5"),
        ),
    ),
    "ml-20m": Published(max_archive_bytes=400 * _MB, max_unpacked_bytes=1_800 * _MB),
    "ml-25m": Published(max_archive_bytes=525 * _MB, max_unpacked_bytes=2_400 * _MB),
    "ml-32m": Published(max_archive_bytes=480 * _MB, max_unpacked_bytes=2_000 * _MB),
}
