"""Public data sets, downloaded from their publisher; nothing of the package needs them."""

from recae.data.fetch.archive import Fetched, fetch
from recae.data.fetch.movielens import GROUPLENS, MOVIELENS, Published

__all__ = ["Fetched", "GROUPLENS", "MOVIELENS", "Published", "fetch"]
