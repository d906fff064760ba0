"""What the service answers: the documented models, and the same documents made of results.

Nothing that the service made is validated on its way out; the models document it, and tests hold
the documents against them.
"""

import json
from typing import Final, Literal, Self, final

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from recae.serving import Bundle, Recommendations, ScoredItem, Similar

Document = dict[str, object]

as_json: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False
).encode


class Answer(BaseModel):
    """Base of all answers: exactly these members."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@final
class ModelName(Answer):
    """Which model answered."""

    name: str = Field(examples=["mult-vae"])
    version: str = Field(examples=["v-9f2c1d"])


class Place(Answer):
    """What every place of a list has."""

    item: str = Field(examples=["m1"])
    rank: int = Field(ge=1)
    score: FiniteFloat
    title: str | None = Field(description="Null where the items have no titles.")


@final
class ListedItem(Place):
    """One place of a list."""


@final
class Because(Answer):
    """An item of the history that speaks for a listed one."""

    item: str
    weight: FiniteFloat = Field(
        gt=0, description="What the score loses when this item is taken out of the history."
    )
    title: str | None = Field(description="Null where the items have no titles.")


@final
class ExplainedItem(Place):
    """One place of a list, with up to three reasons, the one that weighs most first."""

    because: list[Because] = Field(max_length=3)


@final
class Recommended(Answer):
    """A list, best first, and where it came from."""

    user: str | None
    model: ModelName
    source: Literal["model", "fold_in", "popularity"] = Field(
        description="A known user's stored history, the history sent, or what most people chose."
    )
    complete: bool = Field(description="Whether the list has the length that was asked for.")
    items: list[ListedItem | ExplainedItem] = Field(
        description="With reasons where they were asked for."
    )
    warnings: list[str]


@final
class SimilarItems(Answer):
    """The neighbours of an item, nearest first."""

    item: str
    title: str | None = Field(description="Null where the items have no titles.")
    model: ModelName
    complete: bool = Field(description="Whether the list has the length that was asked for.")
    items: list[ListedItem]
    warnings: list[str]


@final
class ProblemDocument(Answer):
    """An error (RFC 9457)."""

    type: str = Field(examples=["/docs#bad-request"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="The request id, as in the header X-Request-ID and the log.")


@final
class BatchRecommended(Answer):
    """One list or problem for each request, in order."""

    results: list[Recommended | ProblemDocument]


@final
class Health(Answer):
    """Whether the process is there, and fit to answer."""

    status: Literal["alive", "ready"]


@final
class ModelDescription(Answer):
    """The model that answers now."""

    name: str
    version: str
    items: int = Field(ge=0, description="Number of items it can recommend.")
    users: int = Field(ge=0, description="Number of users whose history is stored with it.")

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """Answer about the model of `bundle`."""
        return cls(
            name=bundle.model.name,
            version=bundle.version,
            items=len(bundle.items),
            users=0 if bundle.users is None else len(bundle.users),
        )


def recommended(result: Recommendations) -> Document:
    """Return the `Recommended` of one result of the service."""
    return {
        "user": result.user,
        "model": {"name": result.model_name, "version": result.model_version},
        "source": result.source,
        "complete": result.complete,
        "items": [_place(place) for place in result.items],
        "warnings": result.warnings,
    }


def similar_items(result: Similar) -> Document:
    """Return the `SimilarItems` of one result of the service."""
    return {
        "item": result.item,
        "title": result.title,
        "model": {"name": result.model_name, "version": result.model_version},
        "complete": result.complete,
        "items": [_place(place) for place in result.items],
        "warnings": result.warnings,
    }


def _place(place: ScoredItem) -> Document:
    found: Document = {
        "item": place.item,
        "rank": place.rank,
        "score": place.score,
        "title": place.title,
    }
    if place.because is not None:
        found["because"] = [
            {"item": r.item, "weight": r.weight, "title": r.title} for r in place.because
        ]
    return found
