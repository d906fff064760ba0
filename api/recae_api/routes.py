"""The routes: each reads a request, asks the service, and answers."""

import json
import logging
from typing import Any, Final

from flask import Response, g, request
from flask_openapi3.openapi import OpenAPI

from recae.errors import ConfigError, DataError, NoKnownItemError, RecaeError, UnknownIdError
from recae.serving import Recommendations, RecommendationService, Request
from recae_api.answers import (
    BatchRecommended,
    Document,
    Health,
    ModelDescription,
    Recommended,
    SimilarItems,
    as_json,
    recommended,
    similar_items,
)
from recae_api.documentation import answers, body_of, query_of
from recae_api.lifecycle import lifecycle_of
from recae_api.parameters import Asked, asked_models
from recae_api.problems import Problem, abridged
from recae_api.reading import from_json, from_query, nothing_asked, refuse_joined
from recae_api.settings import Settings
from recae_api.together import Together

_Security = list[dict[str, list[Any]]] | None

_LOG: Final = logging.getLogger(__name__)
_KEYS: Final[_Security] = [{"bearer": []}, {"header": []}]


def add_routes(app: OpenAPI, service: RecommendationService, settings: Settings) -> None:
    """Add every route that answers JSON."""
    keys = _KEYS if settings.key_file else None
    _add_recommend(app, service, settings, keys)
    _add_similar(app, service, settings, keys)
    _add_model(app, service, keys)
    _add_health(app)


def _add_recommend(
    app: OpenAPI, service: RecommendationService, settings: Settings, keys: _Security
) -> None:
    asked_model, batch_model, _ = asked_models(settings)
    documented = answers(Recommended, 401, 403, 404, 413, 422)
    query = query_of(asked_model)

    together = Together(service)

    def asked_in_query() -> Asked:
        asked = from_query(asked_model, request.query_string)
        refuse_joined(asked, service.bundle.items)
        return asked

    def answer(asked: Asked) -> Response:
        result = _result(together.answer(_request(asked, settings)))
        if isinstance(result, Problem):
            raise result
        return _json(result)

    @app.get("/recommend", responses=documented, openapi_extensions=query, security=keys)
    def recommend() -> Response:
        """Recommend items to one user, or to one history."""
        return answer(asked_in_query())

    @app.get("/v1/recommend", responses=documented, openapi_extensions=query, security=keys)
    def recommend_v1() -> Response:
        """Recommend items: the same under its versioned path."""
        return answer(asked_in_query())

    @app.post(
        "/v1/recommend",
        responses=answers(Recommended, 401, 403, 404, 413, 415, 422),
        openapi_extensions=body_of(app, asked_model),
        security=keys,
    )
    def recommend_post() -> Response:
        """Recommend items: the same as JSON, for long histories."""
        nothing_asked(request.query_string)
        return answer(from_json(asked_model, _json_body()))

    @app.post(
        "/v1/recommend/batch",
        responses=answers(BatchRecommended, 401, 403, 413, 415),
        openapi_extensions=body_of(app, batch_model),
        security=keys,
    )
    def recommend_batch() -> Response:
        """Recommend items to many: each gets a list or its own problem; 400 is for all of them."""
        nothing_asked(request.query_string)
        batch = from_json(batch_model, _json_body())
        many = service.answer_many([_request(asked, settings) for asked in batch.requests])
        results = [
            result.document(g.request_id) if isinstance(result, Problem) else result
            for result in map(_result, many)  # all from one version of the model
        ]
        return _json({"results": results})


def _result(answer: Recommendations | DataError) -> Document | Problem:
    if isinstance(answer, DataError):
        kind = "no-known-item" if isinstance(answer, NoKnownItemError) else "unknown-user"
        return Problem(kind, str(answer))
    g.model_version = answer.model_version
    return recommended(answer)


def _request(asked: Asked, settings: Settings) -> Request:
    default: Final = "none" if settings.unknown_user == "error" else "popular"
    return Request(
        user=asked.user,
        history=None if asked.history is None else tuple(asked.history),
        k=asked.length,
        exclude_seen=asked.exclude_seen,
        exclude=tuple(asked.exclude),
        candidates=None if asked.candidates is None else tuple(asked.candidates),
        fallback=asked.fallback or default,
        explain=asked.explain,
    )


def _add_similar(
    app: OpenAPI, service: RecommendationService, settings: Settings, keys: _Security
) -> None:
    *_, similar_model = asked_models(settings)

    # Ids may hold slashes: the converter takes all that stands between the fixed parts.
    @app.get(
        "/v1/items/<path:item>/similar",
        responses=answers(SimilarItems, 401, 403, 404),
        openapi_extensions=query_of(similar_model, path=["item"]),
        security=keys,
    )
    def similar() -> Response:
        """List the items nearest to an item; 404 too where the model cannot compare items."""
        asked = from_query(similar_model, request.query_string, path=request.view_args or {})
        try:
            answer = service.similar(
                asked.item, k=asked.k, exclude=asked.exclude, candidates=asked.candidates
            )
        except UnknownIdError as error:
            raise Problem("unknown-item", str(error)) from error
        except ConfigError as error:  # the model; the values were checked
            raise Problem("not-found", str(error)) from error
        g.model_version = answer.model_version
        return _json(similar_items(answer))


def _add_model(app: OpenAPI, service: RecommendationService, keys: _Security) -> None:
    def described() -> Response:
        bundle = service.bundle  # once: a reload may put another in its place at any time
        g.model_version = bundle.version
        return _json(ModelDescription.of(bundle).model_dump())

    @app.get("/v1/model", responses=answers(ModelDescription, 401, 403), security=keys)
    def model() -> Response:
        """Say which model answers."""
        nothing_asked(request.query_string)
        return described()

    @app.post(
        "/v1/model/reload", responses=answers(ModelDescription, 401, 403, 409, 413), security=keys
    )
    def reload() -> Response:
        """Change to the current model of the directory; a damaged one is refused, the old stays."""
        nothing_asked(request.query_string)
        try:
            service.reload()
        except RecaeError as error:
            _LOG.error("the new model was refused: %s", json.dumps(str(error)))
            raise Problem("reload-refused", "the log says why; the old model stays") from error
        return described()


def _add_health(app: OpenAPI) -> None:
    def ready() -> Response:
        if lifecycle_of(app).stopping.is_set():
            raise Problem("unavailable", "the service is stopping", {"Retry-After": "5"})
        return _json({"status": "ready"})

    @app.get("/livez", responses=answers(Health))
    def livez() -> Response:
        """Say whether the process answers at all."""
        return _json({"status": "alive"})

    @app.get("/readyz", responses=answers(Health))
    def readyz() -> Response:
        """Say whether requests should be sent here: not while the process stops."""
        return ready()

    @app.get("/healthz", responses=answers(Health))
    def healthz() -> Response:
        """Say whether requests should be sent here: another path of /readyz."""
        return ready()

    def openapi_document() -> Response:
        return Response(json.dumps(app.api_doc), content_type="application/json")

    app.add_url_rule("/openapi.json", view_func=openapi_document)


def _json(answer: Document) -> Response:
    return Response(as_json(answer), content_type="application/json")


def _json_body() -> bytes:
    """Body of a request, once its headers say that it is plain JSON.

    Raises
    ------
    Problem
        415 for another media type or an encoded body.
    """
    if request.mimetype != "application/json" or "Content-Encoding" in request.headers:
        raise Problem(
            "media-type-refused",
            f"the body is {abridged(request.mimetype)}; uncompressed application/json is accepted",
        )
    return request.get_data(cache=False)
