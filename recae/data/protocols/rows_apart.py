"""Splits whose parts are different interactions of the same people (weak generalisation)."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int8

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, row_counts
from recae.data.protocols.users_apart import held_out_notes, items_of
from recae.data.split import HeldOut
from recae.errors import DataError

TRAIN, VALIDATION, TEST = 0, 1, 2


def split_rows(
    data: Interactions, part: Int8[np.ndarray, " nnz"], *, fold_in_validation: bool
) -> Parts:
    """Train on the entries of part 0; ask users for their entries of part 1, and of part 2.

    The vocabulary is the items trained on, the users trained on are those with a training entry,
    both in the order of the input. A user with something to find but nothing to be shown is left
    out of that held-out part and counted.

    Parameters
    ----------
    data
        What to split.
    part
        Part of each entry: 0 train, 1 validation, 2 test.
    fold_in_validation
        Whether the validation entries of a user are part of the history shown when testing (they
        happened before). If not, they are neither shown nor allowed in the answer.

    Raises
    ------
    DataError
        If no entry is of part 0, or a part with entries has no user with a history.
    """
    labelled = replace(data, part=part)
    train = labelled.take_entries(np.flatnonzero(part == TRAIN))
    if not train.matrix.nnz:
        raise DataError("the split leaves no interaction to train on")
    vocabulary = items_of(train)
    users = np.flatnonzero(row_counts(train))
    train = replace(train.take_users(users).take_items(vocabulary), part=None)
    notes: dict[str, object] = {
        "items_never_trained": data.n_items - len(vocabulary),
        "users_never_trained": data.n_users - len(users),
    }
    known = labelled.take_items(vocabulary)
    held: list[HeldOut | None] = []
    for code, name in ((VALIDATION, "validation"), (TEST, "test")):
        seen = (TRAIN, VALIDATION) if code == TEST and fold_in_validation else (TRAIN,)
        made, counted = _held_out(labelled, known, code, seen, name)
        held.append(made)
        notes |= counted
    return Parts(train, held[0], held[1], notes)


def _held_out(
    labelled: Interactions, known: Interactions, code: int, seen: tuple[int, ...], name: str
) -> tuple[HeldOut | None, dict[str, object]]:
    assert labelled.part is not None
    assert known.part is not None
    asked = row_counts(labelled.take_entries(np.flatnonzero(labelled.part == code)))
    if not asked.any():
        return None, {}
    shown = row_counts(known.take_entries(np.flatnonzero(np.isin(known.part, seen))))
    users = np.flatnonzero((asked > 0) & (shown > 0))
    if not len(users):
        raise DataError(f"none of the {(asked > 0).sum()} {name} users has training interactions")
    rows = known.take_users(users)
    assert rows.part is not None

    def of(mask: Bool[np.ndarray, " nnz"]) -> Interactions:
        return rows.take_entries(np.flatnonzero(mask))

    target = of(rows.part == code)
    others = (rows.part == VALIDATION) & (code == TEST) & (VALIDATION not in seen)
    made = HeldOut(
        fold_in=of(np.isin(rows.part, seen)).histories(),
        target=target.matrix,
        users=rows.users,
        exclude=Histories(of(others).matrix) if others.any() else None,
        unreachable=asked[users] - row_counts(target),
    )
    silent = (asked > 0) & (shown == 0)
    return made, {
        **held_out_notes(name, made),
        f"{name}_users_without_history": int(silent.sum()),
        f"{name}_interactions_without_history": int(asked[silent].sum()),
    }
