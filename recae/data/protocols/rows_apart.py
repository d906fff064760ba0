"""Splits whose parts are different interactions of the same people (weak generalisation)."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int8

from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, row_counts
from recae.data.protocols.users_apart import held_out_notes, items_of
from recae.data.split import HeldOut
from recae.errors import DataError

TRAIN, VALIDATION, TEST = 0, 1, 2


def split_rows(
    data: Interactions,
    part: Int8[np.ndarray, " nnz"],
    seen_part: Int8[np.ndarray, " seen"] | None = None,
    *,
    fold_in_validation: bool,
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
    seen_part
        The same for ``data.seen``, where there is any: such pairs are left out of the lists where
        an entry of their part would be shown or excluded, and are candidates where it is asked for.
    fold_in_validation
        Whether the validation entries of a user are part of the history shown when testing (they
        happened before). If not, they are neither shown nor allowed in the answer.

    Raises
    ------
    DataError
        If no entry is of part 0, or a part with entries has no user with a history.
    """
    labelled = replace(data, part=part)
    if data.seen is not None:
        labelled = replace(labelled, seen=replace(data.seen, part=seen_part))
    train = _of_parts(labelled, TRAIN)
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
    target = _of_parts(rows, code)
    exclude = None
    if code == TEST and VALIDATION not in seen:
        others = _of_parts(rows, VALIDATION).histories()
        excluded = others.matrix if others.seen is None else others.matrix + others.seen
        exclude = Histories(excluded) if excluded.nnz else None
    made = HeldOut(
        fold_in=_of_parts(rows, *seen).histories(),
        target=target.matrix,
        users=rows.users,
        exclude=exclude,
        unreachable=asked[users] - row_counts(target),
    )
    silent = (asked > 0) & (shown == 0)
    return made, {
        **held_out_notes(name, made),
        f"{name}_users_without_history": int(silent.sum()),
        f"{name}_interactions_without_history": int(asked[silent].sum()),
    }


def _of_parts(data: Interactions, *parts: int) -> Interactions:
    """Pairs of some parts, those that are only seen included."""
    assert data.part is not None
    kept = data.take_entries(np.flatnonzero(np.isin(data.part, parts)))
    return kept if data.seen is None else replace(kept, seen=_of_parts(data.seen, *parts))
