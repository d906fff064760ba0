"""The headers that every answer carries, whether the application or the server gave it."""

import re
import uuid
from typing import Final

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'"
_OWN_FILES: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def request_id(sent: str) -> str:
    """Id of a request: the client's where it is short and plain, else a new one."""
    return sent if _REQUEST_ID.fullmatch(sent) else uuid.uuid4().hex


def common_headers(instance: str, *, page: bool = False) -> dict[str, str]:
    """Return the headers of an answer; only pages may load anything, and only our own files."""
    return {
        "X-Request-ID": instance,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": _OWN_FILES if page else _NOTHING,
    }
