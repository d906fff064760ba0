"""Validation and test part of a split side by side: how many users, how much of what they have."""

from dataclasses import asdict, dataclass
from typing import final

import numpy as np
from jaxtyping import Int64

from recae.data.interactions import Interactions
from recae.data.split import HeldOut
from recae.evaluation.aligned import aligned
from recae.evaluation.segments import POPULARITY_GROUPS, popularity_groups

_QUANTILES = (0.1, 0.5, 0.9)


@final
@dataclass(frozen=True, slots=True)
class Part:
    """Counts of a held-out part; its users are those who have a target.

    Attributes
    ----------
    users, targets
        Number of users and of their targets.
    history, targets_each
        Number of items shown to the model and of targets of a user: 10 %, 50 % and 90 % quantile
        over users; empty without users.
    popularity
        Shares of the targets in each of `POPULARITY_GROUPS`, thirds of the training interactions.
    """

    users: int
    targets: int
    history: tuple[float, ...]
    targets_each: tuple[float, ...]
    popularity: tuple[float, ...]

    def cells(self) -> list[str]:
        """As text, in the order of the head of `HeldOutParts.rows`."""
        spread = [
            f"{q[1]:.0f} ({q[0]:.0f} to {q[2]:.0f})" if q else "-"
            for q in (self.history, self.targets_each)
        ]
        counts = [f"{self.users:,}", f"{self.targets:,}"]
        return [*counts, *spread, *(f"{share:.0%}" for share in self.popularity)]


@final
@dataclass(frozen=True, slots=True)
class HeldOutParts:
    """The validation part, by which models are chosen, and the test part; None where there is none.

    Attributes
    ----------
    validation, test
        The parts.
    """

    validation: Part | None
    test: Part | None

    def rows(self) -> list[list[str]]:
        """Return a row a part as text, the head first.

        Items shown and targets of a user are medians, with the 10 % and 90 % quantile over users in
        brackets; head, middle and tail are shares of the targets.
        """
        found = [("validation", self.validation), ("test", self.test)]
        head = ["part", "users", "targets", "items shown", "targets of a user", *POPULARITY_GROUPS]
        return [head, *([name, *part.cells()] for name, part in found if part is not None)]

    def __str__(self) -> str:
        return "\n".join(aligned(self.rows()))

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return {"validation": _json(self.validation), "test": _json(self.test)}


def held_out_parts(
    train: Interactions, validation: HeldOut | None, test: HeldOut | None
) -> HeldOutParts:
    """Count what is in the held-out parts of one split; no model is asked.

    Parameters
    ----------
    train
        Training part; its counts say which items are popular.
    validation, test
        The parts, over the same items.

    Examples
    --------
    >>> from recae.data.protocols import split
    >>> from recae.data.synthetic import Synthetic
    >>> made = split(Synthetic(n_users=200, n_items=40).interactions(), held_out_users=50, rng=1)
    >>> print(held_out_parts(made.train, made.validation, made.test))
    part        users  targets  items shown  targets of a user  head  middle  tail
    validation     50       94   8 (8 to 8)         2 (1 to 2)   30%     28%   43%
    test           50       93   8 (7 to 8)         2 (1 to 2)   33%     35%   31%
    """
    counts = np.bincount(train.matrix.indices, minlength=train.n_items).astype(np.int64)
    groups = popularity_groups(counts)
    parts = [None if held is None else _part(held, groups) for held in (validation, test)]
    return HeldOutParts(*parts)


def _part(held_out: HeldOut, groups: Int64[np.ndarray, " items"]) -> Part:
    target = held_out.target
    each = np.diff(target.indptr)
    asked = each > 0
    in_group = np.bincount(groups[target.indices], minlength=len(POPULARITY_GROUPS))
    return Part(
        users=int(asked.sum()),
        targets=int(target.nnz),
        history=_quantiles(np.diff(held_out.fold_in.matrix.indptr)[asked]),
        targets_each=_quantiles(each[asked]),
        popularity=tuple((in_group / max(1, target.nnz)).tolist()),
    )


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    return tuple(np.quantile(values, _QUANTILES).tolist()) if len(values) else ()


def _json(part: Part | None) -> dict[str, object] | None:
    if part is None:
        return None
    named = dict(zip(POPULARITY_GROUPS, part.popularity, strict=True))
    return {**asdict(part), "popularity": named}
