"""`SPACES`: what `tune` tries for each model, and within which bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, final

from recae.errors import ConfigError
from recae.models.registry import MODELS


@final
@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes
    ----------
    low, high
        The bounds; whole numbers where both are ints.
    log
        Whether equal ratios are equally likely, and not equal differences.
    """

    low: int | float
    high: int | float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __str__(self) -> str:
        kind = "int" if self.whole else "real"
        return f"{self.low:g} to {self.high:g} ({kind}{', log' if self.log else ''})"


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """A few values without an order; None is the default of an option that is off by default."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return " | ".join("none" if v is None else str(v) for v in self.values)


@final
@dataclass(frozen=True, slots=True)
class Space:
    """The options of a model that are tried.

    Attributes
    ----------
    options
        Bounds by option.
    first
        The setting that is tried first: the model's defaults, or the closest to them.
    only_with
        For an option that matters beside one value of another option only: that option and value.
    """

    options: Mapping[str, Range | Choice] = field(default_factory=dict)
    first: Mapping[str, Any] = field(default_factory=dict)
    only_with: Mapping[str, tuple[str, Any]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of options that are tried together; 0 leaves nothing to tune."""
        return len(self.options)

    def without(self, fixed: Mapping[str, Any]) -> "Space":
        """Return the space with the options of `fixed` taken out, which have one value."""
        idle = {n for n, (other, v) in self.only_with.items() if fixed.get(other, v) != v}
        out = idle | set(fixed)
        return Space(
            {n: o for n, o in self.options.items() if n not in out},
            {n: v for n, v in self.first.items() if n not in out},
            {n: w for n, w in self.only_with.items() if n not in out and w[0] not in fixed},
        )

    def to_json(self) -> dict[str, object]:
        """Return the bounds, in words, by option."""
        return {name: str(option) for name, option in self.options.items()}


_TRAINED: dict[str, Range | Choice] = {
    "learning_rate": Range(2e-4, 5e-3, log=True),
    "dropout": Range(0.1, 0.8),
    "latent_dim": Range(50, 400, log=True),
    "hidden": Choice(((), (200,), (600,), (1000,))),
    "ema_decay": Choice((None, 0.99, 0.995, 0.999)),
}
_TRAINED_FIRST = {"learning_rate": 1e-3, "dropout": 0.5, "latent_dim": 200, "ema_decay": None}

SPACES: Mapping[str, Space] = MappingProxyType(
    {
        "popular": Space(),
        "random": Space(),
        "item-knn": Space(
            {
                "k_neighbours": Range(5, 1000, log=True),
                "similarity": Choice(("cosine", "tf-idf", "bm25")),
                "bm25_k1": Range(0.1, 100.0, log=True),
                "bm25_b": Range(0.0, 1.0),
            },
            {"k_neighbours": 100, "similarity": "tf-idf"},
            {"bm25_k1": ("similarity", "bm25"), "bm25_b": ("similarity", "bm25")},
        ),
        "als": Space(
            {
                "factors": Range(16, 512, log=True),
                "regularization": Range(0.01, 1000.0, log=True),
                "alpha": Range(1.5, 100.0, log=True),
                "iterations": Range(5, 40),
            },
            {"factors": 128, "regularization": 30.0, "alpha": 10.0, "iterations": 15},
        ),
        "bpr": Space(
            {
                "factors": Range(32, 256, log=True),
                "learning_rate": Range(0.005, 0.2, log=True),
                "regularization": Range(0.001, 0.05, log=True),
                "iterations": Range(40, 200, log=True),
                "ridge": Range(0.003, 0.1, log=True),
                "popularity": Range(0.25, 1.0),
            },
            {
                "factors": 64,
                "learning_rate": 0.05,
                "regularization": 0.01,
                "iterations": 100,
                "ridge": 0.02,
                "popularity": 0.75,
            },
        ),
        "gf-cf": Space(
            {"n_vectors": Range(16, 512, log=True), "alpha": Range(0.0, 2.0)},
            {"n_vectors": 256, "alpha": 0.3},
        ),
        "ease": Space({"l2": Range(1.0, 20000.0, log=True)}, {"l2": 500.0}),
        "mult-dae": Space(
            {**_TRAINED, "weight_decay": Range(1e-7, 1e-3, log=True)},
            {**_TRAINED_FIRST, "hidden": (), "weight_decay": 0.01 / 500},
        ),
        "mult-vae": Space(
            {**_TRAINED, "beta_cap": Range(0.02, 1.0, log=True)},
            {**_TRAINED_FIRST, "hidden": (600,), "beta_cap": 0.2},
        ),
    }
)


def space_of(model: str, fixed: Mapping[str, Any] | None = None) -> Space:
    """Space of the model called `model`, without the options that have a value already.

    Raises
    ------
    ConfigError
        If there is no such model, or it has no space.

    Examples
    --------
    >>> space_of("item-knn", {"similarity": "cosine"}).to_json()
    {'k_neighbours': '5 to 1000 (int, log)'}
    """
    if model not in MODELS:
        raise ConfigError(f"there is no model {model!r}; there are {', '.join(MODELS)}")
    if model not in SPACES:
        raise ConfigError(f"{model} has no search space; there are those of {', '.join(SPACES)}")
    return SPACES[model].without(fixed or {})
