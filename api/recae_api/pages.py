"""Two pages for people: one to ask for recommendations, one to read the documentation.

They are plain files of this package and load nothing from elsewhere, so they work offline and
under a content security policy of ``'self'``.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from flask import Flask, Response, abort

_DIRECTORY: Final = Path(__file__).parent / "assets"
_ASSETS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "style.css": "text/css",
        "recommend.js": "text/javascript",
        "docs.js": "text/javascript",
        "icon.svg": "image/svg+xml",
    }
)


def add_pages(app: Flask) -> None:
    """Add the pages at ``/`` and ``/docs``, and the files they load."""
    contents = {path.name: path.read_bytes() for path in _DIRECTORY.iterdir()}

    def page() -> Response:
        return Response(contents["recommend.html"], content_type="text/html; charset=utf-8")

    def docs() -> Response:
        return Response(contents["docs.html"], content_type="text/html; charset=utf-8")

    def asset(name: str) -> Response:
        if name not in _ASSETS:
            abort(404)
        return Response(contents[name], content_type=f"{_ASSETS[name]}; charset=utf-8")

    # Strict slashes would redirect an empty path, to wherever the Host header says.
    app.add_url_rule("/", view_func=page, strict_slashes=False)
    app.add_url_rule("/docs", view_func=docs)
    app.add_url_rule("/assets/<name>", view_func=asset)
