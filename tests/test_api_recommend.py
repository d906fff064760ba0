"""Recommendations over HTTP: the same lists as the service, ids exact, abuse answered by a rule."""

from urllib.parse import quote

import pytest

from recae_api import Settings, create_app
from recae_api.answers import Recommended, SimilarItems
from tests.api_films import ITEMS, ODD_IDS, SATED, films_service


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    return films_service(tmp_path_factory.mktemp("api") / "films")


@pytest.fixture(scope="module")
def client(service):
    return create_app(service).test_client()


def get(client, **parameters):
    return client.get("/recommend", query_string=parameters)


def as_json(result):
    return {
        "user": result.user,
        "model": {"name": result.model_name, "version": result.model_version},
        "source": result.source,
        "complete": result.complete,
        "items": [
            {"item": i.item, "rank": i.rank, "score": i.score, "title": i.title}
            for i in result.items
        ],
        "warnings": list(result.warnings),
    }


@pytest.mark.parametrize("candidates", [[], ["unheard-of"]])
def test_candidates_of_which_none_is_known_leave_an_empty_list(client, candidates):
    asked = {"user": "u1", "candidates": candidates}
    alone = client.post("/v1/recommend", json=asked)
    (batched,) = client.post("/v1/recommend/batch", json={"requests": [asked]}).json["results"]
    assert alone.status_code == 200
    assert alone.json == batched
    assert (batched["items"], batched["complete"]) == ([], False)
    assert "no candidate is known; the list is empty" in batched["warnings"]


@pytest.mark.parametrize("path", ["/recommend", "/v1/recommend"])
def test_a_known_user_gets_the_list_of_the_service(client, service, path):
    response = client.get(path, query_string={"user": "u1"})
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    assert response.json == as_json(service.recommend(user="u1"))
    assert list(response.json) == ["user", "model", "source", "complete", "items", "warnings"]
    assert response.json["source"] == "model"
    assert [i["rank"] for i in response.json["items"]] == list(range(1, 11))
    assert response.json["items"][0]["title"] == f"Film {response.json['items'][0]['item']}"
    assert response.headers["X-Model-Version"] == service.version


def test_get_post_and_batch_give_the_same_list(client, service):
    asked = {
        "history": ["m1", "007", "😀"],
        "k": 7,
        "exclude": ["m2", "m3"],
        "candidates": ITEMS[:20],
        "exclude_seen": False,
    }
    wanted = as_json(service.recommend(**asked))
    assert wanted["source"] == "fold_in"
    assert get(client, **asked | {"exclude_seen": "false"}).json == wanted
    assert client.post("/v1/recommend", json=asked).json == wanted
    batch = client.post("/v1/recommend/batch", json={"requests": [{"user": "u2"}, asked]})
    assert batch.status_code == 200
    assert batch.json["results"] == [as_json(service.recommend(user="u2")), wanted]


def test_a_number_of_json_is_its_value_however_it_is_written(client):
    for text in (b"5", b"5.0", b"0.5e1"):
        body = b'{"user": "u1", "k": %b}' % text
        response = client.post("/v1/recommend", data=body, content_type="application/json")
        assert len(response.json["items"]) == 5


def test_the_options_do_what_they_say(client, service):
    seen = service.history("u1")
    some = [item for item in ITEMS if item not in seen][:5]
    listed = {i["item"] for i in get(client, user="u1", k=100).json["items"]}
    assert listed == set(ITEMS) - set(seen)
    everything = get(client, user="u1", k=100, exclude_seen="false").json
    assert {i["item"] for i in everything["items"]} == set(ITEMS)
    assert everything["complete"] is False
    without = get(client, user="u1", k=100, exclude=some).json["items"]
    assert {i["item"] for i in without} == listed - set(some)
    only = get(client, user="u1", k=5, candidates=some).json
    assert {i["item"] for i in only["items"]} == set(some)
    assert only["complete"] is True
    assert get(client, user="u1", n=3).json == get(client, user="u1", k=3).json


def test_whole_numbers_of_a_body_are_ids(client, service):
    plain = client.post("/v1/recommend", json={"user": "7"})
    for number in (b"7", b"7.0"):
        asked = b'{"user": %b}' % number
        found = client.post("/v1/recommend", data=asked, content_type="application/json")
        assert (found.status_code, found.json) == (200, plain.json)
    asked = {"history": [7, "m1", -1], "exclude": [7], "candidates": ["m2", 7, -1]}
    wanted = {name: list(map(str, ids)) for name, ids in asked.items()}
    assert client.post("/v1/recommend", json=asked).json == as_json(service.recommend(**wanted))
    batch = client.post("/v1/recommend/batch", json={"requests": [{"user": 7}, {"user": 2**63}]})
    assert batch.json["detail"].startswith("requests.1.user is 9223372036854775808; a text or a")


@pytest.mark.parametrize("id_", ODD_IDS)
def test_ids_are_text_and_stay_exact(client, service, id_):
    response = client.get(f"/recommend?user={quote(id_, safe='')}")
    assert response.status_code == 200
    assert response.json == as_json(service.recommend(user=id_))
    assert response.json["user"] == id_
    assert client.post("/v1/recommend", json={"user": id_}).json == response.json
    assert get(client, user="u1", k=1, candidates=id_, exclude_seen="false").json["items"][0][
        "item"
    ] == (id_)


def test_a_user_who_has_seen_everything_gets_an_empty_list(client):
    response = get(client, user=SATED)
    assert response.status_code == 200
    assert response.json["items"] == []
    assert response.json["complete"] is False


@pytest.mark.parametrize(
    "unknown", ["nobody", "0007", "na", "u1 ", "U1", "'; DROP TABLE users; --"]
)
def test_an_unknown_user_is_404_unless_popular_items_are_asked_for(client, unknown):
    refused = get(client, user=unknown)
    assert refused.status_code == 404
    assert refused.json["type"] == "/docs#unknown-user"
    popular = get(client, user=unknown, fallback="popular")
    assert popular.status_code == 200
    assert popular.json["source"] == "popularity"
    assert len(popular.json["items"]) == 10


def test_the_settings_choose_what_an_unknown_user_gets(service):
    client = create_app(service, Settings(unknown_user="popular")).test_client()
    assert get(client, user="nobody").json["source"] == "popularity"
    assert get(client, user="nobody", fallback="none").status_code == 404


def test_a_history_without_any_known_item_is_422(client):
    refused = get(client, history=["x1", "x2"])
    assert refused.status_code == 422
    assert refused.json["type"] == "/docs#no-known-item"
    assert get(client, history=["x1"], fallback="popular").json["source"] == "popularity"
    partly = get(client, history=["x1", "m1"])
    assert partly.status_code == 200
    assert "x1" in " ".join(partly.json["warnings"])


def test_an_empty_history_gets_the_list_of_everybody_and_a_warning(client, service):
    with_nothing = as_json(service.recommend(history=[]))
    response = client.post("/v1/recommend", json={"history": []})
    assert (response.status_code, response.json) == (200, with_nothing)
    assert response.json["items"] == []
    assert response.json["warnings"][0].startswith("the history is empty")
    assert "nothing in the history speaks for 43 others" in response.json["warnings"][1]
    batch = client.post("/v1/recommend/batch", json={"requests": [{"history": []}]})
    assert batch.json["results"] == [with_nothing]


def test_a_batch_gives_each_request_its_own_result_or_problem(client, service):
    asked = [{"user": "u1", "k": 2}, {"user": "nobody"}, {"history": ["x"]}, {"user": "NA"}]
    response = client.post("/v1/recommend/batch", json={"requests": asked})
    assert response.status_code == 200
    first, unknown, none_known, last = response.json["results"]
    assert first == as_json(service.recommend(user="u1", k=2))
    assert last == as_json(service.recommend(user="NA"))
    assert (unknown["status"], none_known["status"]) == (404, 422)
    assert unknown["instance"] == response.headers["X-Request-ID"]


# The rule that each refusal must name is beside it.
ABUSED_QUERIES = [
    ("", "one is accepted"),
    ("user=u1&history=m1", "one is accepted"),
    *[
        (f"user=u1&k={quote(k)}", rule)
        for k, rule in [
            ("0", "from 1"),
            ("-1", "from 1"),
            ("101", "up to 100"),
            ("1000000000000", "up to 100"),
            *[
                (text, "whole number in plain decimal digits")
                for text in [
                    *("", "abc", "1.5", "1e1", "1_0", "٣", "+5", " 5", "5 ", "05", "0x5", "5\n"),
                    *("１", "None", "NaN", "inf", "-0", "9" * 5000, "1,2", "5;", "5%00", "5\x00"),
                ]
            ],
        ]
    ],
    ("user=u1&k=1&k=2", "once is accepted"),
    ("user=u1&k=1&n=2", "one is accepted"),
    ("user=u1&n=0", "from 1"),
    ("user=u1&user=u1", "once is accepted"),
    ("user=u1&fallback=none&fallback=popular", "once is accepted"),
    ("user=u1&fallback=all", 'fallback is "all"; "none" or "popular" is accepted'),
    ("user=u1&exclude_seen=1", "true or false"),
    ("user=u1&exclude_seen=True", "true or false"),
    ("user=u1&exclude_seen", "true or false"),
    ("user=u1&uid=2", "user, history, k, n"),
    ("user=u1&K=5", "user, history, k, n"),
    ("user=u1&api_key=secret", "user, history, k, n"),
    ("user[]=u1", "user, history, k, n"),
    ("user", "an empty id"),
    ("user=", "an empty id"),
    ("history=", "an empty id"),
    ("history=m1&history=", "an empty id"),
    ("user=u1&exclude=", "an empty id"),
    ("user=%FF", "UTF-8 is accepted"),
    ("user=%C3%28", "UTF-8 is accepted"),
    ("user=%ED%A0%80", "UTF-8 is accepted"),
    ("user=u1%00", "control characters"),
    ("user=u1%0A", "control characters"),
    ("user=%0D%0ASet-Cookie:%20a=b", "control characters"),
    ("user=%1B[31m", "control characters"),
    ("user=" + "x" * 5000, "... (5000 characters); an id of at most 4096 characters"),
    ("&".join(["history=m1"] * 1001), "at most 1000 entries"),
]


@pytest.mark.parametrize(("query", "rule"), ABUSED_QUERIES, ids=lambda text: text[:30])
def test_a_query_that_is_not_accepted_is_400_and_names_the_rule(client, query, rule):
    response = client.get(f"/recommend?{query}")
    assert response.status_code == 400
    assert response.json["type"] == "/docs#bad-request"
    assert rule in response.json["detail"]
    assert len(response.json["detail"]) < 300


ABUSED_BODIES = [
    (b"", "not JSON"),
    (b"[", "not JSON"),
    (b"{'user': 'u1'}", "not JSON"),
    (b'{"user": "u1"} x', "not JSON"),
    (b"[" * 60_000, "too deeply"),
    (b'{"k": ' + b"9" * 5000 + b"}", "not JSON"),
    (b'{"k": NaN}', "NaN is not JSON"),
    (b"\x80\x04}q\x00(X\x04\x00\x00\x00userq\x01", "UTF-8 is accepted"),
    ('{"user": "u1"}'.encode("utf-16"), "UTF-8 is accepted"),
    (b"null", "a JSON object"),
    (b'"{}"', "a JSON object"),
    (b'[{"user": "u1"}]', "a JSON object"),
    (b"{}", "one is accepted"),
    (b'{"user": "u1", "history": ["m1"]}', "one is accepted"),
    (b'{"user": "u1", "user": "u2"}', "once is accepted"),
    (b'{"user": "u1", "uid": 1}', "user, history, k, n"),
    (b'{"user": null}', "leave it out"),
    (b'{"user": 7.5}', "user is 7.5; a text or a whole number is accepted"),
    (b'{"user": true}', "user is true; a text or a whole number is accepted"),
    (b'{"user": ["u1"]}', "a text or a whole number is accepted"),
    (b'{"user": {"$ne": 1}}', "a text or a whole number is accepted"),
    (b'{"user": ""}', "an empty id"),
    (b'{"user": "\\u0000"}', "control characters"),
    (b'{"user": "\\ud800"}', "Unicode"),
    (b'{"user": "u1", "k": "5"}', "a whole number"),
    (b'{"user": "u1", "k": 5.5}', "a whole number"),
    (b'{"user": "u1", "k": true}', "a whole number"),
    (b'{"user": "u1", "k": 1e400}', "a whole number"),
    (b'{"user": "u1", "k": 0}', "from 1"),
    (b'{"user": "u1", "k": 101}', "up to 100"),
    (b'{"user": "u1", "exclude_seen": 1}', "true or false"),
    (b'{"user": "u1", "exclude": "m1"}', "a list"),
    (b'{"history": "m1"}', "a list"),
    (b"[true]", "the body is [true]; a JSON object"),
    (b'{"k": false, "user": "u1"}', "k is false; a whole number"),
    (b'{"user": {"a": ["\\u202e\\ud800"]}}', r'user is {"a": ["\u202e\ud800"]}; a text'),
    (b'{"history": [1.5]}', "history.0"),
    (b'{"history": [null]}', "history.0"),
]


@pytest.mark.parametrize(("body", "rule"), ABUSED_BODIES, ids=lambda text: str(text)[:30])
def test_a_body_that_is_not_accepted_is_400_and_names_the_rule(client, body, rule):
    response = client.post("/v1/recommend", data=body, content_type="application/json")
    assert response.status_code == 400
    assert rule in response.json["detail"]


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"requests": []}, "at least 1 entry"),
        ({"requests": [{"user": "u1"}] * 101}, "at most 100 entries"),
        ({"requests": [{"user": "u1"}, {"user": "u1", "z": 1}]}, "requests.1.z"),
        ({"requests": [{"user": "u1"}, {}]}, "requests.1"),
        ({"requests": [{"user": "u1", "explain": True}]}, "requests.0.explain: a batch gives no"),
        ({"requests": [{"user": "u1", "explain": 1}]}, "requests.0.explain is 1; true or false"),
        ({}, "requests: it is missing"),
    ],
)
def test_a_batch_that_is_not_accepted_is_400_as_a_whole(client, body, rule):
    response = client.post("/v1/recommend/batch", json=body)
    assert response.status_code == 400
    assert rule in response.json["detail"]


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/xml", "application/x-www-form-urlencoded", "text/json"],
)
def test_another_media_type_is_415(client, content_type):
    body = b'{"user": "u1"}'
    assert client.post("/v1/recommend", data=body, content_type=content_type).status_code == 415
    plain = client.post("/v1/recommend", data=body, content_type="application/json; charset=utf-8")
    assert plain.status_code == 200
    packed = client.post(
        "/v1/recommend",
        data=body,
        content_type="application/json",
        headers={"Content-Encoding": "gzip"},
    )
    assert packed.status_code == 415


def test_injections_are_unknown_users_and_never_markup(client):
    for user in [
        "<script>alert(1)</script>",
        "{{7*7}}",
        "${jndi:ldap://x}",
        "%s%n",
        "../../etc/passwd",
    ]:
        response = get(client, user=user)
        assert response.status_code == 404
        assert response.mimetype == "application/problem+json"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "49" not in response.json["detail"]


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/recommend?history=m1&explain=true&k=3", Recommended),
        ("/recommend?history=m1&k=3", Recommended),
        ("/v1/items/m1/similar?k=3", SimilarItems),
    ],
)
def test_answers_are_what_their_models_document(client, path, document):
    """They are written as they are, without the models."""
    response = client.get(path)
    assert response.status_code == 200
    said = document.model_validate_json(response.data)
    assert said.model_dump(mode="json") == response.json
