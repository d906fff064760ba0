"""Neighbours of items: right, the same in any company, and the same by every way of asking."""

import csv
import dataclasses
import json
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq
import pytest

import recae
from recae.cli.main import run as run_command
from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.errors import ConfigError, DataError, UnknownIdError
from recae.models.registry import MODELS, create
from recae.models.similar import NearestItems, unit_rows
from recae.ranking.capabilities import Codes, ItemVectors, ItemWeights
from recae_api import create_app
from tests.api_films import ODD_IDS, save_films
from tests.test_recommenders import N_ITEMS, OPTIONS, UNPERSONAL, interactions, two_tastes

ALL = np.arange(N_ITEMS, dtype=np.int64)
WITH_VECTORS = ["als", "bpr", "mult-dae", "mult-vae", "recvae", "vanilla-ae"]
WITH_WEIGHTS = ["ease", "edlae", "gf-cf", "item-knn"]
PERSONAL = sorted(set(MODELS) - UNPERSONAL)


@pytest.fixture(scope="module", params=PERSONAL)
def model(request):
    options = OPTIONS.get(request.param, {})
    return create(request.param, options).fit(interactions(two_tastes()))


@pytest.fixture(scope="module")
def nearest(model):
    return NearestItems(model)


def plain_cosines(vectors):
    """Cosines by loops over float64 products, the diagonal left out."""
    rows = [[float(v) for v in row] for row in vectors]
    out = np.full((len(rows), len(rows)), -np.inf)
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            if i != j:
                dot = sum(x * y for x, y in zip(a, b, strict=True))
                out[i, j] = dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5
    return out


# ---------------------------------------------------------------- index space


def test_every_personal_model_has_neighbours_of_its_taste(nearest):
    """Items of one parity were chosen together: they are nearest, and no item is its own."""
    top = nearest.nearest(ALL, k=3)
    right = (top.items % 2 == ALL[:, None] % 2).mean()
    assert right > 0.95
    assert (top.items != ALL[:, None]).all()


def test_an_item_alone_equals_the_item_among_all(nearest, monkeypatch):
    batch = nearest.nearest(ALL, k=N_ITEMS)
    for item in ALL:
        alone = nearest.nearest(np.array([item]), k=N_ITEMS)
        assert alone.items[0].tolist() == batch.items[item].tolist()
        assert alone.scores[0].tobytes() == batch.scores[item].tobytes()
    monkeypatch.setattr("recae.ranking.scorer.MAX_CELLS", 3 * N_ITEMS)
    chunked = nearest.nearest(ALL, k=N_ITEMS)
    assert chunked.scores.tobytes() == batch.scores.tobytes()


def test_the_order_is_score_then_index(nearest):
    top = nearest.nearest(ALL, k=N_ITEMS)
    for items, scores in zip(top.items, top.scores, strict=True):
        listed = items >= 0
        pairs = list(zip(-scores[listed], items[listed], strict=True))
        assert pairs == sorted(pairs)
        assert (items[~listed] == -1).all()


def test_candidates_and_exclude_are_followed(nearest):
    only = np.array([2, 3, 5, 8, 0])
    top = nearest.nearest(np.array([0]), k=9, candidates=only, exclude=np.array([5]))
    listed = set(top.items[0].tolist()) - {-1}
    assert listed <= {2, 3, 8}
    full = nearest.nearest(np.array([0]), k=N_ITEMS).items[0]
    order = [i for i in full.tolist() if i in {2, 3, 8}]
    assert [i for i in top.items[0].tolist() if i >= 0] == order


def test_bad_values_are_refused(nearest):
    with pytest.raises(ConfigError, match="k is 0; at least 1 is accepted"):
        nearest.nearest(ALL, k=0)
    with pytest.raises(DataError, match="30"):
        nearest.nearest(np.array([N_ITEMS]), k=1)
    with pytest.raises(DataError, match="candidates hold an index outside"):
        nearest.nearest(ALL, k=1, candidates=np.array([-1]))


@pytest.mark.parametrize("model", WITH_VECTORS, indirect=True)
def test_cosines_are_those_of_a_plain_loop_and_symmetric(model, nearest):
    top = nearest.nearest(ALL, k=N_ITEMS - 1)
    found = np.full((N_ITEMS, N_ITEMS), -np.inf, dtype=np.float32)
    np.put_along_axis(found, top.items, top.scores, axis=1)
    # Entries are rounded to 2**-22 of the largest one.
    np.testing.assert_allclose(found, plain_cosines(model.item_vectors()), atol=2e-5)
    assert found.tobytes() == found.T.copy().tobytes()


@pytest.mark.parametrize("model", WITH_WEIGHTS, indirect=True)
def test_weights_are_the_models_own(model, nearest):
    top = nearest.nearest(ALL, k=N_ITEMS)
    if model.name == "item-knn":
        table = model._table.entries.toarray().T  # column j holds the neighbours of j
        lengths = (top.items >= 0).sum(axis=1)
        assert lengths.tolist() == (table > 0).sum(axis=1).tolist()
        assert lengths.max() == 12
    else:
        table = model.score(Histories.from_lists([[i] for i in ALL.tolist()], n_items=N_ITEMS))
        assert (
            (top.items >= 0).sum(axis=1) == ((table != 0) & ~np.eye(N_ITEMS, dtype=bool)).sum(1)
        ).all()
    for item, (items, scores) in enumerate(zip(top.items, top.scores, strict=True)):
        listed = items >= 0
        # `score` adds both filters of gf-cf in float32
        np.testing.assert_allclose(scores[listed], table[item, items[listed]], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", sorted(UNPERSONAL))
def test_models_that_know_nothing_of_items_refuse(name):
    with pytest.raises(ConfigError, match=f"the {name} model has neither item vectors nor"):
        NearestItems(create(name).fit(interactions(two_tastes())))


def test_the_capabilities_are_those_that_the_models_declare():
    can = {name: create(name) for name in MODELS}
    assert sorted(n for n, m in can.items() if isinstance(m, ItemVectors)) == WITH_VECTORS
    assert sorted(n for n, m in can.items() if isinstance(m, Codes)) == WITH_VECTORS
    assert sorted(n for n, m in can.items() if isinstance(m, ItemWeights)) == WITH_WEIGHTS
    assert sorted(WITH_VECTORS + WITH_WEIGHTS) == PERSONAL


@pytest.mark.parametrize("width", [1, 3, 64, 600, 1100])
def test_unit_rows_are_of_length_one_and_zeros_stay(width):
    # Entries of about one size fill the grid most.
    vectors = np.random.default_rng(width).uniform(0.97, 1, (40, width)).astype(np.float32)
    vectors[7] = 0
    rows = unit_rows(vectors)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    assert lengths[7] == 0
    np.testing.assert_allclose(np.delete(lengths, 7), 1, atol=1e-5)
    # Any order of the terms gives one sum: the grid leaves nothing to round.
    x = rows.astype(np.float64)
    products = x[0] * x[1:]
    forward, backward = np.cumsum(products, axis=1), np.cumsum(products[:, ::-1], axis=1)
    assert forward[:, -1].tobytes() == backward[:, -1].tobytes()


# ---------------------------------------------------------------- ids


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = interactions(two_tastes())
    out = tmp_path_factory.mktemp("m") / "als"
    fitted = create("als", OPTIONS["als"]).fit(data)
    recae.save(fitted, out, data=data)
    return out


def test_the_service_answers_in_ids(saved):
    service = recae.load(saved)
    answer = service.similar("i4", k=5)
    top = NearestItems(service.bundle.model).nearest(np.array([4]), k=5)
    assert [i.item for i in answer.items] == [f"i{i}" for i in top.items[0]]
    assert [i.score for i in answer.items] == top.scores[0].tolist()
    assert [i.rank for i in answer.items] == [1, 2, 3, 4, 5]
    assert (answer.item, answer.complete, answer.warnings) == ("i4", True, ())
    assert (answer.model_name, answer.model_version) == ("als", service.version)


def test_the_service_follows_the_rules_and_says_what_it_cannot(saved):
    service = recae.load(saved)
    answer = service.similar("i4", k=9, candidates=["i4", "i6", "i8", "no"], exclude=["i8", "nor"])
    assert [i.item for i in answer.items] == ["i6"]
    assert not answer.complete
    assert answer.warnings == (
        "1 of 2 ids of exclude are not known: 'nor'",
        "1 of 4 ids of candidates are not known: 'no'",
    )
    everything = service.similar("i4", k=1000)
    assert len(everything.items) == N_ITEMS - 1
    assert not everything.complete
    with pytest.raises(UnknownIdError, match="item 'I4' is not known, 30 items are; did you mean"):
        service.similar("I4")
    with pytest.raises(ConfigError, match="k is 0; whole numbers from 1"):
        service.similar("i4", k=0)
    with pytest.raises(ConfigError, match="exclude is the text 'i1'"):
        service.similar("i4", exclude="i1")


def run(capfd, *arguments):
    capfd.readouterr()
    code = run_command([str(a) for a in arguments], debug=False)
    return code, *capfd.readouterr()


def test_the_command_lists_the_same(saved, capfd, tmp_path):
    answer = recae.load(saved).similar("i4", k=3)
    code, out, err = run(capfd, "similar", saved, "i4", "-k", 3, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [
        {"item_id": i.item, "rank": i.rank, "score": i.score, "title": i.title}
        for i in answer.items
    ]
    (tmp_path / "only.txt").write_text("i6\r\ni8\n\nno\n")
    code, out, err = run(capfd, "similar", saved, "i4", "--candidates", tmp_path / "only.txt")
    assert code == 0
    assert sorted(line.split()[2] for line in out.splitlines()) == ["i6", "i8"]
    assert err == "note: 1 of 3 ids of candidates are not known: 'no'\n"


def test_the_table_of_all_items_holds_the_same_lists(saved, capfd, tmp_path):
    service = recae.load(saved)
    expected = [
        (f"i{item}", place.item, np.float32(place.score), place.rank)
        for item in range(N_ITEMS)
        for place in service.similar(f"i{item}", k=4).items
    ]
    code, out, err = run(capfd, "similar", saved, "--all", "-k", 4, "-o", tmp_path / "a.csv")
    assert (code, err) == (0, "")
    assert "30 items, 120 rows, 0 lists shorter than 4" in out
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert list(rows[0]) == ["target_item_id", "item_id", "score", "rank"]
    assert [
        (r["target_item_id"], r["item_id"], np.float32(r["score"]), int(r["rank"])) for r in rows
    ] == expected
    assert run(capfd, "similar", saved, "--all", "-k", 4)[1] == (tmp_path / "a.csv").read_text()
    assert run(capfd, "similar", saved, "--all", "-k", 4, "-o", tmp_path / "a.parquet")[0] == 0
    table = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [tuple(row.values()) for row in table] == expected
    assert run(capfd, "similar", saved, "--all", "-k", 4, "-o", tmp_path / "a.jsonl")[0] == 0
    first = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])
    assert first["target_item_id"] == "i0"
    assert [i["item_id"] for i in first["items"]] == [row[1] for row in expected[:4]]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "give either ITEM or --all"),
        (["i4", "--all"], 2, "give either ITEM or --all"),
        (["i4", "-o", "x.csv"], 2, "-o and --format belong to --all"),
        (["--all", "--exclude", "x"], 2, "--candidates and --exclude belong to one ITEM"),
        (["--all", "--format", "parquet"], 2, "Parquet does not go to stdout"),
        (["nothing"], 3, "item 'nothing' is not known"),
    ],
)
def test_the_command_refuses_with_one_line(saved, capfd, arguments, code, said):
    found, out, err = run(capfd, "similar", saved, *arguments)
    assert (found, out) == (code, "")
    assert err.startswith("recae: error: ")
    assert said in err
    assert err.count("\n") == 1


def test_the_command_refuses_a_model_without_neighbours(capfd, tmp_path):
    data = interactions(two_tastes())
    recae.save(create("popular").fit(data), tmp_path / "p", data=data)
    for arguments in (["i4"], ["--all", "-o", tmp_path / "x.csv"]):
        code, out, err = run(capfd, "similar", tmp_path / "p", *arguments)
        assert (code, out) == (2, "")
        assert "the popular model has neither item vectors nor item-item weights" in err
    assert not (tmp_path / "x.csv").exists()


# ---------------------------------------------------------------- HTTP


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    directory = tmp_path_factory.mktemp("api") / "films"
    save_films(directory)
    return recae.load(directory)


def test_http_answers_as_the_service(films):
    client = create_app(films).test_client()
    response = client.get("/v1/items/m1/similar")
    answer = films.similar("m1")
    assert response.status_code == 200
    assert response.json == {
        "item": "m1",
        "title": "Film m1",
        "model": {"name": "ease", "version": films.version},
        "complete": True,
        "items": [
            {"item": i.item, "rank": i.rank, "score": i.score, "title": i.title}
            for i in answer.items
        ],
        "warnings": [],
    }
    asked = {"k": 4, "exclude": ["m3"], "candidates": ["m2", "m3", "m4", "no"]}
    response = client.get("/v1/items/m1/similar", query_string=asked)
    assert {i["item"] for i in response.json["items"]} == {"m2", "m4"}
    assert response.json["complete"] is False
    assert response.json["warnings"] == ["1 of 4 ids of candidates are not known: 'no'"]


@pytest.mark.parametrize("id_", ODD_IDS)
def test_item_ids_in_a_path_are_exact(films, id_):
    client = create_app(films).test_client()
    response = client.get(f"/v1/items/{quote(id_, safe='')}/similar?k=3")
    assert response.status_code == 200
    assert response.json["item"] == id_
    assert [i["item"] for i in response.json["items"]] == [
        i.item for i in films.similar(id_, k=3).items
    ]


def test_an_item_id_may_hold_slashes(tmp_path):
    data = interactions([[0, 1], [1, 2]], n_items=3)
    slashed = dataclasses.replace(data, items=IdMap(["a/b", "a/b/similar", "c"]))
    recae.save(create("ease").fit(slashed), tmp_path / "m", data=slashed)
    client = create_app(recae.load(tmp_path / "m")).test_client()
    for id_ in ("a/b", "a/b/similar"):
        for path in (id_, quote(id_, safe="")):
            assert client.get(f"/v1/items/{path}/similar").json["item"] == id_


def test_http_refuses_a_model_without_neighbours(tmp_path):
    data = interactions(two_tastes())
    recae.save(create("popular").fit(data), tmp_path / "p", data=data)
    response = create_app(recae.load(tmp_path / "p")).test_client().get("/v1/items/i4/similar")
    assert response.status_code == 404
    assert response.json["type"] == "/docs#not-found"
    assert response.json["detail"].startswith("the popular model has neither item vectors")
