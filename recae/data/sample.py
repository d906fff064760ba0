"""The sample data that comes with the package."""

from pathlib import Path

from recae.data.interactions import Interactions
from recae.data.readers import read_interactions
from recae.errors import DataError

_PACKAGED = Path(__file__).parent / "sample"
_CHECKOUT = Path(__file__).parents[2] / "data" / "sample"


def sample_directory() -> Path:
    """Where ``interactions.csv`` and ``items.csv`` of the sample are.

    Raises
    ------
    DataError
        If the installation lacks them.
    """
    for directory in (_PACKAGED, _CHECKOUT):
        if (directory / "interactions.csv").is_file():
            return directory
    raise DataError(f"the sample data is missing from this installation ({_PACKAGED})")


def sample() -> Interactions:
    """Interactions of the sample, with titles: synthetic, see ``data/README.md``."""
    directory = sample_directory()
    return read_interactions(directory / "interactions.csv", items=directory / "items.csv")
