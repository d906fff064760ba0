"""Codes of people and vectors of items as Parquet files."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recae
from recae.cli.main import run as run_command
from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.models.autoencoder import Autoencoder
from recae.models.registry import MODELS, create
from recae.serving import embed
from tests.test_recommenders import N_ITEMS, OPTIONS, interactions, two_tastes

WITH_CODES = ["als", "bpr", "mult-dae", "mult-vae", "recvae", "vanilla-ae"]


@pytest.fixture(scope="module", params=WITH_CODES)
def saved(request, tmp_path_factory):
    return save(request.param, tmp_path_factory.mktemp("m") / request.param)


def save(name, directory, **options):
    data = interactions(two_tastes())
    recae.save(create(name, OPTIONS.get(name, {})).fit(data), directory, data=data, **options)
    return directory


def run(capfd, *arguments):
    capfd.readouterr()
    code = run_command([str(a) for a in arguments], debug=False)
    return code, *capfd.readouterr()


def vectors(table, column):
    return np.array(table[column].to_pylist(), dtype=np.float32)


def test_codes_of_all_users_are_the_models(saved, capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "_CHUNK", 7)  # many chunks, the last one short
    out = tmp_path / "codes.parquet"
    code, text, err = run(capfd, "embed", saved, "--users", "all", "-o", out, "--json")
    assert (code, err) == (0, "")
    bundle = recae.load(saved).bundle
    expected = bundle.model.encode(bundle.histories)
    assert json.loads(text) == {
        "file": str(out),
        "people": 80,
        "width": expected.shape[1],
        "left_out": 0,
        "left_out_first": [],
    }
    table = pq.read_table(out)
    assert table.schema.field("user_id").type == pa.large_string()
    assert table.schema.field("code").type == pa.list_(pa.float32(), expected.shape[1])
    assert table["user_id"].to_pylist() == [f"u{i}" for i in range(80)]
    assert vectors(table, "code").tobytes() == expected.tobytes()
    assert len({row.tobytes() for row in expected}) > 70  # codes tell people apart


def test_named_users_and_people_of_a_file_get_the_same_codes(saved, capfd, tmp_path):
    everybody = tmp_path / "all.parquet"
    assert run(capfd, "embed", saved, "--users", "all", "-o", everybody)[0] == 0
    codes = vectors(pq.read_table(everybody), "code")
    (tmp_path / "some.txt").write_text("u5\nu3\nu5\n")
    some = tmp_path / "some.parquet"
    assert run(capfd, "embed", saved, "--users", tmp_path / "some.txt", "-o", some)[0] == 0
    table = pq.read_table(some)
    assert table["user_id"].to_pylist() == ["u5", "u3"]
    assert vectors(table, "code").tobytes() == codes[[5, 3]].tobytes()

    lines = [f"new{u};i{item}" for u in (5, 3) for item in two_tastes()[u]]
    people = tmp_path / "new.csv"
    lines += ["new3;unheard-of", "stranger;unheard-of"]
    people.write_text("\n".join(["who;what", *lines]) + "\n")
    out = tmp_path / "new.parquet"
    columns = ["--user-col", "who", "--item-col", "what", "--sep", ";"]
    code, text, err = run(capfd, "embed", saved, "--interactions", people, *columns, "-o", out)
    assert code == 0
    assert "2 people, " in text
    assert "left out 1 of whom nothing is known that counts: 'stranger'" in text
    assert "1 items of" in err
    assert "'unheard-of'" in err
    table = pq.read_table(out)
    assert table["user_id"].to_pylist() == ["new5", "new3"]
    assert vectors(table, "code").tobytes() == codes[[5, 3]].tobytes()


def test_vectors_of_items_are_the_models(saved, capfd, tmp_path):
    out = tmp_path / "items.parquet"
    code, text, err = run(capfd, "embed", saved, "--items", "-o", out)
    assert (code, err) == (0, "")
    assert "30 items" in text
    expected = recae.load(saved).bundle.model.item_vectors()
    table = pq.read_table(out)
    assert table["item_id"].to_pylist() == [f"i{i}" for i in range(N_ITEMS)]
    assert vectors(table, "vector").tobytes() == expected.tobytes()


def test_a_code_says_what_its_scores_are(saved):
    """Codes and vectors together are the model: of factor models their products are the scores."""
    model = recae.load(saved).bundle.model
    asking = Histories.from_lists([[0, 2, 4], [1, 5]], n_items=N_ITEMS)
    codes = model.encode(asking)
    if isinstance(model, Autoencoder):
        scores = model.decode(codes)
    else:
        scores = codes @ model.item_vectors().T + model.arrays().get("item_bias", 0)
    np.testing.assert_allclose(scores, model.score(asking), atol=1e-4)


def test_codes_of_nobody_have_the_same_width(saved, tmp_path):
    bundle = recae.load(saved).bundle
    nobody, somebody = (Histories.from_lists(h, n_items=N_ITEMS) for h in ([], [[0]]))
    codes = bundle.model.encode(nobody)
    assert codes.shape == (0, bundle.model.encode(somebody).shape[1])
    assert codes.dtype == np.float32
    out = tmp_path / "nobody.parquet"
    assert embed.write_codes(bundle, nobody, IdMap([]), out) == codes.shape[1]
    assert pq.read_schema(out).field("code").type == pa.list_(pa.float32(), codes.shape[1])


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(WITH_CODES)))
def test_models_without_codes_refuse_and_write_nothing(name, capfd, tmp_path):
    directory = save(name, tmp_path / name)
    for arguments, said in (
        (["--users", "all"], f"the {name} model makes no codes of histories"),
        (["--items"], f"the {name} model has no vectors of items"),
    ):
        code, out, err = run(capfd, "embed", directory, *arguments, "-o", tmp_path / "x.parquet")
        assert (code, out) == (2, "")
        assert said in err
        assert not (tmp_path / "x.parquet").exists()


def test_the_command_refuses_what_it_cannot_answer(capfd, tmp_path):
    directory = save("als", tmp_path / "als", user_history=False)
    (tmp_path / "none.txt").write_text("\n")
    out = tmp_path / "x.parquet"
    for arguments, refused, said in (
        ([], 2, "give one of --users, --interactions and --items; got none"),
        (["--items", "--users", "all"], 2, "got --users, --items"),
        (["--users", "all"], 2, "the model was stored without users"),
        (["--users", tmp_path / "none.txt"], 3, "names no user"),
    ):
        code, text, err = run(capfd, "embed", directory, *arguments, "-o", out)
        assert (code, text) == (refused, "")
        assert said in err
        assert not out.exists()
    assert run(capfd, "embed", directory, "--items", "-o", out)[0] == 0
