"""Who may do what: the API key of a request, and the scope its endpoint asks for."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from flask import Request

from recae_api.keys import KeyRing, Scope
from recae_api.problems import Problem

_BEARER: Final = re.compile(r"Bearer +([!-~]+)", re.IGNORECASE)

# Everything not named here needs `admin`, so a forgotten endpoint is closed, not open.
OPEN: Final = frozenset({"livez", "readyz", "healthz", "openapi_document", "page", "docs", "asset"})
SCOPE_OF: Final[Mapping[str, Scope]] = MappingProxyType(
    {
        "recommend": "recommend",
        "recommend_v1": "recommend",
        "recommend_post": "recommend",
        "recommend_batch": "recommend",
        "similar": "recommend",
        "model": "recommend",
        "reload": "admin",
    }
)


def require_scope(ring: KeyRing, request: Request) -> str | None:
    """Id of the key that allows this request; None where none is needed.

    Raises
    ------
    Problem
        401 without exactly one valid key, 403 where its scopes do not include the one needed.
    """
    endpoint = request.endpoint
    if endpoint is None or endpoint in OPEN:  # None: no such route, which is no secret
        return None
    presented = _presented(request)
    key = None if presented is None else ring.find(presented)
    if key is None:
        raise Problem(
            "key-required",
            "send exactly one valid key, as Authorization: Bearer KEY or as X-API-Key: KEY",
            {"WWW-Authenticate": "Bearer"},
        )
    needed = SCOPE_OF.get(endpoint, "admin")
    if needed not in key.scopes:
        raise Problem("scope-required", f"this needs a key with the scope {needed!r}")
    return key.id


def _presented(request: Request) -> str | None:
    """The key, or None where there is not exactly one; doubled headers come joined by commas."""
    bearer = request.headers.get("Authorization")
    plain = request.headers.get("X-API-Key")
    if (bearer is None) == (plain is None):
        return None
    if plain is not None:
        return plain
    match = _BEARER.fullmatch(bearer or "")
    return match[1] if match else None
