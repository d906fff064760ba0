"""`HeldOut` and `Split`: what a model learns from, what it is asked, and what it should answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
from jaxtyping import Int64
from scipy.sparse import csr_array

from recae.data.histories import Histories, is_canonical
from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.errors import DataError, shown


@final
@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Questions and answers for the same users: row ``u`` of `fold_in`, `target` and `exclude`.

    Attributes
    ----------
    fold_in
        What the model is shown, ``(users, items)``.
    target
        What it should find, same shape, canonical; disjoint from `fold_in` by construction.
    users
        Ids of the rows.
    exclude
        Further items that may not be listed for a user (validation rows when testing, say), none of
        them a target.
    unreachable
        For each user, held-out interactions with items the training users never touched; no model
        can find them and they are not in `target`. Shape ``(users,)``.
    apart_from
        `Interactions.rows_fingerprint` of the training part of its split, which `Split` sets; None
        for a hold-out without one.
    train
        Matrix of that training part, which some metrics look at; set by `Split` too.

    Raises
    ------
    DataError
        If shapes differ, or an item that is asked for is shown or excluded.
    """

    fold_in: Histories
    target: csr_array
    users: IdMap
    exclude: Histories | None = None
    unreachable: Int64[np.ndarray, " users"] | None = None
    apart_from: str | None = None
    train: csr_array | None = None

    def __post_init__(self) -> None:
        if not is_canonical(self.target):
            raise DataError("held-out targets need a canonical float32 matrix")
        shape = self.fold_in.matrix.shape
        for name, other in (("target", self.target), ("exclude", self.exclude)):
            matrix = other.matrix if isinstance(other, Histories) else other
            if matrix is not None and matrix.shape != shape:
                raise DataError(f"{name} has shape {matrix.shape}; the fold-in part has {shape}")
        if len(self.users) != shape[0]:
            raise DataError(f"{len(self.users)} user ids for {shape[0]} held-out rows")
        if self.unreachable is None:
            object.__setattr__(self, "unreachable", np.zeros(shape[0], dtype=np.int64))
        excluded = None if self.exclude is None else self.exclude.matrix
        left_out = {"fold-in": self.fold_in.matrix, "seen": self.fold_in.seen, "excluded": excluded}
        for name, matrix in left_out.items():
            if matrix is None:
                continue
            both = matrix.multiply(self.target).tocoo()
            if both.nnz:
                rows = np.unique(both.coords[0])
                raise DataError(
                    f"{both.nnz} interactions are both {name} and target,"
                    f" for users {shown(self.users.ids_at(rows))}"
                )

    def __repr__(self) -> str:
        return f"HeldOut({len(self)} users x {self.n_items} items, {self.target.nnz} targets)"

    def __len__(self) -> int:
        return len(self.fold_in)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.fold_in.n_items

    def take(self, rows: Int64[np.ndarray, " n"]) -> "HeldOut":
        """Return the users of `rows`, in that order."""
        assert self.unreachable is not None
        return HeldOut(
            fold_in=self.fold_in.take(rows),
            target=Histories(self.target).take(rows).matrix,
            users=self.users.take(rows),
            exclude=None if self.exclude is None else self.exclude.take(rows),
            unreachable=self.unreachable[rows],
            apart_from=self.apart_from,
            train=self.train,
        )


@final
@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One protocol applied to one data set.

    Attributes
    ----------
    train
        What models learn from. Its `items` are the vocabulary of the whole split.
    validation, test
        Held-out users, or None where the protocol has none.
    protocol
        ``"strong"``, ``"mult-vae"``, ``"column"``, ...
    options
        The protocol's parameters, seeds included, as JSON values: enough to make the split again.
    fingerprint
        `Interactions.fingerprint` of the data that was split.
    notes
        Counts worth telling: users dropped, items never trained on, unreachable targets, ...
    """

    train: Interactions
    validation: HeldOut | None
    test: HeldOut | None
    protocol: str
    options: Mapping[str, object]
    fingerprint: str
    notes: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        learnt = self.train.rows_fingerprint()
        for name in ("validation", "test"):
            part = getattr(self, name)
            if part is None:
                continue
            if part.n_items != self.train.n_items:
                raise DataError(
                    f"{name} has {part.n_items} items; the training part has {self.train.n_items}"
                )
            known = replace(part, apart_from=learnt, train=self.train.matrix)
            object.__setattr__(self, name, known)

    def __repr__(self) -> str:
        parts = [f"train {self.train.n_users} users x {self.train.n_items} items"]
        for name, part in (("validation", self.validation), ("test", self.test)):
            parts += [] if part is None else [f"{name} {len(part)} users"]
        return f"Split({self.protocol}: {', '.join(parts)})"

    def to_json(self) -> dict[str, object]:
        """What is stored with a model: everything but the interactions themselves."""
        return {
            "protocol": self.protocol,
            "options": dict(self.options),
            "fingerprint": self.fingerprint,
            "notes": dict(self.notes),
            "train_users": self.train.n_users,
            "train_interactions": int(self.train.matrix.nnz),
            "items": self.train.n_items,
            "validation_users": 0 if self.validation is None else len(self.validation),
            "test_users": 0 if self.test is None else len(self.test),
        }
