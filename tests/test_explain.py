"""Reasons: what a score loses, exactly, without an item of the history."""

import json

import numpy as np
import pytest

import recae
from recae.cli.main import run as run_command
from recae.data.histories import Histories
from recae.errors import ConfigError, NoKnownItemError, UnknownIdError
from recae.models.registry import MODELS, create
from recae.ranking.leave_one_out import leave_one_out, score_changes
from recae.serving import reasons
from recae_api import create_app
from tests.api_films import save_films
from tests.test_recommenders import N_ITEMS, OPTIONS, interactions, two_tastes

HISTORY = [f"i{i}" for i in (4, 0, 10, 7, 16)]


@pytest.fixture(scope="module", params=sorted(MODELS))
def service(request, tmp_path_factory):
    data = interactions(two_tastes())
    model = create(request.param, OPTIONS.get(request.param, {})).fit(data)
    out = tmp_path_factory.mktemp("m") / request.param
    recae.save(model, out, data=data)
    return recae.load(out)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    directory = tmp_path_factory.mktemp("api") / "films"
    save_films(directory)
    return recae.load(directory)


# ---------------------------------------------------------------- index space


def test_leave_one_out_is_the_history_and_then_each_without_one():
    history = Histories.from_lists([[5, 2, 9]], n_items=10)
    rows = leave_one_out(history, np.array([0, 2]))
    x = rows.matrix.toarray()
    assert [np.flatnonzero(row).tolist() for row in x] == [[2, 5, 9], [5, 9], [2, 5]]
    assert rows.order is not None
    assert rows.order.tolist() == [1, 0, 2, 0, 2, 1, 0]
    assert len(leave_one_out(history, np.zeros(0, dtype=np.int64))) == 1
    unordered = leave_one_out(Histories(history.matrix), np.array([1]))
    assert unordered.order is None


def test_changes_come_from_one_call_of_the_model(monkeypatch):
    model = create("ease", {"l2": 5.0}).fit(interactions(two_tastes()))
    asked = []
    real = type(model).scorer
    monkeypatch.setattr(
        type(model), "scorer", lambda self, h: asked.append(len(h)) or real(self, h)
    )
    history = Histories.from_lists([[4, 0, 10]], n_items=N_ITEMS)
    scores, changes = score_changes(model, history, np.array([2, 6]), np.array([0, 1, 2]))
    assert asked == [4]
    # EASE adds its weights, so each item of the history weighs its own entry of the table.
    table = model.arrays()["weights"]
    np.testing.assert_allclose(scores, table[[0, 4, 10]][:, [2, 6]].sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(changes, table[[0, 4, 10]][:, [2, 6]], rtol=1e-5)


# ---------------------------------------------------------------- the service


def test_without_the_first_reason_the_score_is_lower_by_exactly_its_weight(service):
    found = service.explain("i2", history=HISTORY)
    assert sorted(r.item for r in found.reasons) == sorted(HISTORY)
    weights = [r.weight for r in found.reasons]
    assert weights == sorted(weights, reverse=True)
    for reason in (found.reasons[0], found.reasons[-1]):
        left = [item for item in HISTORY if item != reason.item]
        without = service.explain("i2", history=left)
        assert found.score - without.score == reason.weight
        listed = service.recommend(history=left, k=N_ITEMS, exclude_seen=False).items
        assert {i.item: i.score for i in listed}["i2"] == without.score
    if service.model_name == "popular":
        assert set(weights) == {0.0}
    elif service.model_name != "random":
        assert weights[0] > 0
        assert found.reasons[-1].item == "i7"  # the one of the other taste


def test_a_list_says_why_what_explain_says(service):
    answer = service.recommend(history=HISTORY, k=5, explain=True)
    plain = service.recommend(history=HISTORY, k=5)
    assert all(place.because is None for place in plain.items)
    assert [(i.item, i.score) for i in answer.items] == [(i.item, i.score) for i in plain.items]
    for place in answer.items:
        found = service.explain(place.item, history=HISTORY)
        assert found.score == place.score
        assert place.because == tuple(r for r in found.reasons if r.weight > 0)[:3]


def test_a_user_and_the_users_history_have_the_same_reasons(films):
    known = films.explain("m7", user="u1")
    told = films.explain("m7", history=films.history("u1"))
    assert known.reasons == told.reasons
    assert (known.user, told.user, known.score) == ("u1", None, told.score)
    assert known.title == "Film m7"
    assert known.reasons[0].title == f"Film {known.reasons[0].item}"
    assert (known.model_name, known.model_version) == ("ease", films.version)
    assert known.warnings == ()


def test_only_the_most_recent_items_are_left_out_and_that_is_said(films, monkeypatch):
    monkeypatch.setattr(reasons, "MAX_LEFT_OUT", 3)
    history = ["m9", "m1", "m8", "m2", "m5"]
    found = films.explain("m7", history=history)
    assert sorted(r.item for r in found.reasons) == ["m2", "m5", "m8"]
    said = "reasons are looked for among the most recent 3 of 5 items"
    assert found.warnings == (said,)
    without = films.explain("m7", history=[i for i in history if i != found.reasons[0].item])
    assert found.score - without.score == found.reasons[0].weight
    assert films.recommend(history=history, explain=True).warnings == (said,)
    assert films.explain("m7", history=history[:3]).warnings == ()


def test_what_is_unknown_is_told(films):
    found = films.explain("m1", history=["m1", "m2", "no"])
    assert found.warnings == (
        "1 of 3 ids of history are not known: 'no'",
        "the item is in the history itself",
    )
    with pytest.raises(UnknownIdError, match="item 'no' is not known"):
        films.explain("no", user="u1")
    with pytest.raises(UnknownIdError, match="user 'nobody' is not known"):
        films.explain("m1", user="nobody")
    with pytest.raises(NoKnownItemError, match="no item of the history is known"):
        films.explain("m1", history=["no"])
    with pytest.raises(ConfigError, match="exactly one of user and history"):
        films.explain("m1")


def test_an_empty_history_has_no_reasons(films):
    assert films.explain("m1", history=[]).reasons == ()
    answer = films.recommend(history=[], explain=True)
    assert answer.items == ()
    popular = films.recommend(user="nobody", fallback="popular", explain=True)
    assert popular.source == "popularity"
    assert {place.because for place in popular.items} == {()}


# ---------------------------------------------------------------- the command


def run(capfd, *arguments):
    capfd.readouterr()
    code = run_command([str(a) for a in arguments], debug=False)
    return code, *capfd.readouterr()


def test_the_command_says_the_same(capfd, tmp_path):
    data = interactions(two_tastes())
    recae.save(create("ease", OPTIONS["ease"]).fit(data), tmp_path / "m", data=data)
    service = recae.load(tmp_path / "m")
    found = service.explain("i2", history=HISTORY)
    asked = [x for item in HISTORY for x in ("--history", item)]
    code, out, err = run(capfd, "explain", tmp_path / "m", *asked, "--item", "i2", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "item": "i2",
        "title": None,
        "score": found.score,
        "reasons": [{"item": r.item, "weight": r.weight, "title": None} for r in found.reasons],
    }
    code, out, err = run(capfd, "explain", tmp_path / "m", "--user", "u0", "--item", "i2", "-k", 2)
    assert code == 0
    assert len(out.splitlines()) == 3
    first = service.explain("i2", user="u0").reasons[0]
    assert out.splitlines()[1].split() == [f"{first.weight:+.4f}", first.item]
    for arguments, refused, said in (
        (["--item", "i2"], 2, "give either --user or --history"),
        (["--item", "i2", "--user", "u0", "--history", "i1"], 2, "give either"),
        (["--user", "u0"], 2, "Missing option '--item'"),
        (["--user", "nobody", "--item", "i2"], 3, "user 'nobody' is not known"),
        (["--user", "u0", "--item", "no"], 3, "item 'no' is not known"),
    ):
        code, out, err = run(capfd, "explain", tmp_path / "m", *arguments)
        assert (code, out) == (refused, "")
        assert said in err


# ---------------------------------------------------------------- HTTP


def test_http_adds_reasons_where_they_are_asked_for(films):
    client = create_app(films).test_client()
    answer = films.recommend(user="u1", k=4, explain=True)
    response = client.get("/recommend?user=u1&k=4&explain=true")
    assert response.status_code == 200
    assert response.json["items"] == [
        {
            "item": i.item,
            "rank": i.rank,
            "score": i.score,
            "title": i.title,
            "because": [{"item": r.item, "weight": r.weight, "title": r.title} for r in i.because],
        }
        for i in answer.items
    ]
    reasons = [reason for i in response.json["items"] for reason in i["because"]]
    assert reasons
    assert all(r["title"] == f"Film {r['item']}" for r in reasons)
    plain = client.get("/recommend?user=u1&k=4&explain=false").json
    assert plain == client.get("/recommend?user=u1&k=4").json
    assert list(plain["items"][0]) == ["item", "rank", "score", "title"]
    posted = client.post("/v1/recommend", json={"user": "u1", "k": 4, "explain": True})
    assert posted.json == response.json


def test_http_refuses_reasons_in_a_batch_and_odd_flags(films):
    client = create_app(films).test_client()
    batch = {"requests": [{"user": "u1"}, {"user": "u1", "explain": True}]}
    response = client.post("/v1/recommend/batch", json=batch)
    assert response.status_code == 400
    detail = "requests.1.explain: a batch gives no reasons; leave it out"
    assert response.json["detail"] == detail
    response = client.get("/recommend?user=u1&explain=yes")
    assert response.status_code == 400
    assert response.json["detail"] == 'explain is "yes"; true or false is accepted'
