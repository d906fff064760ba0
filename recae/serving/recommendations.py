"""What a service is asked and what it answers: ids in, ids out."""

from dataclasses import dataclass
from typing import Literal, final

Fallback = Literal["none", "popular"]
Source = Literal["model", "fold_in", "popularity"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question; either `user` or `history` is given.

    Attributes
    ----------
    user
        Id of somebody whose history was stored with the model.
    history
        Item ids, oldest first, of anybody.
    k
        Length of the list, at least 1.
    exclude_seen
        Leave out the items of the history, and those that a stored person rated below the minimum.
    exclude
        Item ids that may not be listed.
    candidates
        Item ids that alone may be listed; None for all. The list is empty where none is known.
    fallback
        What to answer when the model knows nothing about who asks: an error, or what most people
        chose. The latter also fills a list that is short because nothing in the history speaks for
        other items; filled places have score 0, and a warning tells them.
    explain
        Say for each item of the list what of the history speaks for it.
    """

    user: str | None = None
    history: tuple[str, ...] | None = None
    k: int = 10
    exclude_seen: bool = True
    exclude: tuple[str, ...] = ()
    candidates: tuple[str, ...] | None = None
    fallback: Fallback = "none"
    explain: bool = False


@final
@dataclass(frozen=True, slots=True)
class Reason:
    """An item of a history, as a reason of another item's score.

    Attributes
    ----------
    item
        Id.
    weight
        What the score loses, exactly, when this item is taken out of the history; below 0 where it
        gains.
    title
        Where the items have titles.
    """

    item: str
    weight: float
    title: str | None


@final
@dataclass(frozen=True, slots=True)
class ScoredItem:
    """One place of a list.

    Attributes
    ----------
    item
        Id.
    rank
        From 1.
    score
        Higher is better; comparable inside one list only. With source ``"popularity"`` the number
        of training interactions.
    title
        Where the items have titles.
    because
        Up to three items of the history that speak most for this one; None where nobody asked.
    """

    item: str
    rank: int
    score: float
    title: str | None
    because: tuple[Reason, ...] | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """Neighbours of one item.

    Attributes
    ----------
    item, title
        Whose neighbours; the title where the items have titles.
    complete
        Whether the list has the length that was asked for.
    items
        Nearest first; never padded, never the item itself. Scores are cosines of the vectors of
        items, or the weights between items where the model has those instead.
    warnings
        What was asked but could not be followed.
    model_name, model_version
        Who answered.
    """

    item: str
    title: str | None
    complete: bool
    items: tuple[ScoredItem, ...]
    warnings: tuple[str, ...]
    model_name: str
    model_version: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendations:
    """One answer.

    Attributes
    ----------
    user
        The id that was asked for, None when a history was given.
    source
        ``"model"`` for the stored history of a known user, ``"fold_in"`` for a history that was
        sent, ``"popularity"`` for the fallback.
    complete
        Whether the list has the length that was asked for.
    items
        Best first; never padded.
    warnings
        What was asked but could not be followed, ids that are not known above all.
    model_name, model_version
        Who answered.
    """

    user: str | None
    source: Source
    complete: bool
    items: tuple[ScoredItem, ...]
    warnings: tuple[str, ...]
    model_name: str
    model_version: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why an item has its score for one history.

    Attributes
    ----------
    user
        The id that was asked for, None when a history was given.
    item, title
        Whose score; the title where the items have titles.
    score
        The score that ranks the item for this history.
    reasons
        Items of the history, the one that weighs most first.
    warnings
        What was asked but could not be followed.
    model_name, model_version
        Who answered.
    """

    user: str | None
    item: str
    title: str | None
    score: float
    reasons: tuple[Reason, ...]
    warnings: tuple[str, ...]
    model_name: str
    model_version: str
