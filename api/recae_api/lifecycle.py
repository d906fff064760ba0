"""What the server must know of an application: its settings, and how to say that it stops."""

import threading
from dataclasses import dataclass, field
from typing import Final, final

from flask import Flask

from recae_api.settings import Settings

_NAME: Final = "recae"


@final
@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Settings of an application, and whether it is about to stop.

    Attributes
    ----------
    settings
        As given to `create_app`.
    stopping
        Once set, ``/readyz`` answers 503.
    """

    settings: Settings
    stopping: threading.Event = field(default_factory=threading.Event)

    def attach(self, app: Flask) -> None:
        """Make this the lifecycle of `app`."""
        app.extensions[_NAME] = self


def lifecycle_of(app: Flask) -> Lifecycle:
    """Return the lifecycle of an application made by `create_app`."""
    lifecycle: Lifecycle = app.extensions[_NAME]
    return lifecycle
