"""`create_app`: the Flask application, its rules for every request, and its one error shape."""

import json
import logging
import time
import traceback
from typing import Final

from flask import Response, g, request
from flask_openapi3.openapi import OpenAPI
from werkzeug.exceptions import HTTPException

from recae.serving import RecommendationService
from recae_api.access import require_scope
from recae_api.access_log import log_access
from recae_api.documentation import openapi_app
from recae_api.headers import common_headers, request_id
from recae_api.keys import KeyRing
from recae_api.lifecycle import Lifecycle
from recae_api.origins import require_known_host, require_same_site
from recae_api.pages import add_pages
from recae_api.problems import MEDIA_TYPE, Problem, body_too_large, encoded, problem_of_status
from recae_api.reading import require_utf8
from recae_api.routes import add_routes
from recae_api.settings import Settings

_LOG: Final = logging.getLogger(__name__)


def create_app(service: RecommendationService, settings: Settings | None = None) -> OpenAPI:
    """Return the WSGI application that answers from `service`.

    Parameters
    ----------
    service
        What answers; the application holds no other state about the model.
    settings
        Limits and choices.

    Raises
    ------
    DataError
        If the file of API keys is missing or damaged.

    Examples
    --------
    >>> app = create_app(RecommendationService.open("models/films"))  # doctest: +SKIP
    >>> app.test_client().get("/recommend?user=u1").json  # doctest: +SKIP
    {'user': 'u1', 'model': {'name': 'mult-vae', ...
    """
    settings = settings or Settings()
    app = openapi_app(__name__, static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        PROPAGATE_EXCEPTIONS=False,
        PROVIDE_AUTOMATIC_OPTIONS=False,
    )
    app.url_map.merge_slashes = False  # its redirects are HTML
    Lifecycle(settings).attach(app)
    ring = None if settings.key_file is None else KeyRing(settings.key_file)

    @app.before_request
    def admit() -> None:
        """Origin and key first, then size: a stranger learns nothing from the parameters."""
        g.started = time.monotonic()
        g.request_id = request_id(request.headers.get("X-Request-ID", ""))
        require_same_site(request)
        if ring is None:
            require_known_host(request, settings.allow_hosts)
        else:
            g.key_id = require_scope(ring, request)
        if (request.content_length or 0) > settings.max_body_bytes:
            raise body_too_large(request.content_length or 0, settings.max_body_bytes)
        require_utf8(request.environ["PATH_INFO"])

    @app.after_request
    def finish(response: Response) -> Response:
        page = response.mimetype == "text/html"
        response.headers.extend(common_headers(g.request_id, page=page))
        response.headers["X-Model-Version"] = g.get("model_version") or service.version
        log_access(
            g.request_id,
            method=request.method,
            route=str(request.url_rule) if request.url_rule else None,
            status=response.status_code,
            began=g.started,
            key=g.get("key_id"),
        )
        return response

    app.register_error_handler(Problem, _answer)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unexpected)
    add_routes(app, service, settings)
    add_pages(app)
    return app


def _answer(problem: Problem) -> Response:
    body = encoded(problem, g.request_id)
    return Response(body, problem.status, problem.headers, content_type=MEDIA_TYPE)


def _answer_http(error: HTTPException) -> Response:
    """Problem for what Flask raises itself, which would be HTML."""
    headers = error.get_response(request.environ).headers
    kept = {name: headers[name] for name in ("Allow", "Retry-After") if name in headers}
    return _answer(problem_of_status(error.code or 500, kept))


def _answer_unexpected(error: Exception) -> Response:
    """Problem 500, and the reason in one line of the log that no client's text can break."""
    lines = traceback.format_exception(error)
    _LOG.error(json.dumps({"request_id": g.request_id, "error": "".join(lines)}))
    return _answer(problem_of_status(500))
