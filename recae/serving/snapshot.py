"""One version of a model, answering: what a service swaps as a whole."""

import operator
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import SupportsIndex, final, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int64

from recae.arguments import brief
from recae.data.histories import Histories
from recae.data.ids import Id, IdMap, id_text
from recae.errors import ConfigError, DataError, NoKnownItemError, UnknownIdError, shown
from recae.models.similar import NearestItems
from recae.serving.bundle import Bundle
from recae.serving.hints import Hints
from recae.serving.reasons import Reasons, reasons_of
from recae.serving.recommendations import Fallback, Recommendations, Request, ScoredItem, Source

NO_CANDIDATE = "no candidate is known; the list is empty"

_BECAUSE = 3  # reasons of a place of a list


@final
@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A `Request` in index space.

    Attributes
    ----------
    request
        What was asked.
    source
        Who will answer.
    row
        Row of the stored history, where `source` is ``"model"``.
    stored
        That history.
    history, exclude
        Known items, in the order given.
    candidates
        Known items, or None for all.
    warnings
        What could not be followed.
    """

    request: Request
    source: Source
    row: int
    stored: Histories | None
    history: Int64[np.ndarray, " h"]
    exclude: Int64[np.ndarray, " e"]
    candidates: Int64[np.ndarray, " c"] | None
    warnings: tuple[str, ...]


@final
class Snapshot:
    """A `Bundle` and what is computed once to answer from it. Immutable."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.users = IdMap() if bundle.users is None else bundle.users
        self._user_hints = Hints(self.users)
        self._item_hints = Hints(bundle.items)
        self._by_popularity = np.argsort(-bundle.popularity, kind="stable")
        for ids in (self.users, bundle.items):
            "" in ids  # noqa: B015  # builds the look-up now, not during the first request

    def row_of(self, user: Id) -> int:
        """Row of the stored history of `user`.

        Raises
        ------
        UnknownIdError
            If there is none.
        ConfigError
            If `user` is no id.
        """
        user = id_text("user", user)
        if user in self.users:
            return int(self.users.indices_of([user])[0])
        if self.bundle.users is None:
            raise UnknownIdError(
                f"user {brief(user)!r} is not known: this model was saved without people;"
                " give a history"
            )
        raise UnknownIdError(
            f"user {brief(user)!r} is not known, {len(self.users)} users are"
            f"{self._user_hints.of(user)}"
        )

    def item_of(self, item: Id) -> int:
        """Index of `item`.

        Raises
        ------
        UnknownIdError
            If the model does not know it.
        ConfigError
            If `item` is no id.
        """
        items, item = self.bundle.items, id_text("item", item)
        if item in items:
            return int(items.indices_of([item])[0])
        raise UnknownIdError(
            f"item {brief(item)!r} is not known, {len(items)} items are{self._item_hints.of(item)}"
        )

    @cached_property
    def nearest(self) -> NearestItems:
        """Neighbours of items, made ready when they are first asked for.

        Raises
        ------
        ConfigError
            If the model has neither item vectors nor item-item weights.
        """
        return NearestItems(self.bundle.model)

    def stored(self, row: int) -> Histories:
        """Return the stored history at `row`."""
        assert self.bundle.histories is not None
        return self.bundle.histories.take(slice(row, row + 1))

    def answers(self, requests: Sequence[Request]) -> list[Recommendations | DataError]:
        """Return, for each of `requests`, its answer or why there is none.

        Raises
        ------
        ConfigError
            If a request is not accepted, whoever asks.
        """
        answers: list[Recommendations | DataError | None] = [None] * len(requests)
        groups: dict[tuple[object, ...], list[tuple[int, Question]]] = {}
        for place, request in enumerate(requests):
            try:
                question = self.question(request)
            except DataError as error:
                answers[place] = error
                continue
            if question.source == "popularity":
                answers[place] = self._popular(question)
            else:
                key = (question.source, request.exclude_seen, request.candidates)
                groups.setdefault(key, []).append((place, question))
        for group in groups.values():
            ranked = self._ranked([question for _, question in group])
            for (place, _), answer in zip(group, ranked, strict=True):
                answers[place] = answer
        return [answer for answer in answers if answer is not None]

    def question(self, request: Request) -> Question:
        """Look up the ids of `request`.

        Raises
        ------
        UnknownIdError
            If nothing is known and nothing falls back.
        ConfigError
            If the request is not accepted.
        """
        request = _checked(request)
        warnings: list[str] = []
        exclude = self.known("exclude", request.exclude, warnings)
        candidates = self.allowed(request.candidates, warnings)
        history, row, stored = np.zeros(0, dtype=np.int64), -1, None
        source: Source = "model" if request.history is None else "fold_in"
        try:
            if request.user is not None:
                row = self.row_of(request.user)
                stored = self.stored(row)
                empty = not len(stored.matrix.indices)
            else:
                history = self._folded_in(request.history or (), warnings)
                empty = not len(history)
        except UnknownIdError as error:
            if request.fallback == "none":
                raise
            source = "popularity"
            warnings.append(f"{error}; these are the most popular items")
        else:
            if empty:
                source = source if request.fallback == "none" else "popularity"
                warnings.append("the history is empty; the list is the same for everybody")
        told = tuple(warnings)
        return Question(request, source, row, stored, history, exclude, candidates, told)

    def _folded_in(self, ids: Sequence[str], warnings: list[str]) -> Int64[np.ndarray, " h"]:
        known = self.known("history", ids, warnings)
        if ids and not len(known):
            raise NoKnownItemError(
                f"no item of the history is known: {_brief_list(ids)};"
                f" {len(self.bundle.items)} items are{self._item_hints.of(ids[0])}"
            )
        return known

    def known(
        self, name: str, ids: Sequence[str], warnings: list[str]
    ) -> Int64[np.ndarray, " known"]:
        """Indices of those of `ids` that are items; the others are told in `warnings`."""
        known, unknown = self.bundle.items.split_known(ids)
        if unknown:
            warnings.append(
                f"{len(unknown)} of {len(ids)} ids of {name} are not known: {_brief_list(unknown)}"
            )
        return known

    def allowed(
        self, candidates: Sequence[str] | None, warnings: list[str]
    ) -> Int64[np.ndarray, " known"] | None:
        """Indices of the items that alone may be listed, None for all; told where there is none."""
        if candidates is None:
            return None
        known = self.known("candidates", candidates, warnings)
        if not len(known):
            warnings.append(NO_CANDIDATE)
        return known

    def _popular(self, question: Question) -> Recommendations:
        """Answer with what most people chose; ties go to the smaller item index."""
        items = self._most_popular(self._allowed(question), question.request.k)
        return self._answer(question, items, self.bundle.popularity[items].astype(np.float32))

    def _most_popular(
        self, allowed: Bool[np.ndarray, " items"], k: int
    ) -> Int64[np.ndarray, " listed"]:
        listed: np.ndarray = self._by_popularity[allowed[self._by_popularity]][:k]
        return listed

    def _allowed(self, question: Question) -> Bool[np.ndarray, " items"]:
        """Items that may be listed."""
        allowed = np.full(len(self.bundle.items), question.candidates is None)
        if question.candidates is not None:
            allowed[question.candidates] = True
        allowed[question.exclude] = False
        if question.request.exclude_seen:
            allowed[question.history] = False
            if (stored := question.stored) is not None:
                allowed[stored.matrix.indices] = False
                allowed[[] if stored.seen is None else stored.seen.indices] = False
        return allowed

    def _short(
        self,
        question: Question,
        items: Int64[np.ndarray, " listed"],
        scores: Float32[np.ndarray, " listed"],
    ) -> tuple[Int64[np.ndarray, " filled"], Float32[np.ndarray, " filled"], str]:
        """Fill a list that is too short, where there is a fallback, and say why it was short."""
        n_items, k = len(self.bundle.items), question.request.k
        allowed = self._allowed(question)
        n_allowed = int(allowed.sum())
        allowed[items] = False  # now those that the model says nothing about
        silent = f"nothing in the history speaks for {n_allowed - len(items)} others"
        if n_allowed > len(items) and question.request.fallback == "popular":
            more = self._most_popular(allowed, k - len(items))
            said = f"{silent}: the last {len(more)} places, with score 0, are their most popular"
            filled = np.concatenate([items, more])
            return filled, np.append(scores, np.zeros(len(more), dtype=np.float32)), said
        said = f"{len(items)} of {k} places are filled: {n_allowed} of {n_items} items are eligible"
        return items, scores, said if n_allowed == len(items) else f"{said}, and {silent}"

    def nothing(self, user: str, why: str) -> Recommendations:
        """Answer of an empty list for `user`, and `why` as its warning."""
        return Recommendations(
            user=user,
            source="model",
            complete=False,
            items=(),
            warnings=(why,),
            model_name=self.bundle.model.name,
            model_version=self.bundle.version,
        )

    def histories(self, questions: Sequence[Question]) -> Histories:
        """Histories of `questions` that agree in their source, a row each."""
        if len(questions) == 1 and questions[0].stored is not None:
            return questions[0].stored
        if questions[0].source == "model":
            assert self.bundle.histories is not None
            rows = np.array([question.row for question in questions], dtype=np.int64)
            return self.bundle.histories.take(rows)
        return Histories.from_lists(
            [question.history.tolist() for question in questions], n_items=len(self.bundle.items)
        )

    def _ranked(self, questions: Sequence[Question]) -> list[Recommendations]:
        """Answer questions that agree in source, seen items and candidates, by one call."""
        first, n_items = questions[0], len(self.bundle.items)
        histories = self.histories(questions)
        exclude = None
        if any(len(question.exclude) for question in questions):
            exclude = Histories.from_lists(
                [question.exclude.tolist() for question in questions], n_items=n_items
            )
        top = self.bundle.model.recommend(
            histories,
            k=min(n_items, max(question.request.k for question in questions)),
            exclude_seen=first.request.exclude_seen,
            candidates=first.candidates,
            exclude=exclude,
        )
        answers = []
        for row, question in enumerate(questions):
            length = min(question.request.k, int((top.items[row] >= 0).sum()))
            items, scores = top.items[row, :length], top.scores[row, :length]
            if length < question.request.k:
                items, scores, said = self._short(question, items, scores)
                question = replace(question, warnings=(*question.warnings, said))
            reasons = None
            if question.request.explain:
                reasons = reasons_of(self.bundle, histories.take(slice(row, row + 1)), items)
            answers.append(self._answer(question, items, scores, reasons))
        return answers

    def _answer(
        self,
        question: Question,
        items: Int64[np.ndarray, " listed"],
        scores: Float32[np.ndarray, " listed"],
        reasons: Reasons | None = None,
    ) -> Recommendations:
        listed, warnings = self.listed(items, scores), question.warnings
        if question.request.explain:  # what is popular has no reason in a history
            because = [()] * len(listed) if reasons is None else reasons.by_item
            listed = tuple(
                replace(
                    place, because=tuple(reason for reason in most[:_BECAUSE] if reason.weight > 0)
                )
                for place, most in zip(listed, because, strict=True)
            )
        if reasons is not None and reasons.warning is not None:
            warnings = (*warnings, reasons.warning)
        return Recommendations(
            user=question.request.user,
            source=question.source,
            complete=len(items) == question.request.k,
            items=listed,
            warnings=warnings,
            model_name=self.bundle.model.name,
            model_version=self.bundle.version,
        )

    def listed(
        self, items: Int64[np.ndarray, " listed"], scores: Float32[np.ndarray, " listed"]
    ) -> tuple[ScoredItem, ...]:
        """Places of a list, from the first on."""
        ids = self.bundle.items.ids_at(items)
        places = zip(ids, items.tolist(), scores.tolist(), strict=True)
        return tuple(
            ScoredItem(id_, rank, score, self.title(item))
            for rank, (id_, item, score) in enumerate(places, start=1)
        )

    def title(self, item: int) -> str | None:
        """Title of an item, where there is one."""
        return None if self.bundle.titles is None else self.bundle.titles[item]


def _checked(request: Request) -> Request:
    if (request.user is None) == (request.history is None):
        raise ConfigError("exactly one of user and history is accepted")
    if request.fallback not in get_args(Fallback):
        raise ConfigError(f"fallback is {request.fallback!r}; none and popular are accepted")
    return replace(request, k=whole_length(request.k))


def whole_length(k: SupportsIndex) -> int:
    """Length of a list as an int: whole numbers of NumPy are accepted too.

    Raises
    ------
    ConfigError
        If it is not a whole number from 1.
    """
    length = 0
    with suppress(TypeError):
        length = 0 if isinstance(k, bool) else operator.index(k)
    if length < 1:
        raise ConfigError(f"k is {k!r}; whole numbers from 1 are accepted")
    return length


def _brief_list(ids: Sequence[str]) -> str:
    return shown([brief(id_) for id_ in ids])
