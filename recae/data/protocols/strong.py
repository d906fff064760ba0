"""``strong``: train on some people, ask about others (strong generalization, drawn our way)."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from jaxtyping import Bool

from recae.data.interactions import Interactions
from recae.data.protocols.base import Parts, SplitProtocol, row_counts
from recae.data.protocols.drawing import draw_from_rows, id_rank
from recae.data.protocols.users_apart import items_of, split_users
from recae.errors import ConfigError, DataError
from recae.options import option

MOST_BY_DEFAULT = 10_000


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Strong(SplitProtocol):
    """Hold out users for validation and as many for test; show 80 % of each, ask for the rest.

    The vocabulary is the items of the training users. Interactions of held-out users with other
    items are counted as unreachable before targets are drawn. Every held-out user with two or more
    interactions left gets at least one target. The draw depends on ids and seed, not on row order.
    """

    name: ClassVar[str] = "strong"
    held_out_users: int | float | None = option(
        None,
        above=0,
        help="Users for validation, and as many for test: a count, or a share of all users below"
        " 0.5; None: a tenth of the users, at most 10,000, at least one.",
    )
    target_fraction: float = option(
        0.2, above=0, below=1, help="Share of a held-out user's interactions to ask for."
    )
    rng: int = option(0, low=0, help="Seed.")

    def check(self) -> None:
        """Refuse a share of 1 or more."""
        if isinstance(self.held_out_users, float) and self.held_out_users >= 1:
            raise ConfigError(
                f"held_out_users is {self.held_out_users}; a whole number or a share below 1 is"
                " accepted"
            )

    def parts(self, data: Interactions) -> Parts:
        """Split `data`; see the class."""
        active = np.flatnonzero(row_counts(data))
        if len(active) < 3:
            raise DataError(
                f"{len(active)} users have interactions; users for train, validation and test"
                " need at least 3"
            )
        held = self._count(len(active))
        by_id = active[np.argsort(id_rank(data.users)[active])]
        drawn = by_id[np.random.default_rng((self.rng, 0)).permutation(len(by_id))]
        # Who is where is drawn; inside a part, users keep the order of the input.
        users = tuple(
            np.sort(group) for group in np.split(drawn, [len(drawn) - 2 * held, len(drawn) - held])
        )
        return split_users(
            data,
            (users[0], users[1], users[2]),
            items_of(data.take_users(users[0])),
            lambda known, number: self._drawn(known, (self.rng, number)),
            lambda seen, number: self._drawn(seen, (self.rng, number, 1)),
        )

    def _drawn(self, data: Interactions, seed: tuple[int, ...]) -> Bool[np.ndarray, " nnz"]:
        everything = np.ones(data.matrix.nnz, dtype=np.bool_)
        return draw_from_rows(data, everything, self.target_fraction, np.random.default_rng(seed))

    def _count(self, n_users: int) -> int:
        wanted = self.held_out_users
        if wanted is None:
            return max(1, min(MOST_BY_DEFAULT, n_users // 10))
        count = max(1, int(wanted * n_users)) if isinstance(wanted, float) else wanted
        if 2 * count >= n_users:
            raise ConfigError(
                f"held_out_users={wanted!r}, taken twice, leaves none of {n_users} users to train"
                f" on; at most {(n_users - 1) // 2} can be held out"
            )
        return count
