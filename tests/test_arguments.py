"""What callers give: iterators are gone through once, and one text is not several."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import recae
from recae.errors import ConfigError, DataError
from recae.evaluation.significance import compare_reports
from recae.serving import RecommendationService, Request
from tests.model_directories import save

METRICS = ["recall@5", "ndcg@5"]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> RecommendationService:
    directory = tmp_path_factory.mktemp("models") / "films"
    save(directory)
    return RecommendationService.open(directory)


@pytest.fixture(scope="module")
def parts() -> recae.Split:
    return recae.split(recae.sample(), rng=0)


@pytest.mark.parametrize(
    "asked", [{"history": ["m1", "x"]}, {"exclude": ["m2", "x"]}, {"candidates": ["m2", "m5"]}]
)
def test_iterators_of_ids_give_the_list_of_a_list(films, asked: dict[str, list[str]]) -> None:
    asking = {} if "history" in asked else {"user": "u1"}
    once = {name: iter(ids) for name, ids in asked.items()}
    expected = films.recommend(**asking, **asked, k=6)
    assert films.recommend(**asking, **once, k=6) == expected
    assert expected != films.recommend(user="u1", k=6)


def test_iterators_of_ids_are_looked_at_once_everywhere(films) -> None:
    assert films.similar("m1", exclude=iter(["m2"])) == films.similar("m1", exclude=["m2"])
    assert films.explain("m5", history=iter(["m1"])) == films.explain("m5", history=["m1"])
    assert list(films.recommend_all(iter(["u1"]))) == list(films.recommend_all(["u1"]))
    requests = [Request(user="u1"), Request(user="Ann")]
    assert films.recommend_many(iter(requests)) == films.recommend_many(requests)
    assert films.answer_many(iter(requests)) == films.answer_many(requests)
    assert films.bundle.items.indices_of(iter(["m2"])) == films.bundle.items.indices_of(["m2"])
    known, unknown = films.bundle.items.split_known(iter(["m2", "x"]))
    assert (known.tolist(), unknown) == (films.bundle.items.indices_of(["m2"]).tolist(), ["x"])


def test_iterators_of_names_and_models_are_looked_at_once(parts: recae.Split) -> None:
    model = recae.Popularity().fit(parts.train)
    listed = recae.evaluate(model, parts.test, metrics=METRICS, by=["history"])
    once = recae.evaluate(model, parts.test, metrics=iter(METRICS), by=iter(["history"]))
    assert once.to_json() == listed.to_json()
    table = recae.compare(iter(["popular"]), parts, metrics=METRICS)
    assert table.names() == ["popular"]
    found = compare_reports({"a": listed, "b": once}, metrics=iter(METRICS))
    assert [d.metric for d in found.differences] == METRICS
    histories = parts.test.fold_in
    for name in ("candidates", "exclude"):
        expected = model.recommend(histories, k=3, **{name: [0, 2]})
        found = model.recommend(histories, k=3, **{name: iter([0, 2])})
        assert np.array_equal(found.items, expected.items)


def test_one_text_where_several_are_meant_is_refused(parts: recae.Split) -> None:
    model = recae.Popularity().fit(parts.train)
    for ask, said in (
        (lambda: recae.compare("popular", parts), "models is the text 'popular'; a list of models"),
        (lambda: recae.evaluate(model, parts.test, metrics="ndcg@10"), "metrics is the text"),
        (lambda: recae.evaluate(model, parts.test, by="history"), "by is the text 'history'"),
        (lambda: recae.IdMap("m1"), "ids is the text 'm1'; a list of ids is accepted"),
    ):
        with pytest.raises(ConfigError, match=said):
            ask()


# ---------------------------------------------------------------- what is of another kind

_OTHER_KINDS = """
import pandas as pd
import recae
from recae.errors import RecaeError

data = recae.sample()
split = recae.split(data, rng=0)
model = recae.Popularity().fit(split.train)
frame = pd.DataFrame({"user": ["u"], "item": ["i"]})
for ask in (
    lambda: recae.read_interactions({"user": ["u"]}),
    lambda: recae.read_interactions(None),
    lambda: recae.read_interactions(frame, items={"item": ["i"]}),
    lambda: recae.read_interactions(frame, rejects=5),
    lambda: recae.split(frame),
    lambda: recae.EASE().fit(frame),
    lambda: recae.EASE().fit(split.train, validation=5),
    lambda: recae.evaluate("popular", split.test),
    lambda: recae.evaluate(model, split.train),
    lambda: recae.evaluate(model, split.test, metrics=5),
    lambda: recae.evaluate(model, split.test, metrics=[5]),
    lambda: recae.compare([5], split),
    lambda: recae.compare([recae.EASE], split),
    lambda: recae.compare(5, split),
    lambda: recae.compare(["popular"], data),
    lambda: recae.compare(["popular"], split, seeds=2.5),
    lambda: recae.compare(["popular"], split, seeds="3"),
    lambda: model.recommend([[1, 2]], k=3),
    lambda: model.recommend(split.test.fold_in, k=3, candidates=5),
    lambda: recae.save("popular", "nowhere", data=data),
    lambda: recae.save(model, "nowhere", data=frame),
    lambda: recae.save(model, "nowhere", data=data, split=split.train),
    lambda: recae.IdMap(5),
):
    try:
        ask()
    except RecaeError as error:
        print(error)
    else:
        print("accepted")
"""


def test_what_is_of_another_kind_is_named() -> None:
    done = subprocess.run(  # here annotations are checked first, which users' processes do not
        [sys.executable, "-c", _OTHER_KINDS],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    table = "accepted: a path, a DataFrame, a table of Arrow data"
    interactions = (
        "accepted: Interactions, as read_interactions returns, or a sparse matrix of people x items"
    )
    histories = (
        "accepted: Histories, a matrix of people x items, or a row of one; for lists of item"
        " indices Histories.from_lists(lists, n_items=...)"
    )
    assert done.stdout.splitlines() == [
        f"source is of type dict; {table}",
        f"source is of type NoneType; {table}",
        f"items is of type dict; {table}",
        "rejects is of type int; accepted: the path of a file",
        f"data is of type DataFrame; {interactions}",
        f"train is of type DataFrame; {interactions}",
        "validation is of type int; accepted: HeldOut, such as split.validation",
        "model is of type str; accepted: a fitted model",
        "held_out is of type Interactions; accepted: HeldOut, such as split.test",
        "metrics is of type int; a list of names is accepted",
        "a metric is of type int; accepted: a name such as ndcg@10, a function of (ranked,"
        " targets)",
        "a model is of type int; accepted: a model or its name",
        "a model is the class EASE; accepted: a model, EASE(), or its name",
        "models is of type int; a list of models is accepted",
        "split is of type Interactions; accepted: a Split, as recae.split returns",
        "seeds is of type float; a list of whole numbers is accepted",
        "seeds is the text '3'; a list of whole numbers is accepted",
        f"histories is of type list; {histories}",
        "candidates is of type int; a list of indices is accepted",
        "model is of type str; accepted: a fitted model",
        f"data is of type DataFrame; {interactions}",
        "split is of type Interactions; accepted: a Split, as recae.split returns",
        "ids is of type int; a list of ids is accepted",
    ]


class _Streamed:
    """A table of another library, which knows the Arrow interface only."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("text", [pa.string(), pa.large_string(), pa.string_view()])
@pytest.mark.parametrize("kind", [lambda table: table, _Streamed], ids=["pyarrow", "other"])
def test_tables_of_arrow_data_are_read_like_frames(kind, text: pa.DataType) -> None:
    table = pa.table(
        {
            "user": pa.array(["b", "a", None, "a"]).cast(text),
            "item": pa.array([3, 1, 1, 3]),
            "rating": pa.array([5.0, 4.0, 1.0, 3.5]),
        }
    )
    several_chunks = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    options = {"min_rating": 3.6, "max_bad_rows": 1}
    read = recae.read_interactions(kind(several_chunks), **options)
    expected = recae.read_interactions(table.to_pandas(), **options)
    assert read.fingerprint() == expected.fingerprint()
    assert read.report is not None
    assert expected.report is not None
    assert read.report.rows_dropped == expected.report.rows_dropped
    assert (read.users.ids_at([0, 1]), read.items.ids_at([0, 1])) == (["b", "a"], ["3", "1"])


def test_a_stream_that_is_no_table_is_refused() -> None:
    class Column:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return pa.chunked_array([[1, 2]]).__arrow_c_stream__(requested_schema)

    with pytest.raises(DataError, match="Column is no readable table"):
        recae.read_interactions(Column())
