"""The OpenAPI document is true: generated requests, right and wrong, get what it promises."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from recae.serving import RecommendationService
from recae_api import Settings, create_app
from tests.api_films import ITEMS, save_films

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PLAIN = ["GET /v1/model", "POST /v1/model/reload", "GET /livez", "GET /readyz", "GET /healthz"]
ASKING = ["GET /recommend", "GET /v1/recommend", "POST /v1/recommend", "POST /v1/recommend/batch"]
SIMILAR = "GET /v1/items/{item}/similar"
EXAMPLES = [40, pytest.param(400, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    directory = tmp_path_factory.mktemp("api") / "films"
    save_films(directory)
    # Small limits make small requests, so generating them does not take all the time.
    limits = Settings(max_k=20, max_batch=3, max_history=4, max_id_length=8)
    app = create_app(RecommendationService.open(directory), limits)
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    return {result.ok().label: result.ok() for result in schema.get_all_operations()}


def generated(operation, mode, examples, check):
    """Run `check` on `examples` generated cases of an operation; return the statuses seen."""
    seen = set()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case):
        seen.add(check(case))

    run()
    return seen


def consistent(asked):
    """The request with what the schema of single parameters cannot say, and often a known id."""
    if ("user" in asked) == ("history" in asked):
        asked.pop("history", None)
        asked["user"] = "u1"
    elif len(str(asked.get("user", ""))) % 2:
        asked["user"] = "007"
    elif len(asked.get("history", [])) % 2:
        asked["history"][0] = ITEMS[0]
    if "k" in asked:
        asked.pop("n", None)


def accepted(case):
    if "item" in case.path_parameters:
        if len(case.path_parameters["item"]) % 2:
            case.path_parameters["item"] = ITEMS[0]
    elif case.method == "GET":
        if not case.query.get("history", True):
            del case.query["history"]  # a query string has no way to write a list without entries
        consistent(case.query)
    else:
        for asked in case.body.get("requests", [case.body]):
            consistent(asked)
    response = case.call()
    case.validate_response(response, checks=CHECKS)
    assert response.status_code in {200, 404, 422}
    return response.status_code


def refused(case):
    response = case.call()
    case.validate_response(response, checks=[*CHECKS, negative_data_rejection])
    return response.status_code


def test_the_operations_are_those_tested_here(operations):
    assert sorted(operations) == sorted([*PLAIN, *ASKING, SIMILAR])


@pytest.mark.parametrize("label", PLAIN)
def test_routes_without_parameters_answer_as_documented(operations, label):
    case = operations[label].Case()
    response = case.call()
    case.validate_response(response, checks=CHECKS)
    assert response.status_code == 200


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("label", [*ASKING, SIMILAR])
def test_what_the_document_allows_is_accepted(operations, label, examples):
    seen = generated(operations[label], GenerationMode.POSITIVE, examples, accepted)
    assert 200 in seen


@pytest.mark.parametrize("examples", EXAMPLES)
@pytest.mark.parametrize("label", [*ASKING, SIMILAR])
def test_what_the_document_forbids_is_refused(operations, label, examples):
    seen = generated(operations[label], GenerationMode.NEGATIVE, examples, refused)
    assert 400 in seen
