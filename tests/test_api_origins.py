"""Without keys, being on this machine is the key: pages of other sites must not borrow it."""

import pytest

from recae.errors import ConfigError
from recae_api import Settings, create_app, create_key
from tests.api_films import films_service

PATHS = ["/recommend?user=u1", "/v1/model", "/livez", "/openapi.json", "/", "/nowhere"]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    return films_service(tmp_path_factory.mktemp("api") / "films")


@pytest.fixture
def client(service):
    return create_app(service).test_client()


def status(client, host, *, path="/recommend?user=u1", sender="127.0.0.1"):
    environment = {"REMOTE_ADDR": sender}
    return client.get(path, headers={"Host": host}, environ_overrides=environment).status_code


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LocalHost:80", "127.0.0.1", "127.0.0.1:8000"),
        *("127.0.0.2:1", "[::1]", "[::1]:8000", "localhost:"),
    ],
)
def test_this_machine_is_answered_by_its_own_names(client, host):
    assert status(client, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "evil-localhost", ""),
        *("127.0.0.1.evil.example:80", "192.0.2.1", "[2001:db8::1]:80", "[", "::1", "127.1"),
        *("localhost@evil.example", "localhost, evil.example", "localhost:80:80", "a b"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_a_site_renamed_to_this_machine_reads_nothing(client, host, path):
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 421
    assert answer.content_type == "application/problem+json"
    assert answer.json["type"] == "/docs#host-refused"
    assert "--allow-host" in answer.json["detail"]


def test_what_names_no_host_is_no_browser(client):
    assert client.get("/livez", environ_overrides={"HTTP_HOST": ""}).status_code == 421
    environment = {"REQUEST_METHOD": "GET", "PATH_INFO": "/livez", "REMOTE_ADDR": "127.0.0.1"}
    found = []
    body = client.application.wsgi_app(
        {
            **environment,
            "SERVER_NAME": "waitress.invalid",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
        },
        lambda status, _: found.append(status),
    )
    body.close()
    assert found == ["200 OK"]


@pytest.mark.parametrize("sender", ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1"])
def test_senders_on_this_machine_need_its_names(client, sender):
    assert status(client, "shop.example", sender=sender) == 421
    assert status(client, "localhost", sender=sender) == 200


@pytest.mark.parametrize("sender", ["192.0.2.1", "2001:db8::1", ""])
def test_other_machines_name_this_one_as_they_like(client, sender):
    assert status(client, "shop.example", sender=sender) == 200


def test_names_of_a_proxy_are_answered_when_told(service):
    client = create_app(service, Settings(allow_hosts=("shop.example",))).test_client()
    assert status(client, "Shop.Example:443") == 200
    assert status(client, "localhost") == 200
    assert status(client, "www.shop.example") == 421


@pytest.mark.parametrize("name", ["", "Shop.example", "shop.example:80", "http://x", "*", "a\n"])
def test_a_name_that_no_host_has_is_refused(name):
    with pytest.raises(ConfigError, match="lower case without scheme and port"):
        Settings(allow_hosts=(name,))


def test_with_keys_the_name_does_not_matter(service, tmp_path):
    key = create_key(tmp_path / "keys", name="shop")
    client = create_app(service, Settings(key_file=tmp_path / "keys")).test_client()
    assert status(client, "shop.example") == 401
    headers = {"Host": "shop.example", "X-API-Key": key}
    assert client.get("/recommend?user=u1", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"}, 403),
        ({"Sec-Fetch-Site": "nonsense"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_another_site_changes_nothing(client, headers, wanted):
    answer = client.post("/v1/model/reload", headers=headers)
    assert answer.status_code == wanted
    if wanted == 403:
        assert answer.json["type"] == "/docs#cross-site-refused"
        assert client.post("/v1/recommend", json={"user": "u1"}, headers=headers).status_code == 403
        assert client.get("/recommend?user=u1", headers=headers).status_code == 200


def test_a_site_without_the_key_learns_only_that(service, tmp_path):
    create_key(tmp_path / "keys", name="ops", scopes=("admin",))
    client = create_app(service, Settings(key_file=tmp_path / "keys")).test_client()
    crossing = {"Sec-Fetch-Site": "cross-site"}
    assert client.post("/v1/model/reload", headers=crossing).status_code == 403
    assert client.post("/v1/model/reload").status_code == 401
