"""The access log: one JSON line a request, whether the application or the server answers it."""

import json
import logging
import time
from typing import Final

_ACCESS: Final = logging.getLogger("recae_api.access")


def log_access(
    request_id: str,
    *,
    method: str | None,
    route: str | None,
    status: int,
    began: float,
    key: str | None = None,
) -> None:
    """Log the rule of a request, not its path, so that neither ids nor keys can be in the line.

    Parameters
    ----------
    request_id
        As the answer has it.
    method
        None where the request was not understood.
    route
        None where no route was asked.
    status
        HTTP status of the answer.
    began
        When the work on the answer began, by `time.monotonic`.
    key
        Id of the API key.
    """
    if not _ACCESS.isEnabledFor(logging.INFO):
        return
    _ACCESS.info(
        json.dumps(
            {
                "request_id": request_id,
                "method": None if method is None else method[:20],
                "route": route,
                "status": status,
                "ms": round(1000 * (time.monotonic() - began), 1),
                "key": key,
            }
        )
    )
