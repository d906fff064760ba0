"""`evaluate`: ask a model, look at what it listed, a batch of users at a time."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import final

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array

from recae.arguments import refuse_other, several
from recae.data.histories import Histories, keep_entries
from recae.data.split import HeldOut
from recae.errors import ConfigError, DataError, shown
from recae.evaluation import segments
from recae.evaluation.catalogue import list_counts, users_of_items
from recae.evaluation.judge import judge
from recae.evaluation.names import DEFAULT_METRICS, Metric, OwnMetric, parse_metrics
from recae.evaluation.report import Report, Segment
from recae.ranking.recommender import Recommender
from recae.ranking.topk import TopK

Vectors = dict[str, Float64[np.ndarray, " users"]]


def evaluate(
    model: Recommender,
    held_out: HeldOut,
    *,
    metrics: Iterable[str | OwnMetric] = DEFAULT_METRICS,
    batch_size: int = 1024,
    popularity: Int64[np.ndarray, " items"] | None = None,
    train: csr_array | None = None,
    by: Iterable[str] = (),
    labels: Mapping[str, Sequence[str]] | None = None,
) -> Report:
    """Judge the lists that people would get against what was held out.

    Lists come from ``model.recommend`` over the full catalogue, without the fold-in items, what is
    only seen beside them, and without ``held_out.exclude``. Ties are settled as in every list: by
    ascending item index; the report counts the users for whom that mattered at a cut-off. Users
    without targets are counted and left out of every metric about targets. Results depend neither
    on `batch_size` nor on the order of users. Memory grows with ``batch_size * k``.

    Parameters
    ----------
    model
        A fitted model over the items of `held_out`.
    held_out
        Whom to ask, what to show, what to expect.
    metrics
        Names such as ``"recall@20"``, which `parse_metric` knows; and functions of your own, see
        `recae.evaluation.names.OwnMetric`.
    batch_size
        Users asked at once.
    popularity
        Training interactions of each item, shape ``(items,)``; needed by ``novelty``,
        ``popularity-bias`` and the segments by popularity. Counted in `train` when not given.
    train
        Training interactions, shape ``(train users, items)``; needed by ``diversity``. Those of the
        split that `held_out` is a part of when not given.
    by
        Segments to add: ``"history"`` (users by number of fold-in items), ``"popularity"`` (targets
        by training count: each third of the training interactions alone; users without a target
        there are not counted), or keys of `labels`.
    labels
        For each further name in `by`, a label for each user.

    Raises
    ------
    ConfigError
        If a metric or segment is unknown, `popularity` or `train` is needed and `held_out` is part
        of no split, or `batch_size` is below 1.
    DataError
        If there are no users, or shapes do not match.
    NotFittedError
        If the model was not fitted.

    Warns
    -----
    UserWarning
        If the model was fitted on other interactions than the training part of the split.
    """
    refuse_other("model", model, Recommender, "a fitted model")
    refuse_other("held_out", held_out, HeldOut, "HeldOut, such as split.test")
    wanted, by = parse_metrics(metrics), several("by", by, "names")
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; at least 1 is accepted")
    train = held_out.train if train is None else train
    if popularity is None and train is not None and _counting(wanted, by):
        popularity = np.bincount(train.indices, minlength=train.shape[1]).astype(np.int64)
    _check(held_out, wanted, popularity, train, by, labels or {})
    if None not in (apart := {model.fitted_on, held_out.apart_from}) and len(apart) > 1:
        warnings.warn(
            f"{model.name} was fitted on other interactions than the training part that these users"
            " are held out from: it may have learnt what it is asked for",
            stacklevel=2,
        )
    found = _Found(wanted, held_out, popularity, train, split_targets="popularity" in by)
    lists = model.recommend_batches(
        held_out.fold_in,
        k=_depth(wanted, held_out),
        batch_size=batch_size,
        exclude=held_out.exclude,
    )
    for rows, top in lists:
        found.add(rows, held_out.take(np.arange(rows.start, rows.stop)), top)
    grouped = {"history": segments.history_lengths(held_out), **(labels or {})}
    parts: list[Segment] = []
    for name in dict.fromkeys(by):
        if name == "popularity":
            parts += [
                Segment(by=name, label=label, per_user=vectors)
                for label, vectors in found.by_popularity.items()
            ]
        else:
            parts += _user_segments(name, grouped[name], found.per_user)
    assert held_out.unreachable is not None
    return Report(
        model=model.name,
        users=held_out.users,
        per_user=found.per_user,
        catalogue={m.name: m.of_counts(found.counts[m.name]) for m in found.of_all},
        n_targets=np.diff(held_out.target.indptr).astype(np.int64),
        unreachable=held_out.unreachable,
        tied=found.tied,
        whole={k: int((_n_eligible(held_out) <= k).sum()) for k in found.tied},
        segments=tuple(parts),
        fingerprint=fingerprint(held_out),
        own={m.name: m for m in wanted if m.own is not None},
    )


@final
class _Found:
    """What is kept of the lists, batch after batch."""

    def __init__(
        self,
        wanted: Sequence[Metric],
        held_out: HeldOut,
        popularity: Int64[np.ndarray, " items"] | None,
        train: csr_array | None,
        *,
        split_targets: bool,
    ) -> None:
        n = len(held_out)
        self.popularity = popularity
        self.users: csr_array | None = None
        if train is not None and any(m.needs == "train" for m in wanted):
            self.users = users_of_items(train)
        self.of_targets = [m for m in wanted if m.about == "targets"]
        self.of_lists = [m for m in wanted if m.about == "lists"]
        self.of_all = [m for m in wanted if m.about == "catalogue"]
        self.per_user = {m.name: np.full(n, np.nan) for m in wanted if m not in self.of_all}
        self.counts = {m.name: np.zeros(held_out.n_items, dtype=np.int64) for m in self.of_all}
        self.tied = dict.fromkeys(sorted({m.k for m in wanted if m.k is not None}), 0)
        self.by_popularity: dict[str, Vectors] = {}
        self.groups = np.zeros(0, dtype=np.int64)
        if split_targets and popularity is not None:
            self.groups = segments.popularity_groups(popularity)
            for label in segments.POPULARITY_GROUPS:
                self.by_popularity[label] = {m.name: np.full(n, np.nan) for m in self.of_targets}

    def add(self, rows: slice, part: HeldOut, top: TopK) -> None:
        """Judge the lists `top` of the users at `rows`."""
        judged = judge(top.items, part.target)
        for m in self.of_targets:
            self.per_user[m.name][rows] = m.of_targets(judged)
        for m in self.of_lists:
            items = self.users if m.needs == "train" else self.popularity
            assert items is not None  # checked before
            self.per_user[m.name][rows] = m.of_lists(top.items, items)
        for m in self.of_all:
            self.counts[m.name] += list_counts(top.items[:, : m.k], part.n_items)
        for k in self.tied:
            self.tied[k] += _n_tied(top, k)
        for group, vectors in enumerate(self.by_popularity.values()):
            of_group = self.groups[part.target.indices] == group
            judged = judge(top.items, keep_entries(part.target, of_group))
            for m in self.of_targets:
                vectors[m.name][rows] = m.of_targets(judged)


def fingerprint(held_out: HeldOut) -> str:
    """SHA-256, in hex, of users, fold-in, targets and exclusions: which exam it was."""
    digest = hashlib.sha256()
    ids = held_out.users.to_arrow()
    digest.update(np.asarray(pc.binary_length(ids), dtype=np.int64).tobytes())
    digest.update("".join(ids.to_pylist()).encode())
    digest.update(np.int64(held_out.n_items).tobytes())
    for histories in (held_out.fold_in, Histories(held_out.target), held_out.exclude):
        if histories is None:
            continue
        digest.update(b"+")
        for array in (histories.matrix.indptr, histories.matrix.indices, histories.matrix.data):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(b"-" if histories.order is None else histories.order.tobytes())
        if histories.seen is not None:
            digest.update(b"seen")
            for array in (histories.seen.indptr, histories.seen.indices):
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _check(
    held_out: HeldOut,
    wanted: Sequence[Metric],
    popularity: Int64[np.ndarray, " items"] | None,
    train: csr_array | None,
    by: Sequence[str],
    labels: Mapping[str, Sequence[str]],
) -> None:
    if not len(held_out):
        raise DataError("there are no held-out users to evaluate on")
    needing = _counting(wanted, by)
    if needing and popularity is None:
        raise ConfigError(f"{needing[0]} needs popularity, the training count of each item")
    if popularity is not None and len(popularity) != held_out.n_items:
        raise DataError(f"popularity of {len(popularity)} items; {held_out.n_items} are held out")
    paired = [m.name for m in wanted if m.needs == "train"]
    if paired and train is None:
        raise ConfigError(f"{paired[0]} needs train, the training interactions")
    if train is not None and train.shape[1] != held_out.n_items:
        raise DataError(f"train has {train.shape[1]} items; {held_out.n_items} are held out")
    reserved = sorted({*segments.SEGMENTS} & set(labels))
    if reserved:
        raise ConfigError(f"labels are named {shown(reserved)}; those names are taken")
    for name in by:
        accepted = [*segments.SEGMENTS, *labels]
        if name not in accepted:
            raise ConfigError(f"segment {name!r} is unknown; accepted are {shown(accepted, 20)}")
    for name, values in labels.items():
        if len(values) != len(held_out):
            raise DataError(f"{name} labels {len(values)} users; {len(held_out)} are held out")


def _counting(wanted: Sequence[Metric], by: Sequence[str]) -> list[str]:
    """Name what needs the training count of each item."""
    needing = [m.name for m in wanted if m.needs == "popularity"]
    return needing + (["segments by popularity"] if "popularity" in by else [])


def _depth(wanted: Sequence[Metric], held_out: HeldOut) -> int:
    """Places a list needs: the largest cut-off and one more, to see a tie across it."""
    places = [m.k + 1 for m in wanted if m.k is not None]
    if any(m.k is None for m in wanted):  # r-precision looks at as many places as targets
        places.append(max(1, int(np.diff(held_out.target.indptr).max())))
    return min(max(places), held_out.n_items)


def _n_eligible(held_out: HeldOut) -> Int64[np.ndarray, " users"]:
    """Items that may be in the list of each user."""
    found = np.full(len(held_out), held_out.n_items)
    excluded = None if held_out.exclude is None else held_out.exclude.matrix
    for matrix in (held_out.fold_in.matrix, held_out.fold_in.seen, excluded):
        if matrix is not None:
            found -= np.diff(matrix.indptr)
    return found


def _n_tied(top: TopK, k: int) -> int:
    if k >= top.k:
        return 0
    there = top.items[:, k] >= 0
    return int((there & (top.scores[:, k - 1] == top.scores[:, k])).sum())


def _user_segments(
    by: str, labels: Sequence[str], per_user: Mapping[str, Float64[np.ndarray, " users"]]
) -> list[Segment]:
    """One segment a label, in the order in which `segments` or the caller's labels sort."""
    column = np.asarray(labels, dtype=object)
    return [
        Segment(
            by=by,
            label=label,
            per_user={n: np.where(column == label, v, np.nan) for n, v in per_user.items()},
        )
        for label in sorted(set(labels), key=_natural)
    ]


def _natural(label: str) -> tuple[float, str]:
    """Sort by the number a label begins with, if any, so that "5-9" comes before "10-19"."""
    digits = label[: len(label) - len(label.lstrip("0123456789"))]
    return (float(digits) if digits else float("inf"), label)
