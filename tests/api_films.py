"""A small real model directory behind the HTTP tests."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from recae.models.ease import EASE
from recae.serving import RecommendationService, save_bundle
from tests.frames import interactions_from

ODD_IDS = ["007", "7", "NA", "null", "-1", "😀", "é", " ", "a b", "a,b", "a&b=c", "%41", "+5"]
ITEMS = [f"m{i}" for i in range(1, 31)] + ODD_IDS
SATED = "everything"  # has seen every item


def save_films(directory: Path, *, l2: float = 5.0) -> str:
    """Train EASE on made-up people, save it with titles, and return the version."""
    rng = np.random.default_rng(0)
    people = [f"u{i}" for i in range(1, 41)] + ODD_IDS
    pairs = [(SATED, item) for item in ITEMS]
    for number, person in enumerate(people):
        liked = rng.choice(len(ITEMS), size=3 + number % 5, replace=False)
        pairs += [(person, ITEMS[i]) for i in liked]
    data = interactions_from(pd.DataFrame(pairs, columns=["user", "item"]))
    titles = [f"Film {id_}" for id_ in data.items.ids_at(range(len(data.items)))]
    return save_bundle(
        directory,
        EASE(l2=l2).fit(data),
        items=data.items,
        item_table=pa.table({"item_id": data.items.to_arrow(), "title": titles}),
        users=data.users,
        histories=data.histories(),
        popularity=np.bincount(data.matrix.indices, minlength=len(data.items)).astype(np.int64),
        provenance={},
    )


def films_service(directory: Path) -> RecommendationService:
    """Save the films in `directory` and open them."""
    save_films(directory)
    return RecommendationService.open(directory)
