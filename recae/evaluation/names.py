"""`Metric`: a metric's name, and with it all that fixes its value."""

import inspect
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, final

import numpy as np
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array

from recae.arguments import refuse_other, several
from recae.errors import ConfigError
from recae.evaluation import catalogue, metrics
from recae.evaluation.judge import Judged, ideal_gains

DEFAULT_METRICS = ("ndcg@100", "recall@20", "recall@50")

OwnMetric = Callable[[np.ndarray, np.ndarray], float]
"""A metric of your own: a function ``NAME(ranked, targets)`` of one person.

``ranked`` are the indices of the items listed, best first, 100 of them at most (as many as its
attribute ``k`` says, where it has one) and maybe none; ``targets`` are the indices of those looked
for, at least one. It returns a finite number; higher is better. It is known by its ``__name__``."""
OWN_PLACES = 100

OfTargets = Callable[[Judged, int], np.ndarray]
OfLists = Callable[[np.ndarray, Any], np.ndarray]
OfCounts = Callable[[np.ndarray], float]

_OF_TARGETS: dict[str, tuple[OfTargets, str]] = {
    "recall": (
        lambda j, k: metrics.recall(j.hits, j.n_targets, k),
        "hits in the first {k} / min({k}, targets)",
    ),
    "recall-all": (
        lambda j, k: metrics.recall_all(j.hits, j.n_targets, k),
        "hits in the first {k} / targets",
    ),
    "ndcg": (
        lambda j, k: metrics.ndcg(j.hits, j.n_targets, k),
        "sum of 1/log2(rank+1) over hits in the first {k} / over ranks 1 to min({k}, targets)",
    ),
    "ndcg-graded": (
        lambda j, k: metrics.ndcg_graded(j.gains, ideal_gains(j.target, k), k),
        "as ndcg@{k} with the target values as linear gains, ideal order in the denominator",
    ),
    "precision": (
        lambda j, k: metrics.precision(j.hits, j.n_targets, k),
        "hits in the first {k} / {k}",
    ),
    "map": (
        lambda j, k: metrics.average_precision(j.hits, j.n_targets, k),
        "sum of the precision at each hit in the first {k} / min({k}, targets)",
    ),
    "mrr": (
        lambda j, k: metrics.mrr(j.hits, j.n_targets, k),
        "1 / rank of the first hit, 0 without a hit in the first {k}",
    ),
    "hit": (
        lambda j, k: metrics.hit(j.hits, j.n_targets, k),
        "1 with a hit in the first {k}, else 0",
    ),
    "r-precision": (
        lambda j, _: metrics.r_precision(j.hits, j.n_targets),
        "hits in the first n / n, n the user's targets",
    ),
}
_OF_LISTS: dict[str, tuple[OfLists, str]] = {
    "novelty": (
        catalogue.novelty,
        "mean of -log2(share of training interactions) of the first {k} items, in bits",
    ),
    "popularity-bias": (
        catalogue.popularity_bias,
        "mean training count of the first {k} items / that of a training interaction's item",
    ),
    "diversity": (
        catalogue.diversity,
        "mean over pairs of the first {k} items of 1 - cosine of their training columns",
    ),
}
_OF_COUNTS: dict[str, tuple[OfCounts, str]] = {
    "coverage": (catalogue.coverage, "share of all items that stand in some first {k}"),
    "gini": (catalogue.gini, "Gini coefficient of how often each item stands in a first {k}"),
}
_WITHOUT_K = frozenset({"r-precision"})
_OF_ROWS = frozenset({"diversity"})

DEFINITIONS = {
    name if name in _WITHOUT_K else f"{name}@K": text.format(k="K")
    for name, (_, text) in {**_OF_TARGETS, **_OF_LISTS, **_OF_COUNTS}.items()
}
"""What each metric is, by its accepted name, with K for any whole number from 1."""
ACCEPTED = tuple(DEFINITIONS)


@final
@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and its cut-off, as written: ``"recall@20"``; or a function of the caller.

    Attributes
    ----------
    name
        The name that was parsed.
    family
        The name without its cut-off.
    k
        The cut-off; None where the metric has none.
    own
        The function, see `OwnMetric`; None for a metric of the package.
    """

    name: str
    family: str
    k: int | None
    own: OwnMetric | None = None

    @property
    def about(self) -> Literal["targets", "lists", "catalogue"]:
        """What it measures: targets found by a user, one user's list, or all lists together."""
        if self.own is not None or self.family in _OF_TARGETS:
            return "targets"
        return "lists" if self.family in _OF_LISTS else "catalogue"

    @property
    def graded(self) -> bool:
        """Whether it reads the values of the targets."""
        return self.family == "ndcg-graded"

    @property
    def definition(self) -> str:
        """One line that fixes the value, denominator included."""
        if self.own is not None:
            said = (inspect.getdoc(self.own) or "a function of the caller").splitlines()[0]
            return f"{said.rstrip('.')} (of the first {self.k} items)"
        _, text = {**_OF_TARGETS, **_OF_LISTS, **_OF_COUNTS}[self.family]
        return text.format(k=self.k)

    def of_targets(self, judged: Judged) -> Float64[np.ndarray, " users"]:
        """Value for each user of a batch, NaN without targets; for metrics about targets.

        Raises
        ------
        ConfigError
            If a function of the caller returns no finite number.
        """
        if self.own is not None:
            return self._own_values(self.own, judged)
        return _OF_TARGETS[self.family][0](judged, self.k or 0)

    def _own_values(self, own: OwnMetric, judged: Judged) -> Float64[np.ndarray, " users"]:
        out = np.full(len(judged.listed), np.nan)
        for row, (start, stop) in enumerate(pairwise(judged.target.indptr)):
            if start == stop:
                continue
            ranked = judged.listed[row, : self.k]
            value: Any = own(ranked[ranked >= 0], judged.target.indices[start:stop].copy())
            try:
                out[row] = math.nan if isinstance(value, str) else value
            except (TypeError, ValueError):
                out[row] = math.nan
            if not math.isfinite(out[row]):
                raise ConfigError(
                    f"metric {self.name} returned {value!r:.60}; a finite number is accepted"
                )
        return out

    @property
    def needs(self) -> Literal["popularity", "train"] | None:
        """What `of_lists` looks at: counts of items or who touched them; else None."""
        if self.about != "lists":
            return None
        return "train" if self.family in _OF_ROWS else "popularity"

    def of_lists(
        self,
        listed: Int64[np.ndarray, "users k_max"],
        items: Int64[np.ndarray, " items"] | csr_array,
    ) -> Float64[np.ndarray, " users"]:
        """Value for each user of a batch, NaN where the list is too short for one.

        For metrics about lists. `items` are the training counts, or `catalogue.users_of_items`
        where the metric needs ``"train"``.
        """
        return _OF_LISTS[self.family][0](listed[:, : self.k], items)

    def of_counts(self, counts: Int64[np.ndarray, " items"]) -> float:
        """Value over all lists, from how often each item is listed; for catalogue metrics."""
        return _OF_COUNTS[self.family][0](counts)


def find_metric(name: str) -> Metric | None:
    """Metric of the package of that name; None where there is none."""
    found = re.fullmatch(r"([a-z-]+)(?:@([1-9][0-9]{0,8}))?", name)
    if found is None:
        return None
    family, k = found.group(1), found.group(2)
    known = family in _OF_TARGETS or family in _OF_LISTS or family in _OF_COUNTS
    if not known or (k is None) != (family in _WITHOUT_K):
        return None
    return Metric(name, family, None if k is None else int(k))


def parse_metric(name: str | OwnMetric) -> Metric:
    """Metric of that name, or of a function; see `OwnMetric`.

    Raises
    ------
    ConfigError
        If the name is unknown, or its cut-off is missing, below 1 or not accepted; if a function
        has no name of its own or takes other arguments.

    Examples
    --------
    >>> parse_metric("recall@20").definition
    'hits in the first 20 / min(20, targets)'
    >>> def first_hit(ranked, targets):
    ...     '''1 with a hit at the first place.'''
    ...     return float(np.isin(ranked[:1], targets).any())
    >>> parse_metric(first_hit).definition
    '1 with a hit at the first place (of the first 100 items)'
    """
    if callable(name):
        return _own(name)
    refuse_other("a metric", name, str, "a name such as ndcg@10, a function of (ranked, targets)")
    found = find_metric(name)
    if found is None:
        raise ConfigError(
            f"metric {name!r} is unknown; accepted are {', '.join(ACCEPTED)}, K from 1 to 999999999"
        )
    return found


def _own(function: OwnMetric) -> Metric:
    name = getattr(function, "__name__", type(function).__name__)
    if not name.isidentifier() or not hasattr(function, "__name__"):
        raise ConfigError(
            f"a metric is a {name}, which has no name to be known by; write it as"
            " def NAME(ranked, targets)"
        )
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise ConfigError(
            f"metric {name} cannot be called with (ranked, targets): {error}; these two are given"
        ) from error
    except ValueError:  # a function of C, which says nothing of its arguments
        pass
    k = getattr(function, "k", OWN_PLACES)
    if not isinstance(k, int) or k < 1:
        raise ConfigError(f"metric {name} has k {k!r}; a whole number from 1 is accepted")
    return Metric(name, name, k, function)


def parse_metrics(names: Iterable[str | OwnMetric]) -> tuple[Metric, ...]:
    """Metrics of those names and functions, each once, in the order given.

    Raises
    ------
    ConfigError
        If there is none, one is not accepted, two functions have one name, or one text is given for
        several.
    """
    names = several("metrics", names, "names")
    if not names:
        raise ConfigError("no metric is named; at least one is needed")
    found = tuple(parse_metric(name) for name in dict.fromkeys(names))
    called = [metric.name for metric in found]
    for name in called:
        if called.count(name) > 1:
            raise ConfigError(f"two metrics are called {name!r}; each needs a name of its own")
    return found
