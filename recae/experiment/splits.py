"""`compare_splits`: the same models on several draws of the split, for differences that are small.

User intervals say what other users of the same split would change, training seeds what other
initial weights would. Which users or items happened to be held out is a third thing: here the whole
comparison is made again for each draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import final

import numpy as np

from recae.data.interactions import Interactions
from recae.data.protocols import PROTOCOLS
from recae.data.protocols.column import Column
from recae.errors import ConfigError, RequirementError
from recae.evaluation.aligned import aligned
from recae.evaluation.names import parse_metric
from recae.experiment.compare import compare
from recae.experiment.config import RunConfig
from recae.experiment.data import make_split
from recae.experiment.table import ComparisonTable


@final
@dataclass(frozen=True, slots=True)
class SplitDifference:
    """A pair of models over several splits.

    Attributes
    ----------
    metric
        The first of the comparison.
    better, worse
        The one with the higher mean over splits first.
    mean
        Mean over splits of the difference.
    sd
        Standard deviation (ddof 1) over splits of the difference.
    ahead
        Splits in which `better` is ahead.
    beyond_chance
        Splits in which it is so beyond chance, by that split's paired test after Holm.
    splits
        Number of splits.
    """

    metric: str
    better: str
    worse: str
    mean: float
    sd: float
    ahead: int
    beyond_chance: int
    splits: int

    def __str__(self) -> str:
        return (
            f"{self.better} over {self.worse}: {self.mean:+.4f} {self.metric}, split sd"
            f" {self.sd:.4f}, ahead in {self.ahead} of {self.splits} splits, beyond chance in"
            f" {self.beyond_chance}"
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class SplitsTable:
    """Comparisons of the same models, one a draw of the split.

    Attributes
    ----------
    tables
        The comparisons, in the order of `seeds`.
    seeds
        Split seeds.
    """

    tables: tuple[ComparisonTable, ...]
    seeds: tuple[int, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the figures."""
        return self.tables[0].metrics

    def summary(self, model: str, metric: str) -> dict[str, object]:
        """Mean over splits, their spread, and apart from it the usual user error and seed spread.

        ``mean``, ``split_sd`` (ddof 1) and ``each_split``; ``se`` and ``seed_sd`` are means over
        splits of what one split gives.
        """
        found = [table[model].summary(metric) for table in self.tables]
        means = np.array([f["mean"] for f in found], dtype=np.float64)
        out: dict[str, object] = {
            "mean": float(means.mean()),
            "split_sd": float(means.std(ddof=1)),
            "each_split": means.tolist(),
        }
        for name in ("se", "seed_sd"):
            values = [value for f in found if (value := f.get(name)) is not None]
            out[name] = float(np.mean(values)) if values else None
        return out

    def names(self) -> list[str]:
        """Names of the models, best first by the mean over splits of the first metric."""
        means = {n: self._means(n) for n in self.tables[0].names()}
        return sorted(means, key=lambda name: -means[name].mean())

    def _means(self, model: str) -> np.ndarray:
        first = self.metrics[0]
        means = [table[model].summary(first)["mean"] for table in self.tables]
        return np.array(means, dtype=np.float64)

    def differences(self) -> list[SplitDifference]:
        """All pairs by the first metric; none where it is not about targets."""
        first = self.metrics[0]
        if parse_metric(first).about != "targets":
            return []
        tested = [
            {(d.better, d.worse) for d in table.differences().differences if d.significant}
            for table in self.tables
        ]
        out = []
        for better, worse in combinations(self.names(), 2):
            d = self._means(better) - self._means(worse)
            out.append(
                SplitDifference(
                    metric=first,
                    better=better,
                    worse=worse,
                    mean=float(d.mean()),
                    sd=float(d.std(ddof=1)),
                    ahead=int((d > 0).sum()),
                    beyond_chance=sum((better, worse) in pairs for pairs in tested),
                    splits=len(d),
                )
            )
        return out

    def require_beat(self, name: str) -> None:
        """Refuse unless in every split some model beats `name` beyond chance.

        Raises
        ------
        RequirementError
            If there is a split in which none does; the first such split is named by its seed.
        """
        for seed, table in zip(self.seeds, self.tables, strict=True):
            try:
                table.require_beat(name)
            except RequirementError as error:
                raise RequirementError(f"in the split of seed {seed} {error}") from error

    def to_json(self) -> dict[str, object]:
        """Return all figures as JSON values, those of every split included."""
        return {
            "models": {n: {m: self.summary(n, m) for m in self.metrics} for n in self.names()},
            "differences": [
                {f.name: getattr(d, f.name) for f in fields(d)} for d in self.differences()
            ],
            "split_seeds": list(self.seeds),
            "splits": [table.to_json() for table in self.tables],
        }

    def __str__(self) -> str:
        rows = [
            [name, *(_cell(self.summary(name, metric)) for metric in self.metrics)]
            for name in self.names()
        ]
        seeds = max(len(entry.reports) for entry in self.tables[0].entries)
        and_seeds = f" and, where a seed sd is given, {seeds} training seeds" if seeds > 1 else ""
        head = f"means over {len(self.tables)} splits{and_seeds}, with the spread of the splits"
        return "\n".join(
            [head, *aligned([["model", *self.metrics], *rows]), "", *map(str, self.differences())]
        )


def _cell(found: Mapping[str, object]) -> str:
    seed_sd = found["seed_sd"]
    of_seeds = "" if seed_sd is None else f", seed sd {seed_sd:.4f}"
    return f"{found['mean']:.4f} (sd {found['split_sd']:.4f}{of_seeds})"


def compare_splits(
    models: Sequence[str],
    data: Interactions,
    config: RunConfig,
    *,
    splits: int,
    seeds: int = 1,
    about: Mapping[str, object] | None = None,
    require_beat: str | None = None,
) -> SplitsTable:
    """Make a comparison again for several draws of the split.

    Parameters
    ----------
    models
        Names; they get the options of `config`.
    data
        What is split.
    config
        The run; its split seed is the first, the others follow it.
    splits
        Number of draws, 2 or above.
    seeds, about, require_beat
        As `compare` takes them; `about` is its ``data``.

    Raises
    ------
    ConfigError
        Before anything is fitted: if `splits` is below 2, the protocol holds the same out whatever
        its seed, or `compare` refuses.
    """
    if splits < 2:
        raise ConfigError(f"splits is {splits}; at least 2 is accepted")
    option = _seed_option(config.protocol)
    first = config.split.get(option, getattr(PROTOCOLS[config.protocol](), option))
    drawn = tuple(range(first, first + splits))
    runs = [replace(config, split={**config.split, option: seed}) for seed in drawn]
    tables = [
        compare(
            models,
            make_split(data, run),
            metrics=run.metrics,
            config=run,
            seeds=seeds,
            data=about,
            require_beat=require_beat,
        )
        for run in runs
    ]
    return SplitsTable(tuple(tables), drawn)


def _seed_option(protocol: str) -> str:
    """Name of the option that is the protocol's seed."""
    names = {f.name for f in fields(PROTOCOLS[protocol])}
    for name in ("rng", "seed"):
        if name in names and protocol != Column.name:  # whose seed draws a validation part only
            return name
    raise ConfigError(
        f"protocol {protocol!r} holds out the same whatever its seed; one that draws its test part"
        " is accepted"
    )
