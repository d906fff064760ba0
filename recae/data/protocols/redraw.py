"""Further draws of what is shown and what is asked, for the same held-out users."""

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from recae.data.histories import Histories, keep_entries
from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.data.protocols.drawing import id_rank
from recae.data.split import HeldOut
from recae.errors import ConfigError

_FURTHER = 3  # a stream of its own: the protocols draw by (rng, 0), (rng, 1) and (rng, 2)


def redraw(held_out: HeldOut, train: Interactions, *, draws: int, rng: int = 0) -> list[HeldOut]:
    """Draw again, from fold-in and targets together, what each held-out user is asked for.

    Every user keeps the number of targets, so shares and minimums stay those of the protocol. A
    draw depends on the ids, the number of the draw and `rng`, not on the order of the input rows.
    The mean of a metric over several draws depends less on which items happened to be asked for.

    Parameters
    ----------
    held_out
        Users of whom nothing was trained on.
    train
        What models learn from; its items are those of `held_out`.
    draws
        Number of further draws, 0 or above.
    rng
        Seed.

    Returns
    -------
    `draws` parts of the same users in the same order. The order of the shown items is not known,
    since targets carry none.

    Raises
    ------
    ConfigError
        If `draws` is negative, or a user was trained on: a target drawn from what was trained on
        would ask a model for what it has seen.
    """
    if draws < 0:
        raise ConfigError(f"draws is {draws}; 0 or above is accepted")
    if draws and (trained := len(_common(held_out.users, train.users))):
        raise ConfigError(
            f"{trained} of {len(held_out.users)} held-out users are training users; several draws"
            " need users held out whole, as by the protocols strong and mult-vae"
        )
    both: csr_array = (held_out.fold_in.matrix + held_out.target).tocsr()
    both.sort_indices()
    rows = np.repeat(np.arange(len(held_out)), np.diff(both.indptr))
    by_id = np.lexsort((id_rank(train.items)[both.indices], id_rank(held_out.users)[rows]))
    wanted = np.diff(held_out.target.indptr)
    parts = []
    for number in range(draws):
        keys = np.empty(both.nnz)
        keys[by_id] = np.random.default_rng((rng, _FURTHER, number)).random(both.nnz)
        shuffled = np.lexsort((keys, rows))
        place = np.arange(both.nnz) - both.indptr[rows]
        asked = np.zeros(both.nnz, dtype=np.bool_)
        asked[shuffled[place < wanted[rows]]] = True
        parts.append(
            replace(
                held_out,
                fold_in=Histories(keep_entries(both, ~asked)),
                target=keep_entries(both, asked),
            )
        )
    return parts


def _common(some: IdMap, others: IdMap) -> set[str]:
    return set(some.to_arrow().to_pylist()) & set(others.to_arrow().to_pylist())
