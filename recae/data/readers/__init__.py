"""Readers: CSV, Parquet and DataFrames to `Interactions`, with every row accounted for."""

from recae.data.readers.grouped import Group, GroupedReading
from recae.data.readers.id_table import user_labels
from recae.data.readers.options import ReadOptions
from recae.data.readers.read import read_interactions

__all__ = ["Group", "GroupedReading", "ReadOptions", "read_interactions", "user_labels"]
