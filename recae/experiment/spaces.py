"""`Space`: what `tune` tries of a model, as the options of its config say."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, final

from recae.models.registry import config_class
from recae.options import Choice, Range, details
from recae.training.config import TrainingConfig

_USUAL_ITEMS = 10_000  # for which the first trial has what auto stands for


@final
@dataclass(frozen=True, slots=True)
class Space:
    """The options of a model that are tried.

    Attributes
    ----------
    options
        Bounds by option.
    first
        The setting that is tried first: the model's defaults, as far as they are in the bounds.
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


def space_of(model: str, fixed: Mapping[str, Any] | None = None) -> Space:
    """Space of the model called `model`, without the options that have a value already.

    Raises
    ------
    ConfigError
        If there is no such model.

    Examples
    --------
    >>> space_of("item-knn", {"similarity": "cosine"}).to_json()
    {'k_neighbours': '5 to 1000 (int, log)'}
    """
    kind = config_class(model)
    usual = kind()
    if isinstance(usual, TrainingConfig):
        usual = usual.for_items(_USUAL_ITEMS)
    options: dict[str, Range | Choice] = {}
    first: dict[str, Any] = {}
    only_with: dict[str, tuple[str, Any]] = {}
    for one in fields(kind):
        about = details(one)
        if about.search is None:
            continue
        options[one.name] = about.search
        value = getattr(usual, one.name)
        if about.only_with is not None:
            only_with[one.name] = about.only_with
        elif value in about.search:
            first[one.name] = value
    return Space(options, first, only_with).without(fixed or {})
