"""`Table`: what benchmarks/tables/NAME/table.toml says, and where the files of its rows lie."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recae.experiment.config import load_config
from recae.models.registry import config_class

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table of docs/results.md.

    Attributes
    ----------
    name
        Its folder in benchmarks/tables.
    title, about
        What is said above it.
    data
        File of interactions, below the folder of the data sets.
    rows
        Names of its rows; NAME.toml beside is the run of each.
    seeds
        Training seeds of each model that has one.
    search
        Budget of the search of each row: ``trials``, ``prune_after_trials``,
        ``prune_after_epochs`` and optionally ``validation_draws``, ``validation_users``,
        ``timeout_s``.
    fixed
        Rows that are not searched, and why.
    published
        Figures of others, as printed, by row and metric; rows of theirs only are shown too.
    source
        Where these stand.
    """

    name: str
    title: str
    about: str
    data: str
    rows: tuple[str, ...]
    seeds: int
    search: Mapping[str, Any]
    fixed: Mapping[str, str]
    published: Mapping[str, Mapping[str, str]]
    source: str

    @property
    def folder(self) -> Path:
        """Where its configs lie."""
        return ROOT / "benchmarks" / "tables" / self.name

    @property
    def results(self) -> Path:
        """Where the files of its rows lie."""
        return ROOT / "benchmarks" / "results" / "tables" / self.name

    def config_file(self, row: str) -> Path:
        """Run of a row, as `recae compare --config` reads it."""
        return self.folder / f"{row}.toml"

    def result_file(self, row: str) -> Path:
        """Figures of a row, JSON."""
        return self.results / f"{row}.json"

    def vectors_file(self, row: str) -> Path:
        """Figures of each user, mean over seeds, Parquet."""
        return self.results / f"{row}.parquet"

    def is_tuned(self, row: str) -> bool:
        """Whether the options of a row are searched."""
        return row not in self.fixed

    def asked(self, row: str) -> dict[str, Any]:
        """All that decides the figures of a row, but the code and the data; as JSON values."""
        asked = {
            "data": self.data,
            "config": load_config(self.config_file(row)).to_json(),
            "seeds": self.seeds,
            "search": dict(self.search) if self.is_tuned(row) else None,
        }
        plain: dict[str, Any] = json.loads(json.dumps(asked))
        return plain

    def is_made(self, row: str) -> bool:
        """Whether the files of a row are there, and made of what is asked now."""
        file = self.result_file(row)
        if not (file.exists() and self.vectors_file(row).exists()):
            return False
        made = json.loads(file.read_text())["asked"]
        for model, options in made["config"]["models"].items():
            for name in getattr(
                config_class(model), "removed", ()
            ):  # which said nothing about the figures
                options.pop(name, None)
        return bool(made == self.asked(row))

    def check(self, rows: Iterable[str]) -> None:
        """Refuse names that are no rows."""
        for row in rows:
            if row not in self.rows:
                raise SystemExit(f"{self.name} has no row {row!r}; it has {', '.join(self.rows)}")


def load_table(name: str) -> Table:
    """Table of that name."""
    folder = ROOT / "benchmarks" / "tables" / name
    if not (folder / "table.toml").exists():
        there = sorted(file.parent.name for file in folder.parent.glob("*/table.toml"))
        raise SystemExit(f"there is no table {name!r}; there are {', '.join(there)}")
    values = tomllib.loads((folder / "table.toml").read_text())
    return Table(name=name, **{**values, "rows": tuple(values["rows"])})
