"""API keys: what is stored, what opens a door, and what a stranger can learn."""

import hashlib
import json
import stat
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta

import pytest

from recae.errors import ConfigError, DataError, ResourceError
from recae_api import Settings, create_app, create_key, read_keys, revoke_key
from recae_api.access import OPEN, SCOPE_OF
from recae_api.keys import KeyRing
from tests.api_films import films_service


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    return films_service(tmp_path_factory.mktemp("api") / "films")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys.json"


@pytest.fixture
def key(path):
    return create_key(path, name="shop")


@pytest.fixture
def app(service, path, key):
    return create_app(service, Settings(key_file=path))


@pytest.fixture
def client(app):
    return app.test_client()


ASK = "/recommend?user=u1"


def status(client, path=ASK, **headers):
    return client.get(
        path, headers={k.replace("_", "-"): v for k, v in headers.items()}
    ).status_code


def test_the_file_holds_hashes_and_is_readable_by_its_owner_only(path, key):
    name, key_id, secret = key.split("_")
    assert (name, len(key_id), len(secret)) == ("recae", 8, 64)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in path.read_text()
    (kept,) = json.loads(path.read_text())["keys"]
    assert kept["id"] == key_id
    assert kept["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert kept["scopes"] == ["recommend"]
    assert list(path.parent.iterdir()) == [path]


def test_keys_made_at_once_are_all_kept(path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: create_key(path, name=str(i)), range(40)))
        assert {key.split("_")[1] for key in made} == {key.id for key in read_keys(path)}
        ids = [key.id for key in read_keys(path)][:30]
        list(pool.map(lambda id_: revoke_key(path, id_), ids))
    assert len(read_keys(path)) == 10


def test_a_key_is_accepted_in_either_header_exactly_once(client, key):
    assert status(client, X_API_Key=key) == 200
    assert status(client, Authorization=f"Bearer {key}") == 200
    assert status(client, Authorization=f"bearer {key}") == 200
    assert status(client, Authorization=f"Bearer {key}", X_API_Key=key) == 401
    twice = client.get(ASK, headers=[("X-API-Key", key), ("X-API-Key", key)])
    assert twice.status_code == 401


def test_anything_else_is_401(client, key):
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    other_id = "recae_00000000" + key[14:]
    for presented in ("", " ", wrong, other_id, key + " x", key * 2, key.upper(), key[:-1], "é"):
        assert status(client, X_API_Key=presented) == 401
        assert status(client, Authorization=f"Bearer {presented}") == 401
    assert status(client) == 401
    assert status(client, Authorization=key) == 401
    assert status(client, Authorization=f"Basic {key}") == 401
    assert status(client, f"{ASK}&api_key={key}") == 401
    assert status(client, X_Original_URL="/livez") == 401
    assert status(client, X_Forwarded_For="127.0.0.1") == 401


def test_a_stranger_learns_nothing_from_parameters(client):
    queries = ["user=u1", "user=nobody", "user=u1&k=x", "", "history=x", "user=%FF"]
    asked = [client.get(f"/recommend?{q}", headers={"X-Request-ID": "same"}) for q in queries]
    asked.append(client.get("/recommend", data="x" * 70_000, headers={"X-Request-ID": "same"}))
    assert {r.status_code for r in asked} == {401}
    assert len({r.get_data() for r in asked}) == 1


def test_scopes_do_not_include_each_other(client, path, key):
    admin = create_key(path, name="operator", scopes=("admin",))
    both = create_key(path, name="both", scopes=("recommend", "admin"))
    wanted = {key: (200, 403), admin: (403, 200), both: (200, 200)}
    for presented, (recommend, reload) in wanted.items():
        assert status(client, X_API_Key=presented) == recommend
        answer = client.post("/v1/model/reload", headers={"X-API-Key": presented})
        assert answer.status_code == reload


def test_what_needs_no_key_and_that_everything_else_does(app, client, key):
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    assert endpoints == OPEN | set(SCOPE_OF)
    app.add_url_rule("/new", view_func=lambda: "forgotten")
    assert status(client, "/new") == 401
    assert status(client, "/new", X_API_Key=key) == 403
    for open_path in ("/livez", "/readyz", "/healthz", "/openapi.json", "/docs", "/"):
        assert status(client, open_path) == 200
    for closed in ("/v1/model", "/v1/recommend?user=u1"):
        assert status(client, closed) == 401
    assert client.post("/v1/recommend", json={"user": "u1"}).status_code == 401
    assert client.post("/v1/recommend/batch", json={}).status_code == 401


def test_the_documentation_asks_for_a_key_only_where_one_is_needed(service, client):
    with_keys = client.get("/openapi.json").json["paths"]
    assert with_keys["/recommend"]["get"]["security"] == [{"bearer": []}, {"header": []}]
    assert "security" not in with_keys["/livez"]["get"]
    without = create_app(service).test_client().get("/openapi.json").json["paths"]
    assert "security" not in without["/recommend"]["get"]


def test_a_running_server_follows_the_file(client, path, key):
    second = create_key(path, name="second")
    assert status(client, X_API_Key=second) == 200
    revoke_key(path, key.split("_")[1])
    assert status(client, X_API_Key=key) == 401
    assert status(client, X_API_Key=second) == 200


def test_a_file_that_becomes_damaged_leaves_the_keys_before_in_force(client, path, key, caplog):
    path.write_text("{")
    assert status(client, X_API_Key=key) == 200
    assert "keys before stay in force" in caplog.text
    path.unlink()
    assert status(client, X_API_Key=key) == 200


def test_a_file_that_could_not_be_read_once_is_read_again(client, path, key, monkeypatch, caplog):
    keep = create_key(path, name="keep")
    assert status(client, X_API_Key=key) == 200
    revoke_key(path, key.split("_")[1])
    with monkeypatch.context() as broken:
        broken.setattr("recae_api.keys.Path.open", _disk_error)
        assert [status(client, X_API_Key=key) for _ in range(3)] == [200] * 3
    assert status(client, X_API_Key=key) == 401
    assert status(client, X_API_Key=keep) == 200
    assert len([r for r in caplog.records if "keys before stay in force" in r.message]) == 1


def _disk_error(path, mode):
    raise OSError(5, "Input/output error", str(path))


def test_nobody_uses_the_keys_before_while_the_new_ones_are_read(path, key, monkeypatch):
    ring = KeyRing(path)
    revoke_key(path, key.split("_")[1])
    reading, go_on = threading.Event(), threading.Event()

    def slowly(path):
        reading.set()
        assert go_on.wait(10)
        return read_keys(path)

    monkeypatch.setattr("recae_api.keys.read_keys", slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ring.find, key)
        assert reading.wait(10)
        second = pool.submit(ring.find, key)
        _, waiting = wait([second], timeout=0.2)
        go_on.set()
        assert (first.result(10), second.result(10)) == (None, None)
        assert waiting


def test_a_key_ends_when_it_expires(client, path):
    now = datetime.now(UTC)
    old = create_key(path, name="old", expires=now - timedelta(seconds=1))
    new = create_key(path, name="new", expires=now + timedelta(hours=1))
    assert status(client, X_API_Key=old) == 401
    assert status(client, X_API_Key=new) == 200


ENTRY = {
    "id": "00000000",
    "name": "x",
    "scopes": ["admin"],
    "sha256": "0" * 64,
    "created": "2025-01-31T12:00:00+00:00",
}


@pytest.mark.parametrize(
    "changed",
    [
        *({"id": None}, {"id": 1}, {"name": None}, {"sha256": None}, {"sha256": "0"}),
        *({"sha256": "é" * 64}, {"scopes": "admin"}, {"scopes": ["root"]}, {"scopes": []}),
        *({"created": "yesterday"}, {"created": None}, {"expires": 1}, {"expire": "2025-01-31"}),
    ],
    ids=str,
)
def test_a_file_with_a_wrong_entry_is_refused_and_the_place_told(path, changed):
    path.write_text(json.dumps({"keys": [ENTRY]}))
    assert [key.id for key in read_keys(path)] == ["00000000"]
    path.write_text(json.dumps({"keys": [ENTRY | changed]}))
    with pytest.raises(DataError, match=r"not a file of API keys: keys\.0"):
        read_keys(path)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"{}", b'{"keys": 1}', b'{"keys": [{}]}', b"\xff"),
    ],
)
def test_a_damaged_file_is_refused_before_anything_is_served(service, path, content):
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a file of API keys"):
        create_app(service, Settings(key_file=path))
    with pytest.raises(DataError, match="not a file of API keys"):
        create_key(path, name="x")
    assert path.read_bytes() == content


def test_wrong_calls_are_refused_by_name(path, tmp_path):
    with pytest.raises(ConfigError, match=r"scopes are \['root'\]"):
        create_key(path, name="x", scopes=("root",))
    with pytest.raises(ConfigError, match="scopes are"):
        create_key(path, name="x", scopes=())
    with pytest.raises(ConfigError, match="no offset"):
        create_key(path, name="x", expires=datetime(2030, 1, 1))
    assert not path.exists()
    create_key(path, name="x")
    with pytest.raises(ConfigError, match="no key has the id 'nothere'"):
        revoke_key(path, "nothere")
    assert len(read_keys(path)) == 1
    with pytest.raises(ResourceError, match="cannot be written"):
        create_key(tmp_path / "missing" / "keys.json", name="x")
    with pytest.raises(DataError, match="not a file of API keys"):
        read_keys(tmp_path / "missing")


@pytest.mark.parametrize("name", ["max_k", "max_body_bytes", "max_batch", "max_history"])
def test_settings_below_1_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} is 0; at least 1 is accepted"):
        Settings(**{name: 0})
