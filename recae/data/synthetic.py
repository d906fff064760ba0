"""Made-up interactions, so that everything runs without real data.

`Synthetic` makes people with known tastes, `ml20m_shape` matrices of the size of public data sets,
for measurements of speed and memory.
"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int64
from scipy.sparse import csr_array

from recae.data.interactions import Interactions
from recae.data.readers import read_interactions
from recae.errors import ConfigError

START_S = 1_640_995_200  # 2022-01-01 UTC
DAY_S = 86_400
CHUNK_USERS = 1024

GENRES = {
    "adventure": ("Voyage", "Compass", "Expedition", "Treasure", "Caravan"),
    "animation": ("Kite", "Puppet", "Fox", "Balloon", "Lantern"),
    "comedy": ("Wedding", "Roommate", "Waiter", "Parrot", "Holiday"),
    "crime": ("Heist", "Witness", "Alibi", "Ledger", "Detective"),
    "documentary": ("Glacier", "Orchestra", "Archive", "Railway", "Harvest"),
    "drama": ("Letter", "Daughter", "Inheritance", "Promise", "Brother"),
    "fantasy": ("Dragon", "Spell", "Crown", "Griffin", "Oracle"),
    "horror": ("Cellar", "Whisper", "Shadow", "Mirror", "Attic"),
    "musical": ("Melody", "Chorus", "Piano", "Encore", "Waltz"),
    "romance": ("Kiss", "Rendezvous", "Bouquet", "Stranger", "Serenade"),
    "science fiction": ("Starship", "Android", "Signal", "Orbit", "Colony"),
    "war": ("Trench", "Armistice", "Convoy", "Sergeant", "Siege"),
}
MOODS = {
    "bitter": ("Bitter", "Broken", "Lost"),
    "bright": ("Golden", "Bright", "Sunny"),
    "dark": ("Dark", "Black", "Midnight"),
    "gentle": ("Gentle", "Quiet", "Tender"),
    "odd": ("Curious", "Crooked", "Peculiar"),
    "proud": ("Proud", "Royal", "Noble"),
    "swift": ("Swift", "Reckless", "Burning"),
    "wistful": ("Forgotten", "Distant", "Fading"),
}
SETTINGS = {
    "city": ("Lisbon", "Montreal", "Naples"),
    "coast": ("the Harbour", "the Lighthouse", "the Island"),
    "desert": ("the Dunes", "the Oasis", "the Salt Flats"),
    "mountains": ("the Pass", "the Summit", "the Valley"),
    "north": ("the Arctic", "the Fjord", "the Winter"),
    "village": ("the Village", "the Mill", "the Orchard"),
}

# Values, weight in the log odds and spread of people's tastes, facet by facet.
FACETS = (
    (len(GENRES), 1.0, 0.2),
    (len(MOODS), 0.7, 0.2),
    (len(SETTINGS), 0.7, 0.2),
)
POPULARITY_EXPONENT = 0.8


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
        return Truth(traits, tastes, -POPULARITY_EXPONENT * np.log(ranks))

    def interactions(self) -> Interactions:
        """Let the people watch, and return the log of it: times, titles and genres included."""
        log, films = self.tables()
        data = read_interactions(log)
        rows = pc.index_in(data.items.to_arrow(), films["item_id"])
        return replace(data, item_table=films.take(rows))

    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Rows of `interactions`, in order of time, and the films that were watched, by id."""
        truth = self.truth()
        rng = np.random.default_rng((self.rng, 1))
        lengths = self._lengths(rng)
        users = np.repeat(np.arange(self.n_users), lengths)
        items = _watched(truth, lengths, rng)
        # people join over two years and watch for three months each
        joined = rng.random(self.n_users) * 730 * DAY_S
        times = (START_S + joined[users] + rng.random(len(users)) * 90 * DAY_S).astype(np.int64)
        log = np.lexsort((items, users, times))  # the order in which a server would write it
        titles = _titles(truth.traits, np.random.default_rng((self.rng, 2)))
        genres, shown = list(GENRES), np.unique(items)
        return pa.table(
            {
                "user_id": [f"u{number:04d}" for number in users[log]],
                "item_id": [f"f{number:04d}" for number in items[log]],
                "timestamp": times[log],
            }
        ), pa.table(
            {
                "item_id": [f"f{number:04d}" for number in shown],
                "title": [titles[number] for number in shown],
                "genre": [genres[number] for number in truth.traits[shown, 0]],
            }
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
    for name, table in zip(("interactions", "items"), Synthetic().tables(), strict=True):
        text = table.to_pandas().to_csv(index=False, lineterminator="\n")
        (directory / f"{name}.csv").write_bytes(text.encode())


def _watched(
    truth: Truth, lengths: Int64[np.ndarray, " users"], rng: np.random.Generator
) -> Int64[np.ndarray, " nnz"]:
    # Gumbel noise and the top n: n draws without replacement from the softmax of the log odds.
    watched = []
    for start in range(0, len(lengths), CHUNK_USERS):
        chunk = slice(start, start + CHUNK_USERS)
        odds = truth.log_odds(chunk)
        ranked = np.argsort(np.log(-np.log(rng.random(odds.shape))) - odds, axis=1, kind="stable")
        watched += [row[:length] for row, length in zip(ranked, lengths[chunk], strict=True)]
    return np.concatenate(watched)


def _titles(traits: Int64[np.ndarray, "items 3"], rng: np.random.Generator) -> list[str]:
    """Compose a title for each item; repeated ones are numbered, as sequels are."""
    words = [tuple(facet.values()) for facet in (GENRES, MOODS, SETTINGS)]
    seen: Counter[str] = Counter()
    titles = []
    for values, draws in zip(traits, rng.random(traits.shape), strict=True):
        noun, mood, place = (
            facet[value][int(draw * len(facet[value]))]
            for facet, value, draw in zip(words, values, draws, strict=True)
        )
        title = f"The {mood} {noun} of {place}"
        seen[title] += 1
        titles.append(title if seen[title] == 1 else f"{title} {seen[title]}")
    return titles


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixShape:
    """Sizes of a made-up matrix.

    Attributes
    ----------
    n_users, n_items, n_interactions
        Its sizes.
    n_tastes
        Groups of items; 0 for none. Half of a user's draws come from all items, the others from
        three groups of the user's own.

    Raises
    ------
    ConfigError
        If the interactions are none, or more than a quarter of the cells.
    """

    n_users: int
    n_items: int
    n_interactions: int
    n_tastes: int = 64

    def __post_init__(self) -> None:
        most = self.n_users * self.n_items // 4
        if not 1 <= self.n_interactions <= most:
            raise ConfigError(
                f"{self.n_interactions} interactions for {self.n_users} users and {self.n_items}"
                f" items; from 1 to {most} fit"
            )


ML_20M = MatrixShape(n_users=136_677, n_items=20_108, n_interactions=9_990_682)


def ml20m_shape(rng: int = 0, shape: MatrixShape = ML_20M) -> csr_array:
    """Made-up matrix of the sizes of MovieLens 20M after the Mult-VAE preprocessing.

    Histories are about log-normal (median 46, mean 73), items follow a power law, and users have
    tastes. About 10 s and 1 GB for the default shape.

    Parameters
    ----------
    rng
        Seed.
    shape
        Other sizes.

    Returns
    -------
    Canonical float32 matrix of ones, ``(users, items)``, with exactly the interactions asked for.

    Examples
    --------
    >>> ml20m_shape(0, MatrixShape(n_users=50, n_items=80, n_interactions=500)).nnz
    500
    """
    random = np.random.default_rng((rng, 20))
    activity = np.exp(1.15 * random.standard_normal(shape.n_users))
    chance = np.cumsum(activity) / activity.sum()
    # Zipf-Mandelbrot; items are numbered group after group: a group is an interval of `ceiling`
    weights = (1 + random.permutation(shape.n_items) + 60.0) ** -1.4
    ceiling = np.cumsum(weights) / weights.sum()
    if shape.n_tastes:
        bounds = np.linspace(0, shape.n_items, shape.n_tastes + 1).astype(np.int64)
        edges = np.concatenate(([0.0], ceiling))[bounds]
        tastes = random.integers(0, shape.n_tastes, (shape.n_users, 3))
    found = np.zeros(0, dtype=np.int64)  # user * n_items + item, sorted, distinct
    while (missing := shape.n_interactions - len(found)) > 0:
        points = np.sort(random.random(missing + missing // 3 + 1000))
        users = np.minimum(np.searchsorted(chance, points, side="right"), shape.n_users - 1)
        low, high = np.zeros(len(users)), np.ones(len(users))
        if shape.n_tastes:
            # of six sides of a die, three are "any item" and one is each taste
            side = random.integers(0, 6, len(users))
            own = side < 3
            taste = tastes[users[own], side[own]]
            low[own], high[own] = edges[taste], edges[taste + 1]
        points = low + (high - low) * random.random(len(users))
        items = np.minimum(np.searchsorted(ceiling, points, side="right"), shape.n_items - 1)
        both = np.concatenate((found, users * shape.n_items + items))
        both.sort()  # much faster here than np.union1d, which hashes
        found = both[np.append(True, both[1:] != both[:-1])]
    surplus = random.permutation(len(found))[: len(found) - shape.n_interactions]
    found = np.delete(found, surplus)
    counts = np.bincount(found // shape.n_items, minlength=shape.n_users)
    indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    ones = np.ones(len(found), dtype=np.float32)
    matrix = csr_array((ones, found % shape.n_items, indptr), shape=(shape.n_users, shape.n_items))
    matrix.has_canonical_format = True
    return matrix
