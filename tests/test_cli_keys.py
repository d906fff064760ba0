"""`recae keys`: what it makes opens the service, what it revokes does not."""

import json
import os

import pytest

from recae.cli.main import run as run_command
from recae.serving import RecommendationService
from recae_api import Settings, create_app
from tests.api_films import save_films


@pytest.fixture
def run(capfd):
    def _call(*arguments):
        capfd.readouterr()
        code = run_command([str(a) for a in arguments], debug=False)
        return code, *capfd.readouterr()

    return _call


def test_keys_are_made_listed_and_taken_back(run, tmp_path):
    path = tmp_path / "keys.json"
    code, out, err = run("keys", "create", path, "--name", "shop")
    assert code == 0
    key = out.strip()
    assert "only copy" in err
    assert key not in err
    code, out, _ = run(
        "keys", "create", path, "--name", "ops", "--scope", "admin", "--days", 2, "--json"
    )
    assert code == 0
    ops = json.loads(out)
    assert ops["key"].startswith(f"recae_{ops['id']}_")

    code, out, _ = run("keys", "list", path, "--json")
    listed = json.loads(out)
    assert [(k["name"], k["scopes"]) for k in listed] == [
        ("shop", ["recommend"]),
        ("ops", ["admin"]),
    ]
    assert [k["expires"] is None for k in listed] == [True, False]
    assert "sha256" not in out
    text = run("keys", "list", path)[1]
    assert [line.split()[:3] for line in text.splitlines()] == [
        [key.split("_")[1], "shop", "recommend"],
        [ops["id"], "ops", "admin"],
    ]
    assert key.split("_")[2] not in text

    save_films(tmp_path / "films")
    service = RecommendationService.open(tmp_path / "films")
    client = create_app(service, Settings(key_file=path)).test_client()

    def status():
        return client.get("/recommend?user=u1", headers={"X-API-Key": key}).status_code

    assert status() == 200
    assert run("keys", "revoke", path, key.split("_")[1])[0] == 0
    assert status() == 401
    assert [k["name"] for k in json.loads(run("keys", "list", path, "--json")[1])] == ["ops"]


def test_serve_takes_its_limits_from_the_flags(run, tmp_path, monkeypatch):
    import torch

    import recae_api.server

    apps = []
    monkeypatch.setattr(recae_api.server, "serve", lambda app, **_: apps.append(app))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    save_films(tmp_path / "films")
    history = {"history": ["m1"] * 30, "k": 2}
    assert run("serve", tmp_path / "films", "--max-body-bytes", 100)[0] == 0
    assert run("serve", tmp_path / "films", "--max-history", 29)[0] == 0
    assert run("serve", tmp_path / "films")[0] == 0
    answers = [app.test_client().post("/v1/recommend", json=history) for app in apps]
    assert [answer.status_code for answer in answers] == [413, 400, 200]
    assert run("serve", tmp_path / "films", "--allow-host", "Shop.example")[0] == 0
    shop = {"headers": {"Host": "shop.example"}}
    assert [app.test_client().get("/livez", **shop).status_code for app in apps[2:]] == [421, 200]
    code, _, err = run(
        "serve", tmp_path / "films", "--allow-host", "x", "--api-key-file", tmp_path / "keys"
    )
    assert (code, len(apps)) == (2, 4)
    assert "--allow-host does not go with --api-key-file" in err


def test_wrong_uses_are_one_line_and_a_code(run, tmp_path):
    (tmp_path / "other.json").write_text("[]")
    path = tmp_path / "keys.json"
    assert run("keys", "create", path, "--name", "shop")[0] == 0
    for arguments, code, said in (
        (["create", path], 2, "Missing option '--name'"),
        (["create", path, "--name", "x", "--scope", "root"], 2, "'root' is not one of"),
        (["create", path, "--name", "x", "--days", 0], 2, "0 is not in the range"),
        (["create", tmp_path / "no" / "k", "--name", "x"], 5, "cannot be written"),
        (["create", tmp_path / "other.json", "--name", "x"], 3, "not a file of API keys"),
        (["list", tmp_path / "missing"], 3, "not a file of API keys"),
        (["revoke", path, "nothere"], 2, "no key has the id 'nothere'"),
    ):
        found, out, err = run("keys", *arguments)
        assert (found, out) == (code, "")
        assert err.count("\n") == 1
        assert said in err


@pytest.mark.parametrize("name", ["", " "])
def test_a_key_needs_a_name(run, tmp_path, name):
    code, out, err = run("keys", "create", tmp_path / "k.json", "--name", name)
    assert (code, out) == (2, ""), err
    assert "the name of a key is empty" in err
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_the_file_stays_and_the_file_is_changed(run, tmp_path):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "keys.json", tmp_path / "keys.json"
    link.symlink_to(target)  # nothing is there yet
    key = run("keys", "create", link, "--name", "shop")[1].strip()
    assert run("keys", "create", link, "--name", "ops")[0] == 0
    assert [k["name"] for k in json.loads(run("keys", "list", target, "--json")[1])] == [
        "shop",
        "ops",
    ]
    assert run("keys", "revoke", link, key.split("_")[1])[0] == 0
    assert link.is_symlink()
    assert [k["name"] for k in json.loads(target.read_text())["keys"]] == ["ops"]
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["keys.json"]


@pytest.mark.parametrize("kind", ["loop", "pipe"])
def test_keys_are_written_to_files_only(run, tmp_path, kind):
    path = tmp_path / "keys.json"
    path.symlink_to(path) if kind == "loop" else os.mkfifo(path)
    for arguments in (["create", path, "--name", "x"], ["revoke", path, "0" * 8]):
        code, out, err = run("keys", *arguments)
        assert (code, out) == (5, "")
        assert "it is no file" in err


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\u202eb", "a\tb"])
def test_the_name_of_a_key_is_one_printable_line(run, tmp_path, name):
    path = tmp_path / "keys.json"
    code, out, err = run("keys", "create", path, "--name", name)
    assert (code, out) == (2, "")
    assert "printable characters are accepted" in err
    assert not path.exists()
    assert run("keys", "create", path, "--name", "shop")[0] == 0
    path.write_text(path.read_text().replace('"shop"', json.dumps(name)))  # of an older recae
    code, out, err = run("keys", "list", path)
    assert (code, out.count("\n")) == (0, 1), err
    assert out[:-1].isprintable()
    code, out, err = run("keys", "list", path, "--json")
    assert json.loads(out)[0]["name"] == name
    assert out.replace("\n", "").isprintable()


def test_a_file_of_keys_without_an_end_is_refused(run):
    code, out, err = run("keys", "list", "/dev/zero")
    assert (code, out) == (3, "")
    assert "it has more than 16 MiB" in err
