"""`RecommendationService`: recommendations from a model directory, with ids in and ids out."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import SupportsIndex, final, overload

import numpy as np

from recae.arguments import several
from recae.data.ids import Id, id_texts
from recae.errors import ConfigError, DataError
from recae.serving.bundle import Bundle, current_version, load_bundle
from recae.serving.explain import explain as explanation
from recae.serving.recommendations import (
    Cohort,
    Explanation,
    Fallback,
    Recommendations,
    Request,
    Similar,
)
from recae.serving.similar import similar_to
from recae.serving.snapshot import Snapshot, whole_length

_ROWS = 1024  # people asked for at once by `recommend_all`
_NO_PEOPLE = "this model was saved without people; give histories"


@final
class RecommendationService:
    """Answers from one version of a model at a time; safe to share between threads.

    Every answer comes from one version as a whole, also while `reload` replaces it. Where an id is
    given, a whole number is accepted too (`recae.data.ids.Id`): ``user=42`` is ``user="42"``.

    Parameters
    ----------
    bundle
        A loaded version. `open` also remembers the directory, so that `reload` can follow it.

    Examples
    --------
    >>> films = RecommendationService.open("models/films")  # doctest: +SKIP
    >>> films.recommend(history=["m12", "m99"], k=10)  # doctest: +SKIP
    """

    def __init__(self, bundle: Bundle) -> None:
        self._snapshot = Snapshot(bundle)
        self._directory: Path | None = None
        self._reloading = threading.Lock()

    @classmethod
    def open(cls, directory: str | Path) -> "RecommendationService":
        """Service of the current version of a model directory.

        Raises
        ------
        BundleError
            If it is missing, damaged or written by a newer version of the package.
        """
        self = cls(load_bundle(directory))
        self._directory = Path(directory).absolute()  # the process may go elsewhere
        return self

    @property
    def bundle(self) -> Bundle:
        """The version that answers now."""
        return self._snapshot.bundle

    @property
    def version(self) -> str:
        """Id of the version that answers now."""
        return self.bundle.version

    @property
    def model_name(self) -> str:
        """Name of the model that answers now."""
        return self.bundle.model.name

    @property
    def n_items(self) -> int:
        """Number of items that can be recommended."""
        return len(self.bundle.items)

    @property
    def n_users(self) -> int:
        """Number of people whose history is stored."""
        return 0 if self.bundle.users is None else len(self.bundle.users)

    def reload(self) -> bool:
        """Change to the version that the directory points to now, and say whether it is another.

        Requests go on meanwhile. Reloads happen one after the other.

        Raises
        ------
        BundleError
            If the new version is missing, damaged or too new; the one before goes on answering.
        ConfigError
            If the service was not made by `open`.
        """
        if self._directory is None:
            raise ConfigError("this service was made from a bundle; one made by open can reload")
        with self._reloading:
            if current_version(self._directory) == self.version:
                return False
            self._snapshot = Snapshot(load_bundle(self._directory))
            return True

    @overload
    def recommend(
        self,
        *,
        user: Id | None = None,
        history: Iterable[Id] | None = None,
        users: None = None,
        k: SupportsIndex = 10,
        exclude_seen: bool = True,
        exclude: Iterable[Id] = (),
        candidates: Iterable[Id] | None = None,
        fallback: Fallback = "none",
        explain: bool = False,
    ) -> Recommendations: ...

    @overload
    def recommend(
        self,
        *,
        users: Iterable[Id],
        k: SupportsIndex = 10,
        exclude_seen: bool = True,
        exclude: Iterable[Id] = (),
        candidates: Iterable[Id] | None = None,
        fallback: Fallback = "none",
        explain: bool = False,
    ) -> Cohort: ...

    def recommend(
        self,
        *,
        user: Id | None = None,
        history: Iterable[Id] | None = None,
        users: Iterable[Id] | None = None,
        k: SupportsIndex = 10,
        exclude_seen: bool = True,
        exclude: Iterable[Id] = (),
        candidates: Iterable[Id] | None = None,
        fallback: Fallback = "none",
        explain: bool = False,
    ) -> Recommendations | Cohort:
        """Return the best items for a known user, for any history, or for several users.

        Parameters are as in `Request`. An id of `history`, `exclude` or `candidates` that is not
        known is left out and told in the warnings. Candidates of which none is known leave an empty
        list, and a warning. One of several `users` who is not known costs nobody else the list: his
        own is empty with a warning, and `Cohort.unknown` names him.

        Raises
        ------
        UnknownIdError
            If the user is not known and there is no fallback.
        NoKnownItemError
            If no item of a history is known and there is no fallback.
        ConfigError
            If not exactly one of `user`, `history` and `users` is given, or a value is not
            accepted.
        """
        if sum(given is not None for given in (user, history, users)) != 1:
            raise ConfigError("exactly one of user, history and users is accepted")
        request = Request(
            user="" if users is not None else user,
            history=history,
            k=whole_length(k),
            exclude_seen=exclude_seen,
            exclude=exclude,
            candidates=candidates,
            fallback=fallback,
            explain=explain,
        )
        if users is None:
            return self.recommend_many([request])[0]
        snapshot, asked = self._snapshot, id_texts("users", users)
        if snapshot.bundle.users is None and fallback == "none":
            raise ConfigError(_NO_PEOPLE)
        found = snapshot.answers([replace(request, user=one) for one in asked])
        answers = tuple(
            snapshot.nothing(one, str(answer)) if isinstance(answer, DataError) else answer
            for one, answer in zip(asked, found, strict=True)
        )
        pairs = zip(asked, found, strict=True)
        return Cohort(answers, tuple(one for one, a in pairs if isinstance(a, DataError)))

    def recommend_many(self, requests: Iterable[Request]) -> list[Recommendations]:
        """Answer all of `requests`, by as few calls of the model as their options allow.

        Raises
        ------
        UnknownIdError, ConfigError
            As `recommend`, for the first request that has no answer.
        """
        return _answered(self._snapshot, several("requests", requests, "requests"))

    def answer_many(self, requests: Iterable[Request]) -> list[Recommendations | DataError]:
        """Return, for each of `requests`, its answer or the error that `recommend` would raise.

        Raises
        ------
        ConfigError
            If a request is not accepted, whoever asks.
        """
        return self._snapshot.answers(several("requests", requests, "requests"))

    def recommend_all(
        self,
        users: Iterable[Id] | None = None,
        *,
        k: SupportsIndex = 10,
        exclude_seen: bool = True,
        exclude: Iterable[Id] = (),
        candidates: Iterable[Id] | None = None,
    ) -> Iterator[list[Recommendations]]:
        """Answers for `users`, or for everybody whose history is stored, a chunk at a time.

        All come from the version that answers when the iteration starts.

        Raises
        ------
        UnknownIdError
            If one of the users is not known, before anything is answered.
        ConfigError
            As `recommend`, and if the model was saved without people.
        """
        snapshot = self._snapshot
        if snapshot.bundle.users is None:
            raise ConfigError(_NO_PEOPLE)
        asked = snapshot.users.ids_at(range(len(snapshot.users)))
        if users is not None:
            asked = list(id_texts("users", users))
            snapshot.users.indices_of(asked)
        shared = Request(
            user="",
            k=whole_length(k),
            exclude_seen=exclude_seen,
            exclude=exclude,
            candidates=candidates,
        )
        for start in range(0, len(asked), _ROWS):
            yield _answered(
                snapshot,
                [replace(shared, user=user) for user in asked[start : start + _ROWS]],
            )

    def similar(
        self,
        item: Id,
        *,
        k: SupportsIndex = 10,
        exclude: Iterable[Id] = (),
        candidates: Iterable[Id] | None = None,
    ) -> Similar:
        """Return the items nearest to `item`, by their vectors or the weights between them.

        Parameters
        ----------
        item
            Id; never in its own list.
        k
            Length of the list, at least 1.
        exclude
            Item ids that may not be listed.
        candidates
            Item ids that alone may be listed; None for all.

        Raises
        ------
        UnknownIdError
            If the item is not known.
        ConfigError
            If the model has neither item vectors nor item-item weights, or a value is not accepted.
        """
        return similar_to(self._snapshot, item, k=k, exclude=exclude, candidates=candidates)

    def explain(
        self, item: Id, *, user: Id | None = None, history: Iterable[Id] | None = None
    ) -> Explanation:
        """Return why `item` has its score: what the score loses without each item of the history.

        The scores are computed, not estimated: without the first reason in the history, the item
        scores exactly that reason's weight less. Reasons do not add up to the score. Of a history
        of more than 100 items only the most recent 100 are left out in turn, and a warning says so.

        Parameters
        ----------
        item
            Id of any item, listed or not.
        user
            Id of somebody whose history was stored with the model.
        history
            Item ids, oldest first, of anybody.

        Raises
        ------
        UnknownIdError
            If the item or the user is not known.
        NoKnownItemError
            If no item of a history is known.
        ConfigError
            If not exactly one of `user` and `history` is given.
        """
        return explanation(self._snapshot, item, user=user, history=history)

    def history(self, user: Id) -> list[str]:
        """Return the stored history of `user`: item ids, oldest first where the order is known.

        Raises
        ------
        UnknownIdError
            If the user is not known.
        """
        snapshot = self._snapshot
        row = snapshot.stored(snapshot.row_of(user))
        oldest_first = slice(None) if row.order is None else np.argsort(row.order)
        return snapshot.bundle.items.ids_at(row.matrix.indices[oldest_first])


def _answered(snapshot: Snapshot, requests: Sequence[Request]) -> list[Recommendations]:
    """Answers to all of `requests`, or the first error."""
    answers = []
    for answer in snapshot.answers(requests):
        if isinstance(answer, DataError):
            raise answer
        answers.append(answer)
    return answers
