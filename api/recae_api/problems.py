"""Errors as RFC 9457 ``application/problem+json``: the only shape in which this service fails."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

MEDIA_TYPE: Final = "application/problem+json"


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of problem: its status, and a title that never changes.

    Attributes
    ----------
    status
        HTTP status.
    title
        The same words for every occurrence.
    """

    status: int
    title: str


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "bad-request": Kind(400, "The request is not accepted"),
        "key-required": Kind(401, "A valid API key is required"),
        "cross-site-refused": Kind(403, "Pages of other sites may not ask for this"),
        "scope-required": Kind(403, "The API key does not allow this"),
        "unknown-user": Kind(404, "The user is not known"),
        "unknown-item": Kind(404, "The item is not known"),
        "not-found": Kind(404, "There is nothing here"),
        "method-not-allowed": Kind(405, "The method is not allowed here"),
        "reload-refused": Kind(409, "The new model was refused"),
        "body-too-large": Kind(413, "The request body is too large"),
        "media-type-refused": Kind(415, "The media type of the body is not accepted"),
        "host-refused": Kind(421, "The host is not one that is served here"),
        "no-known-item": Kind(422, "No item of the history is known"),
        "headers-too-large": Kind(431, "The request headers are too large"),
        "internal-error": Kind(500, "The service failed"),
        "unavailable": Kind(503, "The service cannot answer now"),
    }
)

# Errors that Flask or the server raise itself carry only a status.
KIND_OF_STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {kind.status: name for name, kind in KINDS.items() if not name.startswith("unknown-")}
)

DETAIL_OF_STATUS: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "the request could not be understood",
        404: "no resource has this path; /docs lists those that exist",
        405: "the resource exists, but not with this method; the Allow header names those it has",
        413: "the body is longer than this service reads",
        415: "the body is not application/json",
        431: "the request line and headers are longer than this service reads",
        500: "the request was in order; the log has the reason under this request id",
        503: "the service is starting, stopping or overloaded; try again",
    }
)


@final
class Problem(Exception):  # noqa: N818  # named after the media type it becomes
    """A request that ends in a problem document.

    Parameters
    ----------
    kind
        A key of `KINDS`.
    detail
        What is wrong, what was given, what is accepted, in one lower-case clause.
    headers
        Further response headers.
    """

    def __init__(self, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})

    @property
    def status(self) -> int:
        """HTTP status of the problem."""
        return KINDS[self.kind].status

    def document(self, instance: str) -> dict[str, object]:
        """Return the members of the document; `instance` is the request id."""
        return {
            "type": f"/docs#{self.kind}",
            "title": KINDS[self.kind].title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
        }


def problem_of_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """Problem for an error that is known by its HTTP status alone.

    A status without a kind of its own becomes the general one of its class, 400 or 500.
    """
    known = status if status in KIND_OF_STATUS else 400 if 400 <= status < 500 else 500
    detail = DETAIL_OF_STATUS.get(known, KINDS[KIND_OF_STATUS[known]].title.lower())
    return Problem(KIND_OF_STATUS[known], detail, headers)


def encoded(problem: Problem, instance: str) -> bytes:
    """Return the document as UTF-8 JSON."""
    return json.dumps(problem.document(instance), ensure_ascii=False).encode()


def body_too_large(size_bytes: int, limit_bytes: int) -> Problem:
    """Problem 413 for a body of this size."""
    return Problem(
        "body-too-large", f"the body has {size_bytes} bytes; up to {limit_bytes} are accepted"
    )


def abridged(value: object, limit: int = 60) -> str:
    r"""A client's value for a message: as JSON in printable characters, cut after `limit`.

    Examples
    --------
    >>> abridged([True, "\u202e"])
    '[true, "\\u202e"]'
    >>> abridged("9" * 5000, 10)
    '"999999999... (5000 characters)'
    """
    text = json.dumps(value, ensure_ascii=False)
    text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    length = len(value if isinstance(value, str) else text)
    return text if len(text) <= limit else f"{text[:limit]}... ({length} characters)"
