"""`Recommender`: histories in, ranked lists out. Every model of the package is one."""

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, fields
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, TypeVar, final

import numpy as np
from jaxtyping import Float32, Int
from scipy.sparse import csr_array
from torch import Tensor

from recae.arguments import refuse_other, several
from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.matrices import Matrix, histories_of, interactions_of
from recae.data.split import HeldOut
from recae.errors import BundleError, ConfigError, DataError, NotFittedError, shown
from recae.options import Options, config_of
from recae.ranking.propose import recommend_chunk
from recae.ranking.scorer import Scorer, rows_at_once
from recae.ranking.scorers import DenseScorer
from recae.ranking.side_by_side import batches_at_once, side_by_side
from recae.ranking.topk import TopK

Arrays = dict[str, np.ndarray]
Indices = Int[np.ndarray, " _"] | Iterable[int]
R = TypeVar("R", bound="Recommender")  # not typing.Self: the run-time checker refuses it in methods


@final
@dataclass(frozen=True, slots=True)
class TrainingShape:
    """Sizes of what a model is fitted on.

    Attributes
    ----------
    n_users, n_items, n_interactions
        Of the training part; users without an interaction are left out.
    """

    n_users: int
    n_items: int
    n_interactions: int

    @classmethod
    def of(cls, train: csr_array) -> "TrainingShape":
        """Sizes of a matrix ``(users, items)``."""
        n_users = int((np.diff(train.indptr) > 0).sum())
        return cls(n_users, int(train.shape[1]), int(train.nnz))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NoOptions(Options):
    """Options of a model that has none."""


class Recommender(ABC):
    """A model that maps histories to ranked lists, and keeps no interactions.

    The least that a model of your own says is a `name`, `fit(train, **options)`, which keeps NumPy
    arrays as attributes, and `scores(histories)`, dense scores of all items; everything else is
    inherited. A `fit` gets the arguments that it names. Models of the package say more and hold
    less at once: `scorer`, `arrays` and `from_arrays`.

    It never looks a user up: people of the training data, people who came later and people whose
    history changed are all served by the same call. A row's result depends on that row alone; an
    empty history is legal.

    Attributes
    ----------
    name
        Name in the registry and on the command line.
    Config, config
        Options of the model, and their values; nothing else holds hyper-parameters.
    ordered
        Whether the order inside a history changes the result.
    fitted_on
        `Interactions.rows_fingerprint` of the last `fit`, so that a model is not stored with
        another split, or judged by it without a word; None for a model that was loaded.
    users_per_pass
        How many users share a pass over a catalogue that is too large to hold the scores of as
        many; above 1 only where `Scorer.blocks` bounds what it holds for any number of users.
    note
        What people should know before they use it; printed in the model card.
    trained_in_steps
        Whether `fit` goes through the users again and again, and writes checkpoints.
    """

    name: ClassVar[str]
    ordered: ClassVar[bool] = False
    note: ClassVar[str] = ""
    users_per_pass: ClassVar[int] = 1
    trained_in_steps: ClassVar[bool] = False
    Config: ClassVar[type[Options]] = NoOptions
    config: Any = NoOptions()
    fitted_on: str | None = None
    _n_items: int | None = None

    def __init__(self, config: Any = None, **options: Any) -> None:
        self.config = config_of(self.Config, config, options, where=type(self).__name__)

    def __init_subclass__(cls) -> None:
        if "fit" in vars(cls):
            cls.fit = _noting_rows(cls.fit)  # type: ignore[method-assign]  # the same, and a note

    def __repr__(self) -> str:
        try:
            fit = f"{self.n_items} items"
        except NotFittedError:
            fit = "not fitted"
        return f"<{type(self).__name__}({_changed(self.config)}), {fit}>"

    @property
    def n_items(self) -> int:
        """Number of items the model knows.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        n_items: int = fitted(self._n_items, self.name)
        return n_items

    def scores(self, histories: Histories) -> np.ndarray:
        """Scores of all items, dense, for models that have no `scorer` of their own.

        Parameters
        ----------
        histories
            Who is scored, a batch at a time; ``histories.matrix`` is a CSR matrix of 1 where a
            person has an item. A row must depend on its own history alone.

        Returns
        -------
        Float32 or float64, shape ``(len(histories), n_items)``, higher is better.
        """
        raise ConfigError(f"{type(self).__name__} has neither scores nor a scorer")

    @property
    def accelerated(self) -> bool:
        """Whether scores are computed by another device than the CPU."""
        return False

    @abstractmethod
    def fit(
        self: R,
        train: Interactions,
        *,
        validation: HeldOut | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
    ) -> R:
        """Learn from `train`, forgetting any earlier fit, and return the model itself.

        Parameters
        ----------
        train
            Training users; kept in no form. A sparse matrix of people x items is accepted too, see
            `recae.data.matrices`.
        validation
            Held-out users that decide when to stop, for models that train in steps.
        checkpoint
            Directory of the checkpoints, for models that train in steps.
        resume
            Continue from `checkpoint` where there is one.
        """

    def n_parameters(self, n_items: int) -> int | None:
        """Numbers that are learnt by gradient descent; None for models that have none."""
        return None

    def least_bytes(self, shape: TrainingShape) -> int | None:
        """Memory that `fit` cannot do without for `shape`, beside the data, in bytes.

        A closed form says what it holds at its peak. A model that is trained in steps says 16 bytes
        for each parameter: the weight, its gradient and the two moments of Adam. None is not known
        beforehand.
        """
        n_parameters = self.n_parameters(shape.n_items)
        return None if n_parameters is None else 16 * n_parameters

    def scorer(self, histories: Histories) -> Scorer:
        """Prepare the scores of a batch of histories."""
        return DenseScorer(self.scores, histories)

    def arrays(self) -> Arrays:
        """What was learnt, as named arrays: what a model directory stores.

        For models without arrays of their own: every attribute, and the number of items.

        Raises
        ------
        ConfigError
            If an attribute is neither a NumPy array of numbers nor a number.
        """
        own = {n: v for n, v in vars(self).items() if n not in {"config", "fitted_on", "_n_items"}}
        for name, value in own.items():
            number = isinstance(value, int | float)
            if not number and not (isinstance(value, np.ndarray) and value.dtype.kind in "biuf"):
                raise ConfigError(
                    f"{type(self).__name__}.{name} is of type {type(value).__name__} and cannot be"
                    " saved; NumPy arrays of numbers and numbers are, options belong into a Config"
                )
        return {"n_items": np.array(self.n_items), **{n: np.asarray(v) for n, v in own.items()}}

    @classmethod
    def configured(cls: type[R], config: Any) -> R:
        """Unfitted model with a whole `config`, a `Config`.

        Raises
        ------
        ConfigError
            If the constructor of a model of yours cannot be called so.
        """
        given = {} if cls.Config is NoOptions else {"config": config}
        try:
            inspect.signature(cls).bind(**given)
        except TypeError as error:
            raise ConfigError(
                f"{cls.__name__} is made by {cls.__name__}({', '.join(given)}) where it is loaded"
                f" or named, and its constructor does not accept that: {error}; give its arguments"
                " defaults, or make them options of a Config"
            ) from error
        return cls(**given)

    @classmethod
    def from_arrays(cls: type[R], config: Any, arrays: Mapping[str, np.ndarray]) -> R:
        """Fitted model from what `arrays` returned.

        Raises
        ------
        BundleError
            If an array is missing, unknown, of a wrong shape or dtype, or not finite.
        """
        if "n_items" not in arrays or arrays["n_items"].ndim:
            raise BundleError("the arrays have no n_items")
        model = cls.configured(config)
        for name, value in arrays.items():
            if name == "n_items":
                model._n_items = int(value)
            else:
                setattr(model, name, value if value.ndim else value.item())
        return model

    @final
    def score_blocks(
        self, histories: Histories
    ) -> Iterator[tuple[slice, Float32[Tensor, "users block"]]]:
        """Fast scores of all items for `histories`, a block of items at a time."""
        return self.scorer(self._accepted(histories)).blocks()

    @final
    def score(self, histories: Histories) -> Float32[np.ndarray, "users items"]:
        """Fast scores of all items, dense: for small cases and for tests.

        Returns
        -------
        Shape ``(len(histories), n_items)``, higher is better, seen items included.
        """
        out = np.empty((len(histories), self.n_items), dtype=np.float32)
        for block, scores in self.score_blocks(histories):
            out[:, block] = scores.cpu().numpy()
        return out

    @final
    def recommend(
        self,
        histories: Histories | Matrix,
        *,
        k: int,
        exclude_seen: bool = True,
        candidates: Indices | None = None,
        exclude: Histories | Indices | None = None,
    ) -> TopK:
        """Return the `k` best items of each history.

        Parameters
        ----------
        histories
            Who asks; any number of rows. A matrix of people x items, or one row of it, is accepted
            too.
        k
            Length of the lists, at least 1. A list is shorter, never padded with ineligible
            items, where fewer are left; places beyond the catalogue cost nothing but their room
            in the result.
        exclude_seen
            Leave out the items of the history itself, and those of `Histories.seen`.
        candidates
            Indices of the items that alone may be listed; with none every list is empty.
        exclude
            Items that may not be listed: indices for everybody, or a history a row.

        Returns
        -------
        TopK
            Ordered by (score descending, item index ascending).

        Raises
        ------
        ConfigError
            If `k` is below 1.
        DataError
            If an item index is not one of the model's, or rows do not match.
        """
        histories = self._accepted(histories)
        if len(histories) == 1:  # a request: no chunks, no threads
            rank = self._ranker(histories, k, exclude_seen, candidates, exclude)
            return rank(slice(0, 1)).padded(k)
        lists = self.recommend_batches(
            histories,
            k=k,
            batch_size=max(1, len(histories)),
            exclude_seen=exclude_seen,
            candidates=candidates,
            exclude=exclude,
        )
        none = TopK(np.empty((0, k), dtype=np.int64), np.empty((0, k), dtype=np.float32))
        return next((top for _, top in lists), none)

    @final
    def recommend_batches(
        self,
        histories: Histories | Matrix,
        *,
        k: int,
        batch_size: int = 4096,
        exclude_seen: bool = True,
        candidates: Indices | None = None,
        exclude: Histories | Indices | None = None,
    ) -> Iterator[tuple[slice, TopK]]:
        """Lists of many histories, some of them at a time: see `recommend` for what is asked.

        The next lists are made while the caller uses some. What is held does not grow with the
        number of histories.

        Parameters
        ----------
        histories, k, exclude_seen, candidates, exclude
            As for `recommend`.
        batch_size
            Histories whose lists come together, at least 1; no list depends on it.

        Yields
        ------
        slice, TopK
            Rows of `histories`, and their lists.

        Raises
        ------
        ConfigError, DataError
            As `recommend`, before the first list; also if `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}; at least 1 is accepted")
        histories = self._accepted(histories)
        rank = self._ranker(histories, k, exclude_seen, candidates, exclude)
        batches = _slices(slice(0, len(histories)), batch_size)
        at_once = 1 if self.accelerated else batches_at_once(self.n_items)
        chunk_size = rows_at_once(self.n_items, self.users_per_pass, chunks=at_once)
        return _in_batches(rank, batches, chunk_size, at_once, k)

    def _ranker(
        self,
        histories: Histories,
        k: int,
        exclude_seen: bool,
        candidates: Indices | None,
        exclude: Histories | Indices | None,
    ) -> Callable[[slice], TopK]:
        """What ranks rows of `histories`, once all that is asked is found to be acceptable."""
        if k < 1:
            raise ConfigError(f"k is {k}; at least 1 is accepted")
        per_row = exclude if isinstance(exclude, Histories) else None
        everybody = None if isinstance(exclude, Histories) else exclude
        places = min(k, self.n_items)
        allowed = allowed_items(self.n_items, candidates, everybody)
        if per_row is not None and per_row.matrix.shape != histories.matrix.shape:
            raise DataError(
                f"exclude has shape {per_row.matrix.shape}; histories have {histories.matrix.shape}"
            )

        everybody_here = slice(0, len(histories))

        def rank(rows: slice) -> TopK:
            chunk = histories if rows == everybody_here else histories.take(rows)
            hidden = [chunk.matrix] if exclude_seen else []
            if exclude_seen and chunk.seen is not None:
                hidden.append(chunk.seen)
            if per_row is not None:
                hidden.append(per_row.take(rows).matrix)
            return recommend_chunk(self.scorer(chunk), chunk, places, hidden, allowed)

        return rank

    def _accepted(self, histories: Histories | Matrix) -> Histories:
        histories = histories_of("histories", histories)
        if histories.n_items != self.n_items:
            raise DataError(
                f"histories have {histories.n_items} columns; this model knows {self.n_items} items"
            )
        return histories


def _slices(rows: slice, size: int) -> list[slice]:
    return [
        slice(start, min(start + size, rows.stop)) for start in range(rows.start, rows.stop, size)
    ]


def _in_batches(
    rank: Callable[[slice], TopK], batches: list[slice], chunk_size: int, at_once: int, k: int
) -> Iterator[tuple[slice, TopK]]:
    """Lists of length `k` of each batch of rows, ranked by chunks that are smaller."""
    chunks = [_slices(batch, chunk_size) for batch in batches]
    ahead = max(map(len, chunks), default=0)  # the next batch, while the caller uses one
    with closing(side_by_side(rank, list(chain(*chunks)), at_once=at_once, ahead=ahead)) as lists:
        for batch, of_batch in zip(batches, chunks, strict=True):
            parts = list(islice(lists, len(of_batch)))
            top = TopK(
                np.concatenate([part.items for part in parts]),
                np.concatenate([part.scores for part in parts]),
            )
            yield batch, top.padded(k)


def allowed_items(
    n_items: int,
    candidates: Indices | None,
    exclude: Indices | None,
) -> np.ndarray | None:
    """Mask of the items that may be listed, or None when all may.

    Raises
    ------
    DataError
        If an index is no whole number or not in ``range(n_items)``.
    """
    if candidates is None and exclude is None:
        return None
    allowed = np.full(n_items, candidates is None)
    for name, given, value in (("candidates", candidates, True), ("exclude", exclude, False)):
        if given is None:
            continue
        items = np.asarray(
            given if isinstance(given, np.ndarray) else several(name, given, "indices")
        )
        if items.size and items.dtype.kind not in "iu":
            raise DataError(f"{name} hold {shown(items.tolist())}; indices of items are accepted")
        items = items.astype(np.int64)  # (c,)
        if items.size and (items.min() < 0 or items.max() >= n_items):
            raise DataError(f"{name} hold an index outside 0..{n_items - 1}")
        allowed[items] = value
    return allowed


def _changed(config: Any) -> str:
    """Options that differ from their defaults, as they would be given by keyword."""
    if not isinstance(config, Options):
        return f"config={config!r:.40}"
    usual = type(config)()
    given = ((option.name, getattr(config, option.name)) for option in fields(config))
    return ", ".join(f"{name}={v!r}" for name, v in given if v != getattr(usual, name))


_MAY_BE_GIVEN = (
    "validation",
    "checkpoint",
    "keep_checkpoint",
    "resume",
    "progress",
)  # to every fit, whether it takes them or not


def _noting_rows(fit: Callable[..., Any]) -> Callable[..., Any]:
    """`fit` of what callers hold and of the arguments it takes, which notes what it learnt from."""
    taken = inspect.signature(fit).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in taken.values())

    @functools.wraps(fit)
    def noting(self: Recommender, train: Interactions | Matrix, **options: Any) -> Any:
        _refuse_unready(self)
        self.fitted_on = None
        train = interactions_of("train", train)
        held_out = options.get("validation")
        refuse_other("validation", held_out, HeldOut | None, "HeldOut, such as split.validation")
        if options.get("resume") and options.get("checkpoint") is None:
            raise ConfigError("resume needs checkpoint, the directory of what to go on from")
        given = {name: v for name, v in options.items() if takes_any or name in taken}
        for name in options:
            if name not in given and name not in _MAY_BE_GIVEN:
                accepted = ", ".join(dict.fromkeys([*list(taken)[1:], *_MAY_BE_GIVEN]))
                raise ConfigError(
                    f"fit of {self.name} has no argument {name!r}; it accepts {accepted}; options"
                    f" of a model are given to {type(self).__name__}(...)"
                )
        fit(self, train, **given)
        self._n_items = train.n_items
        self.fitted_on = train.rows_fingerprint()
        return self

    return noting


def _refuse_unready(model: Recommender) -> None:
    """Refuse a model of the caller without a name, or with a config that is none."""
    kind = type(model).__name__
    if not isinstance(getattr(model, "name", None), str):
        raise ConfigError(f"{kind} has no name: give the class one, name = 'my-model'")
    if not isinstance(model.config, Options):
        raise ConfigError(
            f"{kind}.config is {model.config!r:.40}; an Options is accepted; a model without"
            " options leaves config out"
        )


def fitted(value: Any, name: str) -> Any:
    """`value`, or `NotFittedError` where it is None because `name` was not fitted yet."""
    if value is None:
        raise NotFittedError(f"{name} is not fitted; call fit first")
    return value
