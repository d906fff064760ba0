"""Splits whose parts are different people: the users asked about are not those learned from."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int64

from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, row_counts
from recae.data.split import HeldOut


def items_of(data: Interactions) -> Int64[np.ndarray, " items"]:
    """Return the indices of the items with an interaction, ascending."""
    return np.flatnonzero(np.bincount(data.matrix.indices, minlength=data.n_items))


def split_users(
    data: Interactions,
    users: tuple[
        Int64[np.ndarray, " train"], Int64[np.ndarray, " validation"], Int64[np.ndarray, " test"]
    ],
    vocabulary: Int64[np.ndarray, " items"],
    draw: Callable[[Interactions, int], Bool[np.ndarray, " nnz"]],
    draw_seen: Callable[[Interactions, int], Bool[np.ndarray, " nnz"]] | None = None,
) -> Parts:
    """Train on the first group of users; ask about the other two.

    Parameters
    ----------
    data
        Interactions in which every user of the three groups has at least one.
    users
        Rows to train on, to validate with and to test with, in the order they shall have.
    vocabulary
        Items of the split, in the order they shall have: all of them trained on.
    draw
        Called with the interactions of a held-out group inside the vocabulary and the number of
        the group (1 validation, 2 test); gives the mask of those to hold out as targets.
    draw_seen
        The same for their pairs that are seen and not positive: those that it draws stay
        candidates, as what was not seen yet; the others are left out of the lists. None: `data` has
        no such pairs.
    """
    train = data.take_users(users[0]).take_items(vocabulary)
    held: list[HeldOut] = []
    notes: dict[str, object] = {"items_never_trained": data.n_items - len(vocabulary)}
    for number, name in ((1, "validation"), (2, "test")):
        whole = data.take_users(users[number])
        known = whole.take_items(vocabulary)
        target = draw(known, number)
        shown = known.take_entries(np.flatnonzero(~target))
        if known.seen is not None and draw_seen is not None:
            later = draw_seen(known.seen, number)
            shown = replace(shown, seen=known.seen.take_entries(np.flatnonzero(~later)))
        part = HeldOut(
            fold_in=shown.histories(),
            target=known.take_entries(np.flatnonzero(target)).matrix,
            users=known.users,
            unreachable=row_counts(whole) - row_counts(known),
        )
        notes |= held_out_notes(name, part)
        held.append(part)
    return Parts(train, held[0], held[1], notes)


def held_out_notes(name: str, part: HeldOut) -> dict[str, object]:
    """Count what one held-out part holds; each key starts with `name`."""
    assert part.unreachable is not None
    seen = part.fold_in.seen
    return {
        f"{name}_fold_in": int(part.fold_in.matrix.nnz),
        f"{name}_targets": int(part.target.nnz),
        **({} if seen is None else {f"{name}_seen_left_out": int(seen.nnz)}),
        f"{name}_unreachable": int(part.unreachable.sum()),
        f"{name}_users_without_target": int((np.diff(part.target.indptr) == 0).sum()),
    }
