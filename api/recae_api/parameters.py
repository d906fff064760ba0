"""What a request may ask: one strict model, whether it came as a query string or as JSON."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self, final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from recae_api.settings import Settings

# Nobody means to send control characters in an id, and they break logs.
_ID_PATTERN: Final = r"^[^\x00-\x1f\x7f]+$"
_MOST: Final = 2**63 - 1  # of ids that are numbers


def _plain(value: object) -> object:
    """Whole numbers as their plain decimal text, as `recae` takes them for ids."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if whole and abs(value) <= _MOST else value  # type: ignore[arg-type]  # an int


def _id_schema(longest: int) -> dict[str, Any]:
    """Document an id of a JSON body: a text, or a whole number of as many characters."""
    text = {"type": "string", "minLength": 1, "maxLength": longest, "pattern": _ID_PATTERN}
    least, most = -min(_MOST, 10 ** (longest - 1) - 1), min(_MOST, 10**longest - 1)
    return {"anyOf": [text, {"type": "integer", "minimum": least, "maximum": most}]}


def _without_nulls(schema: dict[str, Any]) -> None:
    """Document optional fields as left out, never null: `reading` refuses nulls."""
    for name, field in schema["properties"].items():
        if "anyOf" in field:
            kept = [choice for choice in field.pop("anyOf") if choice != {"type": "null"}]
            field.pop("default", None)
            schema["properties"][name] = field | (kept[0] if len(kept) == 1 else {"anyOf": kept})


def _one_who_asks(schema: dict[str, Any]) -> None:
    """Document too that `user` or `history` is given, and that `n` is another name of `k`."""
    _without_nulls(schema)
    schema["oneOf"] = [{"required": ["user"]}, {"required": ["history"]}]
    schema["not"] = {"required": ["k", "n"]}


def _no_reasons(explain: bool) -> bool:
    """Refuse reasons in a batch: they take a hundred times the work of a list."""
    if explain:
        raise PydanticCustomError("batch_explain", "a batch gives no reasons; leave it out")
    return explain


class Asked(BaseModel):
    """One request for recommendations; `asked_models` adds the limits of the settings."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, json_schema_extra=_one_who_asks
    )

    user: str | None = None
    history: list[str] | None = None
    k: int = 10
    n: int | None = None
    exclude_seen: bool = Field(default=True, description="Leave out the items of the history.")
    exclude: list[str] = []
    candidates: list[str] | None = None
    fallback: Literal["none", "popular"] | None = Field(
        default=None, description="What somebody unknown gets: an error, or popular items."
    )
    explain: bool = Field(
        default=False, description="Say for each item which items of the history speak for it."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.user is None) == (self.history is None):
            given = "neither" if self.user is None else "both"
            raise PydanticCustomError(
                "user_or_history", f"{given} of user and history are given; one is accepted"
            )
        if {"k", "n"} <= self.model_fields_set:
            raise PydanticCustomError("k_and_n", "k and n are one parameter; one is accepted")
        return self

    @property
    def length(self) -> int:
        """Length of the list asked for."""
        return self.k if self.n is None else self.n


class Batch(BaseModel):
    """Many requests in one; `asked_models` adds the limits of the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    requests: Sequence[Asked]


class AskedSimilar(BaseModel):
    """One request for similar items; `asked_models` adds the limits of the settings."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, json_schema_extra=_without_nulls
    )

    item: str
    k: int = 10
    exclude: list[str] = []
    candidates: list[str] | None = None


def asked_models(settings: Settings) -> tuple[type[Asked], type[Batch], type[AskedSimilar]]:
    """Return the models of one request, of a batch and of similar items, with their limits."""
    longest = settings.max_id_length
    Id = Annotated[
        str,
        StringConstraints(min_length=1, max_length=longest, pattern=_ID_PATTERN),
        BeforeValidator(_plain),
        WithJsonSchema(_id_schema(longest), mode="validation"),
    ]
    Ids = Annotated[list[Id], Field(max_length=settings.max_history)]
    Length = Annotated[int, Field(ge=1, le=settings.max_k)]

    class RecommendRequest(Asked):
        """One request for recommendations."""

        user: Id | None = Field(None, description="Somebody of the training data.")
        history: Ids | None = Field(
            None, description="What somebody chose, seen before or not; it may be empty."
        )
        k: Length = Field(min(10, settings.max_k), description="Length of the list.")
        n: Length | None = Field(None, description="Another name of k.")
        exclude: Ids = Field([], description="Items that may not be listed.")
        candidates: Ids | None = Field(None, description="Only these items may be listed.")

    @final
    class BatchedRequest(RecommendRequest):
        """One request of many."""

        explain: Annotated[bool, AfterValidator(_no_reasons)] = Field(
            False, description="Not in a batch.", json_schema_extra={"const": False}
        )

    @final
    class BatchRequest(Batch):
        """Many requests in one."""

        requests: Annotated[
            list[BatchedRequest], Field(min_length=1, max_length=settings.max_batch)
        ]

    @final
    class SimilarRequest(AskedSimilar):
        """One request for similar items."""

        item: Id = Field(description="Whose neighbours.")
        k: Length = Field(min(10, settings.max_k), description="Length of the list.")
        exclude: Ids = Field([], description="Items that may not be listed.")
        candidates: Ids | None = Field(None, description="Only these items may be listed.")

    return RecommendRequest, BatchRequest, SimilarRequest
