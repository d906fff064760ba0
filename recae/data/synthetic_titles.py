"""Titles of made-up films: a word for the mood, one for the genre, one for the setting."""

from collections import Counter

import numpy as np
from jaxtyping import Int64

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


def titles_of(traits: Int64[np.ndarray, "items 3"], rng: np.random.Generator) -> list[str]:
    """Compose a title for each item; repeated ones are numbered, as sequels are.

    Parameters
    ----------
    traits
        Positions in `GENRES`, `MOODS` and `SETTINGS`, shape ``(items, 3)``.
    rng
        Chooses the words.
    """
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
