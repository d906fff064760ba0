"""Made-up interactions with a known structure, so that everything runs without real data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array

from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.data.synthetic_titles import GENRES, MOODS, SETTINGS, titles_of
from recae.errors import ConfigError

START_US = 1_640_995_200_000_000  # 2022-01-01 UTC
DAY_US = 86_400_000_000
CHUNK_USERS = 1024

# Values, weight in the log odds and spread of people's tastes, facet by facet.
FACETS = (
    (len(GENRES), 1.0, 0.2),
    (len(MOODS), 0.7, 0.2),
    (len(SETTINGS), 0.7, 0.2),
)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What the made-up people really like.

    Attributes
    ----------
    traits
        Genre, mood and setting of each item, shape ``(items, 3)``.
    tastes
        For each facet, the share of a user's liking for each value, shape ``(users, values)``.
    log_popularity
        Logarithm of the items' appeal to everybody, shape ``(items,)``.
    """

    traits: Int64[np.ndarray, "items 3"]
    tastes: tuple[Float64[np.ndarray, "users _"], ...]
    log_popularity: Float64[np.ndarray, " items"]

    def log_odds(self, users: slice) -> Float64[np.ndarray, "users items"]:
        """Log of each user's unnormalised chance of each item: the score no model can beat."""
        scores = self.log_popularity[None]
        for (n_values, weight, _), item_values, tastes in zip(
            FACETS, self.traits.T, self.tastes, strict=True
        ):
            liking = weight * np.log(n_values * tastes[users] + 0.02)
            scores = scores + liking[:, item_values]
        return scores


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """A made-up film club: how many people and films, and the seed.

    A film has a genre, a mood and a setting; a person has a taste in each. The chance of watching a
    film is the product of its popularity (a power law) and of what the person thinks of its genre,
    its mood and its setting, as in the multinomial likelihood with a softmax over all films. People
    like few values of each facet, so liking is a product of facets, not a sum over watched films.

    Attributes
    ----------
    n_users, n_items
        People and films. A film that nobody watched is left out of the interactions.
    mean_history
        Films that a person watched, on average (log-normal, at least 5).
    popularity_exponent
        Exponent of the power law of popularity.
    rng
        Seed.

    Raises
    ------
    ConfigError
        If there are too few people or films.

    Examples
    --------
    >>> Synthetic(n_users=100, n_items=60, mean_history=8.0).interactions()
    Interactions(100 users x 60 items, 801 interactions, density 13.35%)
    """

    n_users: int = 4000
    n_items: int = 1000
    mean_history: float = 20.0
    popularity_exponent: float = 0.8
    rng: int = 0

    def __post_init__(self) -> None:
        if self.n_users < 1 or self.n_items < 20:
            raise ConfigError(
                f"{self.n_users} users and {self.n_items} items; at least 1 and 20 are needed"
            )

    def truth(self) -> Truth:
        """Return what the people really like."""
        rng = np.random.default_rng((self.rng, 0))
        traits = np.stack(
            [(rng.random(self.n_items) * n).astype(np.int64) for n, _, _ in FACETS], 1
        )
        ranks = 1 + np.argsort(rng.random(self.n_items))
        tastes = tuple(rng.dirichlet(np.full(n, spread), self.n_users) for n, _, spread in FACETS)
        return Truth(traits, tastes, -self.popularity_exponent * np.log(ranks))

    def interactions(self) -> Interactions:
        """Let the people watch, and return the log of it: times, titles and genres included."""
        truth = self.truth()
        rng = np.random.default_rng((self.rng, 1))
        users, items = _watched(truth, self._lengths(rng), rng)
        times = _times(users, self.n_users, rng)
        log = np.lexsort((items, users, times))  # the order in which a server would write it
        users, items, times = users[log], items[log], times[log]
        user_idx, user_numbers = _by_first_appearance(users)
        item_idx, item_numbers = _by_first_appearance(items)
        entries = np.lexsort((item_idx, user_idx))
        indptr = np.concatenate(([0], np.cumsum(np.bincount(user_idx)))).astype(np.int64)
        matrix = csr_array(
            (np.ones(len(users), dtype=np.float32), item_idx[entries], indptr),
            shape=(len(user_numbers), len(item_numbers)),
        )
        titles = titles_of(truth.traits, np.random.default_rng((self.rng, 2)))
        genres = list(GENRES)
        item_ids = [f"f{number:04d}" for number in item_numbers]
        return Interactions(
            matrix=matrix,
            users=IdMap(f"u{number:04d}" for number in user_numbers),
            items=IdMap(item_ids),
            order=entries.astype(np.int64),
            times=times[entries],
            item_table=pa.table(
                {
                    "item_id": item_ids,
                    "title": [titles[number] for number in item_numbers],
                    "genre": [genres[truth.traits[number, 0]] for number in item_numbers],
                }
            ),
        )

    def _lengths(self, rng: np.random.Generator) -> Int64[np.ndarray, " users"]:
        spread = 0.5
        mean_log = np.log(self.mean_history) - spread**2 / 2
        drawn = np.exp(mean_log + spread * rng.standard_normal(self.n_users))
        lengths: Int64[np.ndarray, " users"] = np.rint(drawn).astype(np.int64)
        return lengths.clip(5, self.n_items // 4)


def write_sample(directory: Path) -> None:
    """Write the sample data set: ``interactions.csv`` and ``items.csv`` in `directory`.

    The same bytes every time: `Synthetic` with its default values.
    """
    data = Synthetic().interactions()
    assert data.times is not None
    by_input = np.argsort(data.order)
    users = np.repeat(np.arange(data.n_users), np.diff(data.matrix.indptr))[by_input]
    columns = (
        data.users.ids_at(users),
        data.items.ids_at(data.matrix.indices[by_input]),
        (data.times[by_input] // 1_000_000).tolist(),
    )
    rows = (f"{user},{item},{time}\n" for user, item, time in zip(*columns, strict=True))
    _write(directory / "interactions.csv", "user_id,item_id,timestamp\n", rows)
    films = sorted(data.item_table.to_pylist(), key=lambda film: str(film["item_id"]))
    rows = (f"{film['item_id']},{film['title']},{film['genre']}\n" for film in films)
    _write(directory / "items.csv", "item_id,title,genre\n", rows)


def _write(path: Path, header: str, rows: Iterator[str]) -> None:
    path.write_bytes((header + "".join(rows)).encode())


def _watched(
    truth: Truth, lengths: Int64[np.ndarray, " users"], rng: np.random.Generator
) -> tuple[Int64[np.ndarray, " nnz"], Int64[np.ndarray, " nnz"]]:
    # Gumbel noise and the top n: n draws without replacement from the softmax of the log odds.
    watched = []
    for start in range(0, len(lengths), CHUNK_USERS):
        chunk = slice(start, start + CHUNK_USERS)
        odds = truth.log_odds(chunk)
        ranked = np.argsort(np.log(-np.log(rng.random(odds.shape))) - odds, axis=1, kind="stable")
        watched += [row[:length] for row, length in zip(ranked, lengths[chunk], strict=True)]
    return np.repeat(np.arange(len(lengths)), lengths), np.concatenate(watched)


def _times(
    users: Int64[np.ndarray, " nnz"], n_users: int, rng: np.random.Generator
) -> Int64[np.ndarray, " nnz"]:
    # People join over two years and watch for three months each.
    joined = rng.random(n_users) * 730 * DAY_US
    since = rng.random(len(users)) * 90 * DAY_US
    seconds = ((START_US + joined[users] + since) // 1_000_000).astype(np.int64)
    return np.asarray(seconds * 1_000_000)


def _by_first_appearance(
    numbers: Int64[np.ndarray, " nnz"],
) -> tuple[Int64[np.ndarray, " nnz"], Int64[np.ndarray, " distinct"]]:
    distinct, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    by_first = np.argsort(first)
    position = np.empty(len(distinct), dtype=np.int64)
    position[by_first] = np.arange(len(distinct))
    return position[inverse], distinct[by_first]
