"""Two pages for people: one to ask for recommendations, one to read the documentation.

They are plain files of this package and load nothing from elsewhere, so they work offline and
under a content security policy of ``'self'``.
"""

from pathlib import Path
from typing import Final

from flask import Flask, Response, abort, send_from_directory

_ASSETS: Final = Path(__file__).parent / "assets"
_NAMES: Final = frozenset({"style.css", "recommend.js", "docs.js", "icon.svg"})


def add_pages(app: Flask) -> None:
    """Add the pages at ``/`` and ``/docs``, and the files they load."""
    app.add_url_rule("/", "page", lambda: send_from_directory(_ASSETS, "recommend.html"))
    app.add_url_rule("/docs", "docs", lambda: send_from_directory(_ASSETS, "docs.html"))
    app.add_url_rule("/assets/<name>", "asset", _asset)


def _asset(name: str) -> Response:
    if name not in _NAMES:
        abort(404)
    return send_from_directory(_ASSETS, name)
