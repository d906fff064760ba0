"""`compare` from Python: metrics of the caller, seeds by name, and what it returns."""

from typing import Any

import numpy as np
import pytest

import recae
from recae.data.interactions import Interactions
from recae.errors import ConfigError
from recae.experiment.config import RunConfig
from recae.experiment.report import markdown

METRICS = ["ndcg@10", "novelty@5"]


def first_hit(ranked: np.ndarray, targets: np.ndarray) -> float:
    """Whether the first item is a hit."""
    return float(np.isin(ranked[:1], targets).any())


@pytest.fixture(scope="module")
def split() -> recae.Split:
    data = recae.sample()
    return recae.split(data.take_users(np.arange(400)), rng=0)


def test_a_function_beside_names_is_compared_and_told(split: recae.Split) -> None:
    table = recae.compare(
        ["popular", "random"], split, metrics=[first_hit, "hit@1", "coverage@5"],
        require_beat="random",
    )  # fmt: skip
    assert table.metrics == ("first_hit", "hit@1", "coverage@5")
    assert table.names() == ["popular", "random"]
    for entry in table.entries:
        assert entry.summary("first_hit") == entry.summary("hit@1")
    assert table.differences().differences[0].metric == "first_hit"
    definition = "Whether the first item is a hit (of the first 100 items)"
    assert table.to_json()["definitions"]["first_hit"] == definition  # type: ignore[index]  # JSON
    assert f"- `first_hit`: {definition}" in markdown(table)
    with pytest.raises(ConfigError, match="no model 'ease' is compared"):
        recae.compare(["popular"], split, metrics=[first_hit], require_beat="ease")


def test_seeds_are_so_many_or_these(split: recae.Split) -> None:
    config = RunConfig(seed=3)
    counted = recae.compare(["random"], split, metrics=METRICS, config=config, seeds=2)["random"]
    named = recae.compare(["random"], split, metrics=METRICS, seeds=iter([3, np.int64(4)]))
    assert named["random"].summary("ndcg@10") == counted.summary("ndcg@10")
    assert named["random"].summary("ndcg@10")["seeds"] == 2


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1], [True], True, 0])
def test_other_seeds_are_refused(split: recae.Split, seeds: Any) -> None:
    with pytest.raises(ConfigError, match="seeds is "):
        recae.compare(["random"], split, metrics=METRICS, seeds=seeds)


def test_a_comparison_is_a_frame_a_line_and_html(split: recae.Split) -> None:
    table = recae.compare(["popular", "random"], split, metrics=METRICS, seeds=2)
    frame = table.to_frame()
    assert frame["model"].tolist() == ["popular", "popular", "random", "random"]
    assert frame["metric"].tolist() == METRICS * 2
    for row in frame.itertuples():
        of = table[row.model].summary(row.metric)
        assert (row.mean, row.se, row.n) == (of["mean"], of["se"], of["n"])
        assert row.seeds == (2 if row.model == "random" else 1)
        assert np.isnan(row.seed_sd) == (row.model == "popular")
    assert repr(table).startswith("Compared(2 models on 40 test users by ndcg@10: popular 0.")
    assert len(repr(table)) < 600
    page = table._repr_html_()
    assert page.count("<tr>") == 3
    assert '<td style="text-align:left">popular</td>' in page


def test_interactions_are_a_frame_that_can_be_read(split: recae.Split) -> None:
    data = recae.sample()
    frame = data.to_frame()
    assert list(frame.columns) == ["user_id", "item_id", "value", "time", "title"]
    assert data.titles() is not None
    assert frame["title"].nunique() == data.n_items
    again = recae.read_interactions(frame)
    assert again.fingerprint() == data.fingerprint()
    plain = Interactions(data.matrix, data.users, data.items, data.order)
    assert list(plain.to_frame().columns) == ["user_id", "item_id", "value"]
