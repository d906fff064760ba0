"""No evidence, no place in a list: a score of 0 that nothing was added to is no recommendation."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

import recae
from recae.cli.main import run as run_command
from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.models.registry import create
from recae.ranking.recommender import Recommender
from recae.ranking.scorers import LinearTable, SparseScorer, SparseTable, SumScorer
from recae.ranking.topk import TopK

FROM_THE_HISTORY = {
    "ease": {"l2": 1.0},
    "edlae": {"l2": 1.0},
    "item-knn": {},
    "gf-cf": {"n_vectors": 2},
    "als": {"factors": 4, "regularization": 0.1},
}
FOR_EVERYBODY = {"popular": {}, "bpr": {"factors": 2, "iterations": 2}, "mult-dae": {"epochs": 1}}


def two_worlds() -> Interactions:
    """Cooks and gardeners who have nothing in common; two of each have a rare item."""
    rows = [(f"cook{n}", f"pan{i}") for n in range(12) for i in range(6) if (n + i) % 3]
    rows += [(f"gardener{n}", f"bulb{i}") for n in range(12) for i in range(6) if (n + i) % 4]
    rows += [("cook0", "rare"), ("cook1", "rare")]
    return recae.read_interactions(pd.DataFrame(rows, columns=["user", "item"]))


@pytest.fixture(scope="module")
def data() -> Interactions:
    return two_worlds()


@pytest.fixture(scope="module")
def models(data: Interactions) -> dict[str, Recommender]:
    return {
        name: create(name, options).fit(data)
        for name, options in (FROM_THE_HISTORY | FOR_EVERYBODY).items()
    }


def lists(model: Recommender, *histories: list[int], k: int = 99) -> list[list[int]]:
    asked = Histories.from_lists(histories, n_items=model.n_items)
    top: TopK = model.recommend(asked, k=k)
    return [row[row >= 0].tolist() for row in top.items]


@pytest.mark.parametrize("name", FROM_THE_HISTORY)
def test_an_empty_history_speaks_for_nothing(name: str, models: dict[str, Recommender]) -> None:
    empty, other = lists(models[name], [], [0])
    assert empty == []
    assert other


@pytest.mark.parametrize("name", FOR_EVERYBODY)
def test_models_that_know_what_everybody_likes_answer_it(
    name: str, models: dict[str, Recommender]
) -> None:
    assert len(lists(models[name], [])[0]) == models[name].n_items


@pytest.mark.parametrize("name", ["ease", "edlae", "item-knn"])
def test_items_of_another_world_are_not_listed(
    name: str, data: Interactions, models: dict[str, Recommender]
) -> None:
    pan = int(data.items.indices_of(["pan0"])[0])
    alone, beside = lists(models[name], [pan], list(range(data.n_items - 1)))
    assert alone
    assert all(not id_.startswith("bulb") for id_ in data.items.ids_at(alone))
    assert len(beside) == 1  # with something of both worlds, everything has evidence
    assert lists(models[name], [], [pan])[1] == alone  # whoever asks beside


def test_a_sum_of_weights_that_cancels_is_evidence() -> None:
    table = np.zeros((4, 4), dtype=np.float32)
    table[0, 2], table[1, 2], table[0, 3] = 0.5, -0.5, 1.0
    histories = Histories.from_lists([[0, 1], [0], [1]], n_items=4)
    scorer = SparseScorer(SparseTable(csr_array(table)), histories)
    next(scorer.blocks())
    lacking = scorer.lacking()
    assert lacking is not None
    assert (~lacking).numpy().tolist() == [
        [False, False, True, True],
        [False, False, True, True],
        [False, False, True, False],
    ]


def test_a_sum_lacks_what_all_of_its_parts_lack() -> None:
    table = SparseTable(csr_array(np.eye(3, k=1, dtype=np.float32)))
    histories = Histories.from_lists([[0], []], n_items=3)
    sparse = SparseScorer(table, histories)
    codes = np.array([[0.0, 0.0], [0.0, 0.0]])
    for bias, expected in ((None, [[True, False, True], [True] * 3]), (np.zeros(3), None)):
        bias = None if bias is None else bias.astype(np.float32)
        items = np.ones((3, 2), dtype=np.float32)
        both = SumScorer([sparse, LinearTable.of(items, bias).scorer(codes)])
        list(both.blocks())
        lacking = both.lacking()
        assert (None if lacking is None else lacking.tolist()) == expected


@pytest.fixture(scope="module")
def stored(data: Interactions, models: dict[str, Recommender], tmp_path_factory) -> Path:  # type: ignore[no-untyped-def]
    folder: Path = tmp_path_factory.mktemp("evidence")
    for name in ("item-knn", "ease", "popular"):
        recae.save(models[name], folder / name, data=data)
    return folder


def test_a_service_says_why_a_list_is_short(stored: Path) -> None:
    films = recae.load(stored / "item-knn")
    answer = films.recommend(history=["rare"], k=9)
    assert 0 < len(answer.items) < 9
    assert not answer.complete
    n = len(answer.items)
    assert answer.warnings == (
        f"{n} of 9 places are filled: 12 of 13 items are eligible, and nothing in the history"
        f" speaks for {12 - n} others",
    )
    empty = films.recommend(history=[], k=3)
    assert (empty.items, empty.complete) == ((), False)
    assert "nothing in the history speaks for 13 others" in empty.warnings[-1]


def test_the_fallback_fills_it(stored: Path) -> None:
    films = recae.load(stored / "item-knn")
    short = films.recommend(history=["rare"], k=9)
    filled = films.recommend(history=["rare"], k=9, fallback="popular")
    assert filled.complete
    assert filled.items[: len(short.items)] == short.items
    more = filled.items[len(short.items) :]
    assert {item.score for item in more} == {0.0}
    assert "rare" not in {item.item for item in filled.items}
    popularity = dict(zip(films.bundle.items, films.bundle.popularity.tolist(), strict=True))
    counts = [popularity[item.item] for item in more]
    assert counts == sorted(counts, reverse=True)
    assert f"the last {len(more)} places, with score 0, are" in filled.warnings[-1]
    assert films.recommend(history=[], k=3, fallback="popular").source == "popularity"


def test_who_has_everything_gets_an_empty_list_and_a_reason(
    stored: Path, data: Interactions, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = data.items.ids_at(range(data.n_items))
    for name in ("item-knn", "ease", "popular"):
        answer = recae.load(stored / name).recommend(history=everything, fallback="popular")
        assert answer.items == ()
        assert answer.warnings == ("0 of 10 places are filled: 0 of 13 items are eligible",)
    histories = [part for item in everything for part in ("--history", item)]
    assert run_command(["recommend", str(stored / "ease"), *histories], debug=False) == 0
    assert "0 of 13 items are eligible" in capsys.readouterr().err


def test_files_hold_no_more_than_a_service_lists(stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "lists.csv"
    arguments = [
        "recommend",
        str(stored / "item-knn"),
        "--users",
        "all",
        "-k",
        "13",
        "-o",
        str(out),
    ]
    assert run_command(arguments, debug=False) == 0
    written = pd.read_csv(out)
    films = recae.load(stored / "item-knn")
    for user in ("cook0", "gardener3"):
        listed = [item.item for item in films.recommend(user=user, k=13).items]
        assert written.item_id[written.user_id == user].tolist() == listed
    assert not written.item_id[written.user_id == "cook0"].str.startswith("bulb").any()
