"""``mult-vae``: the split of the Mult-VAE paper, the same users and the same held-out items."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool, Int64

from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, SplitProtocol, row_counts
from recae.data.protocols.drawing import id_order
from recae.data.protocols.users_apart import items_of, split_users
from recae.errors import ConfigError, DataError
from recae.options import option

SHORTEST_DRAWN = 5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MultVAESplit(SplitProtocol):
    """The authors' split, step by step, legacy random numbers included.

    1. Drop items with fewer than `min_item` interactions, then users with fewer than `min_user`:
       one pass, items first.
    2. Sort the users by id (`id_order`) and permute them; the last `held_out_users` are test, the
       ones before them validation, the others train. All keep the permuted order.
    3. The vocabulary is the items of the training users, numbered by first appearance in the input.
    4. For validation, then for test, with a generator seeded anew: drop items outside the
       vocabulary (counted as unreachable), go through users in ascending order of id, and hold out
       ``int(target_fraction * n)`` of the `n` items left, in input order, of users with 5 or more.
       Users with fewer draw nothing and have no target.

    The authors use integer ids; text ids are sorted by code points. Repeated rows of a (user, item)
    pair are one interaction here, at the place of the first; their data sets have none.

    References
    ----------
    Liang et al., WWW 2018, sec. 4.1, and the notebook published with it.
    """

    name: ClassVar[str] = "mult-vae"
    of_seen: ClassVar[str] = (
        "Pairs below a minimum rating stay candidates, as in published figures."
    )
    held_out_users: int = option(
        10_000,
        low=1,
        help="Users for validation, and as many for test: 10,000 for ML-20M, 40,000 for the"
        " Netflix Prize, 50,000 for the Million Song data.",
    )
    min_user: int = option(5, low=0, help="Fewest interactions of a user (5, 5, 20).")
    min_item: int = option(0, low=0, help="Fewest interactions of an item (0, 0, 200).")
    target_fraction: float = option(
        0.2, above=0, below=1, help="Share of a held-out user's items to ask for."
    )
    seed: int = option(
        98765,
        low=0,
        help="Seed of the legacy generator. Another one makes another benchmark.",
    )

    def parts(self, data: Interactions) -> Parts:
        """Split `data`; see the class."""
        data = replace(data, seen=None)  # as in the paper, where all else is a candidate
        kept = _frequent_items(data, self.min_item)
        counts = row_counts(kept)
        by_id = id_order(data.users)
        users = by_id[counts[by_id] >= max(1, self.min_user)]
        if 2 * self.held_out_users >= len(users):
            raise ConfigError(
                f"held_out_users={self.held_out_users}, taken twice, leaves none of the"
                f" {len(users)} users with {self.min_user} or more interactions to train on;"
                f" at most {max(0, (len(users) - 1) // 2)} can be held out"
            )
        users = users[self._legacy().permutation(len(users))]
        cuts = [len(users) - 2 * self.held_out_users, len(users) - self.held_out_users]
        train, validation, test = np.split(users, cuts)
        vocabulary = _first_seen_items(kept.take_users(train))
        groups = (train, validation, test)
        parts = split_users(kept, groups, vocabulary, lambda known, _: self._targets(known))
        few = counts < max(1, self.min_user)
        notes = {
            "items_dropped": int(data.n_items - len(items_of(kept))),
            "users_dropped": int(few.sum()),
            "interactions_dropped": int(data.matrix.nnz - kept.matrix.nnz + counts[few].sum()),
        }
        return Parts(parts.train, parts.validation, parts.test, {**notes, **parts.notes})

    def _legacy(self) -> np.random.RandomState:
        # The published lists come from the legacy generator: default_rng draws other users.
        return np.random.RandomState(self.seed)

    def _targets(self, known: Interactions) -> Bool[np.ndarray, " nnz"]:
        random = self._legacy()
        target = np.zeros(known.matrix.nnz, dtype=np.bool_)
        for user in id_order(known.users):
            row = slice(known.matrix.indptr[user], known.matrix.indptr[user + 1])
            n = row.stop - row.start
            if n >= SHORTEST_DRAWN:
                in_input_order = row.start + np.argsort(known.order[row])
                size = int(self.target_fraction * n)
                target[in_input_order[random.choice(n, size=size, replace=False)]] = True
        return target


def _frequent_items(data: Interactions, min_item: int) -> Interactions:
    counts = np.bincount(data.matrix.indices, minlength=data.n_items)
    kept = data.take_entries(np.flatnonzero((counts >= min_item)[data.matrix.indices]))
    if not kept.matrix.nnz:
        raise DataError(
            f"no item has {min_item} interactions; the most frequent has {counts.max()}"
        )
    return kept


def _first_seen_items(train: Interactions) -> Int64[np.ndarray, " items"]:
    first = np.full(train.n_items, np.iinfo(np.int64).max)
    np.minimum.at(first, train.matrix.indices, train.order)
    seen = items_of(train)
    return np.asarray(seen[np.argsort(first[seen])])
