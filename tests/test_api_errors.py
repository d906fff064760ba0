"""One shape for every error, the headers of every answer, and what goes into the log.

The canonical error is ``application/problem+json`` with exactly ``type``, ``title``, ``status``,
``detail`` and ``instance``; ``instance`` is the request id, which ``X-Request-ID`` repeats.
"""

import json
import logging
from itertools import cycle

import pytest

from recae.errors import BundleError
from recae.serving import RecommendationService, load_bundle
from recae_api import Settings, create_app, create_key
from recae_api.lifecycle import lifecycle_of
from recae_api.problems import KINDS, problem_of_status
from tests import model_directories
from tests.api_films import ITEMS, save_films

SECRET = "SECRET-that-no-answer-may-hold"


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    directory = tmp_path_factory.mktemp("api") / "films"
    save_films(directory)
    return directory


@pytest.fixture
def service(films):
    return RecommendationService.open(films)


@pytest.fixture
def app(service):
    return create_app(service)


@pytest.fixture
def client(app):
    return app.test_client()


def assert_is_problem(response, status, kind):
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    document = json.loads(response.get_data())
    assert list(document) == ["type", "title", "status", "detail", "instance"]
    assert document["type"] == f"/docs#{kind}"
    assert document["title"] == KINDS[kind].title
    assert document["status"] == status == KINDS[kind].status
    assert document["instance"] == response.headers["X-Request-ID"]
    assert document["detail"]
    assert document["detail"][0].islower() or document["detail"][0] in "'\""
    for internal in (SECRET, "Traceback", "/recae", "werkzeug", "Flask", ".py"):
        assert internal not in response.get_data(as_text=True)
    assert_headers(response)


def assert_headers(response):
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Model-Version"].startswith("v-")
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    if response.mimetype != "text/html":
        assert policy == "default-src 'none'; frame-ancestors 'none'"
    assert "Server" not in response.headers
    assert "Set-Cookie" not in response.headers
    assert "Access-Control-Allow-Origin" not in response.headers


JSON = {"content_type": "application/json"}

# Method, path, options, status, kind: every way to an error without keys or a broken service.
FAILURES = [
    ("GET", "/recommend", {}, 400, "bad-request"),
    ("GET", "/v1/recommend?user=u1&k=0", {}, 400, "bad-request"),
    ("POST", "/v1/recommend", {"data": "{", **JSON}, 400, "bad-request"),
    ("POST", "/v1/recommend?user=u1", {"json": {"user": "u1"}}, 400, "bad-request"),
    ("POST", "/v1/recommend/batch", {"json": {"requests": [{}]}}, 400, "bad-request"),
    ("GET", "/v1/model?verbose=1", {}, 400, "bad-request"),
    ("POST", "/v1/model/reload?path=/etc", {}, 400, "bad-request"),
    ("GET", "/recommend?user=nobody", {}, 404, "unknown-user"),
    ("POST", "/v1/recommend", {"json": {"user": "nobody"}}, 404, "unknown-user"),
    ("GET", "/v1/items/m1/similar?k=0", {}, 400, "bad-request"),
    ("GET", "/v1/items/m1/similar?item=m2", {}, 400, "bad-request"),
    ("GET", "/v1/items/m1/similar?user=u1", {}, 400, "bad-request"),
    ("GET", "/v1/items/a%01b/similar", {}, 400, "bad-request"),
    ("GET", f"/v1/items/{'x' * 4097}/similar", {}, 400, "bad-request"),
    ("GET", "/v1/items/nothing/similar", {}, 404, "unknown-item"),
    ("GET", "/v1/items/%FF/similar", {}, 404, "unknown-item"),
    ("GET", "/v1/items//similar", {}, 404, "not-found"),
    ("GET", "/v1/items/m1", {}, 404, "not-found"),
    ("POST", "/v1/items/m1/similar", {}, 405, "method-not-allowed"),
    ("GET", "/nowhere", {}, 404, "not-found"),
    ("GET", "/recommend/", {}, 404, "not-found"),
    ("GET", "/assets/nothing.js", {}, 404, "not-found"),
    ("GET", "/assets/recommend.html", {}, 404, "not-found"),
    ("GET", "/assets/", {}, 404, "not-found"),
    ("GET", "/static/style.css", {}, 404, "not-found"),
    *[
        (method, "/recommend", {}, 405, "method-not-allowed")
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "SPAM")
    ],
    ("GET", "/v1/recommend/batch", {}, 405, "method-not-allowed"),
    ("GET", "/v1/model/reload", {}, 405, "method-not-allowed"),
    ("POST", "/livez", {}, 405, "method-not-allowed"),
    ("POST", "/v1/recommend", {"data": "x" * 65_537, **JSON}, 413, "body-too-large"),
    ("POST", "/v1/model/reload", {"data": "x" * 65_537}, 413, "body-too-large"),
    ("GET", "/recommend?user=u1", {"data": "x" * 65_537}, 413, "body-too-large"),
    ("POST", "/v1/recommend", {"data": "<a/>", "content_type": "a/xml"}, 415, "media-type-refused"),
    ("POST", "/v1/recommend/batch", {"data": "{}"}, 415, "media-type-refused"),
    ("GET", "/recommend?history=x", {}, 422, "no-known-item"),
    ("POST", "/v1/recommend", {"json": {"history": ["x"]}}, 422, "no-known-item"),
]


@pytest.mark.parametrize(("method", "path", "options", "status", "kind"), FAILURES)
def test_every_error_has_the_one_shape(client, method, path, options, status, kind):
    assert_is_problem(client.open(path, method=method, **options), status, kind)


def test_no_kind_is_documented_that_nothing_raises():
    elsewhere = {"reload-refused", "internal-error", "unavailable"}  # below
    elsewhere |= {"key-required", "scope-required"}  # test_api_keys
    elsewhere |= {"host-refused", "cross-site-refused"}  # test_api_origins
    elsewhere |= {"headers-too-large"}  # test_api_server
    assert {kind for *_, kind in FAILURES} | elsewhere == set(KINDS)


def test_a_parameter_of_the_path_is_none_of_the_query(client):
    accepted = "is unknown; k, exclude, candidates are accepted"
    for name in ("item", "kk"):
        refused = client.get(f"/v1/items/m1/similar?{name}=m2")
        assert refused.json["detail"] == f'"{name}" {accepted}'


def test_a_body_that_is_too_large_is_told_its_size_and_the_limit(client):
    refused = client.post("/v1/recommend", data="x" * 70_000, **JSON)
    assert refused.json["detail"] == "the body has 70000 bytes; up to 65536 are accepted"


def test_a_method_that_is_not_allowed_says_which_are(client):
    assert set(client.delete("/v1/recommend").headers["Allow"].split(", ")) == {
        "GET",
        "HEAD",
        "POST",
    }


def test_a_refused_reload_is_409_and_the_old_model_stays(app, service, monkeypatch, caplog):
    def refuse(_self):
        raise BundleError(f"{SECRET} is damaged\nforged line")

    client = app.test_client()
    before = client.get("/recommend?user=u1").json
    monkeypatch.setattr(RecommendationService, "reload", refuse)
    assert_is_problem(client.post("/v1/model/reload"), 409, "reload-refused")
    assert SECRET in caplog.text
    assert "\nforged" not in caplog.text
    assert client.get("/recommend?user=u1").json == before
    assert client.get("/readyz").status_code == 200


def test_a_damaged_new_version_is_409_and_a_good_one_is_taken(tmp_path):
    directory = tmp_path / "films"
    first = save_films(directory)
    client = create_app(RecommendationService.open(directory)).test_client()
    second = save_films(directory, l2=50.0)
    weights = directory / second / "model.safetensors"
    weights.chmod(0o644)
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert_is_problem(client.post("/v1/model/reload"), 409, "reload-refused")
    assert client.get("/v1/model").json["version"] == first
    assert client.get("/recommend?user=u1").json["model"]["version"] == first
    weights.write_bytes(content)
    answer = client.post("/v1/model/reload")
    assert answer.status_code == 200
    assert answer.json["version"] == second == answer.headers["X-Model-Version"]
    assert client.get("/recommend?user=u1").json["model"]["version"] == second


def test_a_description_never_mixes_two_versions(client, service, tmp_path, monkeypatch):
    """Another version at every look, as a reload in between would have it."""
    model_directories.save(tmp_path / "other")
    bundles = [service.bundle, load_bundle(tmp_path / "other")]
    true = {(b.version, len(b.items), len(b.users)) for b in bundles}
    looks = cycle(bundles)
    monkeypatch.setattr(RecommendationService, "bundle", property(lambda _: next(looks)))
    found = set()
    for _ in range(5):
        for answer in (client.get("/v1/model"), client.post("/v1/model/reload")):
            assert answer.json["version"] == answer.headers["X-Model-Version"]
            found.add((answer.json["version"], answer.json["items"], answer.json["users"]))
    assert found == true


def test_a_service_that_fails_is_500_without_internals_and_logged_with_them(
    app, monkeypatch, caplog
):
    def fail(_self, _requests):
        raise ZeroDivisionError(f"{SECRET}\nforged line")

    monkeypatch.setattr(RecommendationService, "answer_many", fail)
    client = app.test_client()
    for response in (
        client.get("/recommend?user=u1", headers={"X-Request-ID": "mine-1"}),
        client.post("/v1/recommend/batch", json={"requests": [{"user": "u1"}]}),
    ):
        assert_is_problem(response, 500, "internal-error")
    (first, _) = [r for r in caplog.records if r.name == "recae_api.app"]
    assert "\n" not in first.getMessage()
    logged = json.loads(first.getMessage())
    assert logged["request_id"] == "mine-1"
    assert "ZeroDivisionError" in logged["error"]


def test_while_stopping_only_readiness_is_503(app):
    client = app.test_client()
    lifecycle_of(app).stopping.set()
    for path in ("/readyz", "/healthz"):
        response = client.get(path)
        assert_is_problem(response, 503, "unavailable")
        assert response.headers["Retry-After"] == "5"
    assert client.get("/livez").json == {"status": "alive"}
    assert client.get("/recommend?user=u1").status_code == 200


def test_with_keys_the_errors_have_the_same_shape(service, tmp_path):
    key = create_key(tmp_path / "keys", name="shop")
    client = create_app(service, Settings(key_file=tmp_path / "keys")).test_client()
    refused = client.get("/recommend?user=u1")
    assert_is_problem(refused, 401, "key-required")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    forbidden = client.post("/v1/model/reload", headers={"X-API-Key": key})
    assert_is_problem(forbidden, 403, "scope-required")


@pytest.mark.parametrize("status", [*range(400, 432), 451, *range(500, 512)])
def test_a_status_of_any_kind_becomes_a_problem(status):
    problem = problem_of_status(status)
    assert problem.status == status or problem.status in (400, 500)
    assert problem.kind != "unknown-user"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_health(client, path):
    response = client.get(path)
    assert response.json == {"status": "alive" if path == "/livez" else "ready"}
    assert_headers(response)


def test_the_model_describes_itself(client, service):
    assert client.get("/v1/model").json == {
        "name": "ease",
        "version": service.version,
        "items": 43,
        "users": 54,
    }


def test_the_request_id_of_the_client_is_kept_only_where_it_is_plain(client):
    kept = client.get("/livez", headers={"X-Request-ID": "a-B_3.x"})
    assert kept.headers["X-Request-ID"] == "a-B_3.x"
    for bad in ("x" * 65, "a b", '"', "é", ""):
        made = client.get("/livez", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
        assert len(made) == 32


def test_the_log_has_one_json_line_a_request_without_ids_or_keys(client, caplog):
    with caplog.at_level(logging.INFO, "recae_api.access"):
        client.get("/recommend?user=u1&k=3", headers={"X-API-Key": SECRET})
        client.get(f"/{SECRET}")
    known, unknown = (json.loads(r.getMessage()) for r in caplog.records)
    assert set(known) == {"request_id", "method", "route", "status", "ms", "key"}
    assert (known["route"], known["status"]) == ("/recommend", 200)
    assert (unknown["route"], unknown["status"]) == (None, 404)
    assert SECRET not in caplog.text
    assert "u1" not in known.values()


def test_head_answers_without_a_body(client):
    response = client.head("/recommend?user=u1")
    assert response.status_code == 200
    assert response.get_data() == b""


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/assets/style.css", "/assets/docs.js", "/assets/recommend.js"]
)
def test_pages_load_only_our_own_files(client, path):
    response = client.get(path)
    assert response.status_code == 200
    assert_headers(response)
    text = response.get_data(as_text=True)
    for elsewhere in ("http:", "https:", "//cdn", "<style", "onclick", " style=", "innerHTML"):
        assert elsewhere not in text
    assert "<script>" not in text


def test_the_documentation_names_every_problem_that_can_occur(client):
    document = client.get("/openapi.json").json
    assert document["openapi"] == "3.1.0"
    assert set(document["x-problems"]) == set(KINDS)
    routes = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert routes == {
        ("GET", "/recommend"),
        ("GET", "/v1/recommend"),
        ("POST", "/v1/recommend"),
        ("POST", "/v1/recommend/batch"),
        ("GET", "/v1/items/{item}/similar"),
        ("GET", "/v1/model"),
        ("POST", "/v1/model/reload"),
        ("GET", "/livez"),
        ("GET", "/readyz"),
        ("GET", "/healthz"),
    }
    for operation in (o for methods in document["paths"].values() for o in methods.values()):
        if "requestBody" in operation:  # the page of the documentation follows this reference
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            assert document["components"]["schemas"][schema["$ref"].rpartition("/")[2]][
                "properties"
            ]
    for path, method, status in [(f[1].split("?")[0], f[0].lower(), f[3]) for f in FAILURES]:
        operation = document["paths"].get(path, {}).get(method)
        if operation is not None:
            assert str(status) in operation["responses"]


@pytest.mark.parametrize("path", ["/v1/items/\xff/similar", "/\xff", "/v1/items/\xe2\x82/similar"])
def test_a_path_that_is_not_utf8_is_refused_and_read_as_no_other_id(client, path):
    response = client.get("/", environ_overrides={"PATH_INFO": path})  # a character a byte
    assert response.status_code == 400
    assert response.json["detail"] == "the path is not UTF-8; UTF-8 is accepted"


@pytest.mark.parametrize("path", ["/recommend", "/v1/recommend"])
def test_ids_with_commas_between_are_told_to_repeat_the_parameter(client, path):
    joined = ",".join(ITEMS[:3])
    for name in ("history", "candidates", "exclude"):
        other = {} if name == "history" else {"user": "u1"}
        response = client.get(path, query_string={name: joined, **other})
        assert response.status_code == 400
        assert response.json["detail"] == (
            f'{name} is "{joined}"; commas do not separate ids: repeat the parameter,'
            f" {name}={ITEMS[0]}&{name}={ITEMS[1]}"
        )
    history = {"history": [f"{ITEMS[0]},unheard-of", ITEMS[1]]}  # an id may have a comma
    assert client.get(path, query_string=history).status_code == 200
