"""What callers give: iterators are gone through once, and one text is not several."""

import numpy as np
import pytest

import recae
from recae.errors import ConfigError
from recae.evaluation import compare_reports
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
        (lambda: recae.IdMap("m1"), "ids is the text 'm1'; a list of texts is accepted"),
    ):
        with pytest.raises(ConfigError, match=said):
            ask()
