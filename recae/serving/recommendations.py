"""What a service is asked and what it answers: ids in, ids out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Literal, final, overload

from recae.data.ids import Id, id_text, id_texts
from recae.evaluation.aligned import html_table

if TYPE_CHECKING:
    import pandas as pd

Fallback = Literal["none", "popular"]
Source = Literal["model", "fold_in", "popularity"]


@final
@dataclass(frozen=True, slots=True, init=False)
class Request:
    """One question; either `user` or `history` is given.

    Ids may be given as whole numbers, and any iterable of them for several
    (`recae.data.ids.Id`); they are held as texts.

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

    Raises
    ------
    ConfigError
        If an id is neither a text nor a whole number.

    Examples
    --------
    >>> Request(user=42, exclude=[260]).exclude
    ('260',)
    """

    user: str | None
    history: tuple[str, ...] | None
    k: int
    exclude_seen: bool
    exclude: tuple[str, ...]
    candidates: tuple[str, ...] | None
    fallback: Fallback
    explain: bool

    def __init__(
        self,
        *,
        user: Id | None = None,
        history: Iterable[Id] | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        exclude: Iterable[Id] = (),
        candidates: Iterable[Id] | None = None,
        fallback: Fallback = "none",
        explain: bool = False,
    ) -> None:
        for name, value in (
            ("user", None if user is None else id_text("user", user)),
            ("history", None if history is None else id_texts("history", history)),
            ("k", k),
            ("exclude_seen", exclude_seen),
            ("exclude", id_texts("exclude", exclude)),
            ("candidates", None if candidates is None else id_texts("candidates", candidates)),
            ("fallback", fallback),
            ("explain", explain),
        ):
            object.__setattr__(self, name, value)


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

    def to_frame(self) -> "pd.DataFrame":
        """One row a neighbour: ``target_item_id, item_id, score, rank, title``."""
        return _frame(_rows(self.item, self.items), owner="target_item_id")

    def __repr__(self) -> str:
        return _short("Similar", f"item={_cut(self.item)}", self.items, self.warnings)

    def _repr_html_(self) -> str:
        of = f"{self.item} {self.title or ''}".rstrip()
        return _html(f"items near {of}, {self.model_name}", self.items, self.warnings)


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

    def to_frame(self) -> "pd.DataFrame":
        """One row a place: ``user_id, item_id, score, rank, title``."""
        return _frame(_rows(self.user, self.items))

    def __repr__(self) -> str:
        whose = f"user={_cut(self.user)}" if self.user is not None else "of a history"
        return _short("Recommendations", whose, self.items, self.warnings)

    def _repr_html_(self) -> str:
        whose = "a history" if self.user is None else f"user {self.user}"
        caption = f"for {whose}, {self.model_name}, source {self.source}"
        return _html(caption, self.items, self.warnings)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Cohort(Sequence[Recommendations]):
    """Answers for several people, one each, in the order in which they were asked for.

    Attributes
    ----------
    answers
        Somebody who is not known has an empty list, whose warning says so.
    unknown
        Ids of those who are not known, and for whom nothing fell back.
    """

    answers: tuple[Recommendations, ...]
    unknown: tuple[str, ...]

    def to_frame(self) -> "pd.DataFrame":
        """One row a place: ``user_id, item_id, score, rank, title``; none for an empty list."""
        return _frame(list(chain.from_iterable(_rows(a.user, a.items) for a in self.answers)))

    @overload
    def __getitem__(self, index: int) -> Recommendations: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Recommendations, ...]: ...

    def __getitem__(self, index: int | slice) -> Recommendations | tuple[Recommendations, ...]:
        return self.answers[index]

    def __len__(self) -> int:
        return len(self.answers)

    def __repr__(self) -> str:
        places = sum(len(answer.items) for answer in self.answers)
        return f"Cohort({len(self)} lists, {places} places{self._unknown()})"

    def _repr_html_(self) -> str:
        rows = [row for answer in self.answers[:_SHOWN_LISTS] for row in _cells(answer.items)]
        owners = [a.user for a in self.answers[:_SHOWN_LISTS] for _ in a.items]
        shown = [[str(owner), *row] for owner, row in zip(owners, rows, strict=True)]
        more = len(self) - _SHOWN_LISTS
        note = f"; the first {_SHOWN_LISTS} are shown" if more > 0 else ""
        caption = f"{len(self)} lists{note}{self._unknown()}"
        return html_table(["user", *_HEAD], shown, caption=caption, left=(0, 2, 4))

    def _unknown(self) -> str:
        if not self.unknown:
            return ""
        more = len(self.unknown) - 3
        first = ", ".join(_cut(id_) for id_ in self.unknown[:3])
        return f"; not known: {first}{f' and {more} more' if more > 0 else ''}"


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

    def to_frame(self) -> "pd.DataFrame":
        """One row a reason: ``item_id, weight, title``."""
        import pandas as pd

        rows = [(reason.item, reason.weight, reason.title) for reason in self.reasons]
        frame = pd.DataFrame(rows, columns=["item_id", "weight", "title"])
        return frame.astype({"weight": "float64"})

    def __repr__(self) -> str:
        first = ", ".join(f"{_named(r.item, r.title)} {r.weight:+.4g}" for r in self.reasons[:3])
        more = f" and {len(self.reasons) - 3} more" if len(self.reasons) > 3 else ""
        of = _named(self.item, self.title)
        return f"Explanation({of} {self.score:.4g}: {first or 'no reason'}{more})"

    def _repr_html_(self) -> str:
        rows = [[f"{r.weight:+.4f}", r.item, r.title or ""] for r in self.reasons]
        caption = f"why {self.item} {self.title or ''} scores {self.score:.4f}"
        return html_table(["weight", "item", "title"], rows, caption=caption, left=(1, 2))


_HEAD = ("rank", "item", "score", "title")
_SHOWN_ITEMS, _SHOWN_LISTS, _SHOWN_CHARACTERS = 3, 10, 40


def _rows(
    owner: str | None, items: tuple[ScoredItem, ...]
) -> list[tuple[str | None, str, float, int, str | None]]:
    return [(owner, item.item, item.score, item.rank, item.title) for item in items]


def _frame(
    rows: list[tuple[str | None, str, float, int, str | None]], *, owner: str = "user_id"
) -> "pd.DataFrame":
    """Rows of lists, in the columns of files of lists."""
    import pandas as pd

    frame = pd.DataFrame(rows, columns=[owner, "item_id", "score", "rank", "title"])
    return frame.astype({"score": "float64", "rank": "int64"})


def _cut(text: str) -> str:
    """`text` in quotes, cut: ids and titles are of any length, and written by others."""
    quoted = repr(text)
    return quoted if len(quoted) <= _SHOWN_CHARACTERS else f"{quoted[:_SHOWN_CHARACTERS]}…"


def _named(item: str, title: str | None) -> str:
    return _cut(item) if title is None else f"{_cut(item)} {_cut(title)}"


def _short(kind: str, whose: str, items: tuple[ScoredItem, ...], warnings: tuple[str, ...]) -> str:
    """A line about a list: the first items, how many there are, and of warnings how many."""
    first = ", ".join(f"{_named(i.item, i.title)} {i.score:.4g}" for i in items[:_SHOWN_ITEMS])
    more = f" and {len(items) - _SHOWN_ITEMS} more" if len(items) > _SHOWN_ITEMS else ""
    noted = f"; {len(warnings)} warnings" if warnings else ""
    return f"{kind}({whose}, {len(items)} items: {first or 'none'}{more}{noted})"


def _cells(items: tuple[ScoredItem, ...]) -> list[list[str]]:
    return [[str(i.rank), i.item, f"{i.score:.4f}", i.title or ""] for i in items]


def _html(caption: str, items: tuple[ScoredItem, ...], warnings: tuple[str, ...]) -> str:
    said = "; ".join((caption, *warnings))
    return html_table(list(_HEAD), _cells(items), caption=said, left=(1, 3))
