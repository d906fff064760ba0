"""Whether the application is about to stop: set by the server, told by ``/readyz``."""

import threading
from typing import Final

from flask import Flask

STOPPING: Final = "recae_stopping"


def stopping(app: Flask) -> threading.Event:
    """Return the event that, once set, makes ``/readyz`` answer 503."""
    event: threading.Event = app.extensions[STOPPING]
    return event
