"""The OpenAPI 3.1 document: parameters, bodies and answers, taken from the models that are used."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from flask_openapi3.models.info import Info
from flask_openapi3.models.schema import Schema
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel

from recae_api.answers import Answer, ProblemDocument
from recae_api.problems import KINDS, MEDIA_TYPE

Responses = dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None]

_REFERENCE: Final = "#/components/schemas/{model}"  # pydantic fills it in
_COMMON: Final = (400, 421, 500, 503)


def openapi_app(name: str, **options: Any) -> OpenAPI:
    """Return an application that documents its routes at ``/openapi.json``."""
    return OpenAPI(
        name,
        info=Info(
            title="recae",
            version="1",
            description="Recommendations for people who are known, and for those who are not.",
        ),
        security_schemes={
            "bearer": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        },
        validation_error_status=400,
        validation_error_model=ProblemDocument,
        openapi_extensions={
            "x-problems": {
                name: {"status": kind.status, "title": kind.title} for name, kind in KINDS.items()
            }
        },
        operation_id_callback=lambda name, path, method: name,  # noqa: ARG005  # called by name
        doc_ui=False,
        **options,
    )


def answers(success: type[Answer], *problems: int) -> Responses:
    """Return the responses of an operation: `success`, and problems of these statuses."""
    problem = _REFERENCE.format(model=ProblemDocument.__name__)
    documented: Responses = {200: success}
    for status in sorted({*_COMMON, *problems}):
        titles = [kind.title for kind in KINDS.values() if kind.status == status]
        documented[status] = {
            "description": "; ".join(titles),
            "content": {MEDIA_TYPE: {"schema": {"$ref": problem}}},
        }
    return documented


def query_of(model: type[BaseModel], *, path: Sequence[str] = ()) -> dict[str, Any]:
    """Return the operation's ``parameters``: the fields of the model, `path` names those there.

    Ids are texts here: a query has no numbers.
    """
    schema = model.model_json_schema(mode="serialization")
    return {
        "parameters": [
            {
                "name": name,
                "in": "path" if name in path else "query",
                "required": name in path,
                "description": field.get("description", ""),
                "schema": {key: value for key, value in field.items() if key != "description"},
            }
            for name, field in schema["properties"].items()
        ]
    }


def body_of(app: OpenAPI, model: type[BaseModel]) -> dict[str, Any]:
    """Return the operation's ``requestBody``: the model as JSON, its parts among the components."""
    schema = model.model_json_schema(ref_template=_REFERENCE)
    for name, part in {model.__name__: schema, **schema.pop("$defs", {})}.items():
        app.components_schemas[name] = Schema(**part)
    content = {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}}
    return {"requestBody": {"required": True, "content": content}}
