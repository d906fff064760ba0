"""The same lists under the definitions of other libraries: what RecBole or Cornac would print.

Lists are ours; what differs is how they are counted. Checked against RecBole 1.2.1 and Cornac 3.0.1
as installed, by ``benchmarks/like.py``.

RecBole, full ranking (it rounds to four digits): held-out items that were never trained on count as
targets; catalogue figures divide by all items, untrained ones and a padding item included; its
tailpercentage is left out, as it depends on RecBole's numbering of items.

Cornac, ``exclude_unknowns=True``: users without a trained target are left out. MRR, MAP and AUC
rank every item that may be listed; asked together with a metric at K, Cornac sorts the first K only
and its MRR is another figure. Of equal scores MAP counts the worst rank and AUC no success; our
lists put the smaller index first, Cornac's the larger.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Bool, Float64, Int64

from recae.data.protocols import split as split_data
from recae.data.readers import read_interactions
from recae.data.split import HeldOut, Split
from recae.errors import ConfigError, DataError
from recae.evaluation import metrics
from recae.evaluation.catalogue import gini, list_counts
from recae.evaluation.judge import judge
from recae.models.ease import EASE
from recae.models.popular import Popularity
from recae.ranking.recommender import Recommender
from recae.ranking.topk import TopK

LIBRARIES = ("recbole", "cornac")
CUTS = [5, 20, 100]


@final
@dataclass(frozen=True, slots=True)
class LikeFigure:
    """One figure under the name that the library gives it.

    Attributes
    ----------
    name
        As the library prints it.
    value
        Not rounded.
    definition
        One line that fixes the value.
    """

    name: str
    value: float
    definition: str


@final
@dataclass(frozen=True, slots=True)
class LikeReport:
    """What a library would say about the lists of a model.

    Attributes
    ----------
    name
        Of the library.
    users
        Number of users whose values are averaged.
    figures
        By metric, then by cut-off.
    """

    name: str
    users: int
    figures: tuple[LikeFigure, ...]

    def __getitem__(self, name: str) -> float:
        for figure in self.figures:
            if figure.name == name:
                return figure.value
        raise ConfigError(f"{self.name} has no figure {name!r} here")


def evaluate_like(
    model: Recommender,
    held_out: HeldOut,
    library: str,
    *,
    cutoffs: Sequence[int],
    popularity: Int64[np.ndarray, " items"],
    untrained_items: int = 0,
) -> LikeReport:
    """Judge the lists that people would get as another library would.

    Parameters
    ----------
    model
        Fitted, over the items of `held_out`.
    held_out
        Whom to ask, what to show, what to expect.
    library
        Whose definitions.
    cutoffs
        List lengths.
    popularity
        Training interactions of each item, shape ``(items,)``.
    untrained_items
        Items of the data that are not among the model's; RecBole counts them.

    Raises
    ------
    ConfigError
        If there is no such library, or no cut-off of at least 1.

    Examples
    --------
    >>> from recae.data.protocols import split
    >>> from recae.data.synthetic import Synthetic
    >>> from recae.models.popular import Popularity
    >>> parts = split(Synthetic(n_users=50, n_items=40).interactions(), rng=1)
    >>> counts = np.bincount(parts.train.matrix.indices, minlength=parts.train.n_items)
    >>> model = Popularity().fit(parts.train)
    >>> like = evaluate_like(model, parts.test, "recbole", cutoffs=[10], popularity=counts)
    >>> round(like["itemcoverage@10"], 3)
    0.341

    Notes
    -----
    For Cornac the whole catalogue is ranked for every user: minutes for a large one.
    """
    if library not in LIBRARIES:
        raise ConfigError(f"there is no library {library!r}; there are {', '.join(LIBRARIES)}")
    cuts = sorted(set(cutoffs))
    if not cuts or cuts[0] < 1:
        raise ConfigError(f"cutoffs are {list(cutoffs)}; whole numbers of at least 1 are accepted")
    counted = _RecBole if library == "recbole" else _Cornac
    found = counted(cuts, popularity, untrained_items)
    depth = held_out.n_items if library == "cornac" else min(cuts[-1], held_out.n_items)
    step = max(1, 4_000_000 // max(1, depth))
    lists = model.recommend_batches(
        held_out.fold_in, k=depth, batch_size=step, exclude=held_out.exclude
    )
    for rows, top in lists:
        found.add(held_out.take(np.arange(rows.start, rows.stop)), top)
    return LikeReport(library, found.users, tuple(found.figures()))


def exam(file: Path) -> tuple[Split, tuple[Recommender, ...]]:
    """Split of ML-1M and unfitted models that `benchmarks/results/like.json` is about.

    EASE gives no two items the same score, popularity many.
    """
    data = replace(read_interactions(file, min_rating=4.0), seen=None)  # the libraries know none
    split = split_data(data, "mult-vae", held_out_users=1000)
    return split, (EASE(l2=700.0), Popularity())


class _Means:
    """Means over users of named vectors."""

    def __init__(self) -> None:
        self.users = 0
        self.totals: dict[tuple[str, str], float] = {}

    def count(self, name: str, definition: str, values: Float64[np.ndarray, " users"]) -> None:
        key = (name, definition)
        self.totals[key] = self.totals.get(key, 0.0) + float(values.sum())

    def means(self) -> list[LikeFigure]:
        if not self.users:
            raise DataError("no user has a held-out item that the model knows; nothing to count")
        return [LikeFigure(n, t / self.users, d) for (n, d), t in self.totals.items()]


@final
class _RecBole(_Means):
    """``recbole/evaluator/metrics.py``, the top-k and catalogue metrics."""

    def __init__(
        self, cuts: Sequence[int], popularity: Int64[np.ndarray, " items"], untrained: int
    ) -> None:
        super().__init__()
        self.cuts = cuts
        self.popularity = popularity
        self.n_items = len(popularity) + untrained + 1
        self.listed = {k: np.zeros(len(popularity), dtype=np.int64) for k in cuts}

    def add(self, part: HeldOut, top: TopK) -> None:
        judged = judge(top.items, part.target)
        assert part.unreachable is not None
        n = judged.n_targets + part.unreachable
        asked = n > 0
        hits, n = judged.hits[asked], n[asked]
        items = top.items[asked]
        counts = np.where(items >= 0, self.popularity[items], 0)
        self.users += len(n)
        for k in self.cuts:
            self.listed[k] += list_counts(items[:, :k], len(self.popularity))
            self.count(f"recall@{k}", "hits / all held out", metrics.recall_all(hits, n, k))
            self.count(f"mrr@{k}", "1 / rank of the first hit", metrics.mrr(hits, n, k))
            self.count(f"ndcg@{k}", "ideal of min(K, all held out)", metrics.ndcg(hits, n, k))
            self.count(f"hit@{k}", "1 with a hit", metrics.hit(hits, n, k))
            self.count(f"precision@{k}", "hits / K", metrics.precision(hits, n, k))
            found = metrics.average_precision(hits, n, k)
            self.count(f"map@{k}", "precision at hits / min(K, all held out)", found)
            popular = counts[:, :k].sum(axis=1) / k
            self.count(f"averagepopularity@{k}", "training count of listed items / K", popular)

    def figures(self) -> list[LikeFigure]:
        out = self.means()
        for k in self.cuts:
            listed = self.listed[k]
            there = listed[listed > 0]
            share = there / (self.users * k)
            entropy = float(-(share * np.log(share)).sum() / max(1, len(there)))
            padded = np.concatenate((listed, np.zeros(self.n_items - len(listed), dtype=np.int64)))
            # RecBole divides by the places, taken or not
            unequal = gini(padded) * float(listed.sum()) / (self.users * k)
            out += [
                LikeFigure(f"itemcoverage@{k}", len(there) / self.n_items, "listed / all items"),
                LikeFigure(f"shannonentropy@{k}", entropy, "entropy in nats / items listed"),
                LikeFigure(f"giniindex@{k}", unequal, "Gini over all items"),
            ]
        return sorted(out, key=_by_metric)


@final
class _Cornac(_Means):
    """``cornac/metrics/ranking.py`` over full rankings."""

    def __init__(
        self, cuts: Sequence[int], popularity: Int64[np.ndarray, " items"], untrained: int
    ) -> None:
        super().__init__()
        self.cuts = cuts

    def add(self, part: HeldOut, top: TopK) -> None:
        judged = judge(top.items, part.target)
        asked = judged.n_targets > 0
        hits, n = judged.hits[asked], judged.n_targets[asked]
        self.users += len(n)
        for k in self.cuts:
            precision, recall = metrics.precision(hits, n, k), metrics.recall_all(hits, n, k)
            both = precision + recall
            f1 = np.divide(2 * precision * recall, both, out=np.zeros(len(n)), where=both > 0)
            self.count(f"Recall@{k}", "hits / targets", recall)
            self.count(f"Precision@{k}", "hits / K", precision)
            self.count(f"F1@{k}", "harmonic mean of the user's precision and recall", f1)
            self.count(f"NDCG@{k}", "ideal of min(K, targets)", metrics.ndcg(hits, n, k))
            self.count(f"HitRatio@{k}", "1 with a hit", metrics.hit(hits, n, k))
            self.count(f"NCRR@{k}", "sum of 1 / rank over hits / its ideal", ncrr(hits, n, k))
        self.count("MRR", "1 / rank of the first target", metrics.mrr(hits, n, hits.shape[1]))
        of_scores = [
            _of_scores(scores[items >= 0], hit[items >= 0])
            for scores, items, hit in zip(top.scores[asked], top.items[asked], hits, strict=True)
        ]
        ap, auc = np.array(of_scores).reshape(-1, 2).T
        self.count("MAP", "precision at each target / targets, worst rank of ties", ap)
        self.count("AUC", "share of (target, other) pairs in order, ties not", auc)

    def figures(self) -> list[LikeFigure]:
        return sorted(self.means(), key=_by_metric)


def ncrr(
    hits: Bool[np.ndarray, "users k_max"], n_targets: Int64[np.ndarray, " users"], k: int
) -> Float64[np.ndarray, " users"]:
    r"""Cumulated reciprocal ranks of the hits among the first `k`, over those of an ideal list.

    .. math:: \frac{\sum_{i \le k} h_i / i}{\sum_{i \le \min(k, n)} 1 / i}

    References
    ----------
    Cornac, ``cornac.metrics.NCRR``.

    Examples
    --------
    >>> ncrr(np.array([[False, True]]), np.array([1]), 2).tolist()
    [0.5]
    """
    shown = hits[:, :k]
    gained = (shown / np.arange(1, shown.shape[1] + 1)).sum(axis=1)
    ideal = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, k + 1))))
    possible = ideal[np.minimum(n_targets, min(k, hits.shape[1]))]
    out = np.full(len(gained), np.nan)
    np.divide(gained, possible, out=out, where=possible > 0)
    return out


def _of_scores(scores: np.ndarray, hits: Bool[np.ndarray, " places"]) -> tuple[float, float]:
    """Average precision and AUC of one full ranking, by scores."""
    ascending, found = np.sort(scores), np.sort(scores[hits])
    others = np.sort(scores[~hits])
    rank = len(ascending) - np.searchsorted(ascending, found, side="left")
    among = len(found) - np.searchsorted(found, found, side="left")
    below = np.searchsorted(others, found, side="left")
    auc = below.sum() / (len(found) * len(others)) if len(others) else float("nan")
    return float((among / rank).mean()), float(auc)


def _by_metric(figure: LikeFigure) -> tuple[bool, str, int]:
    name, _, k = figure.name.partition("@")
    return (not k, name, int(k or 0))
