"""Validation part and test part side by side."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.protocols import split
from recae.data.split import HeldOut
from recae.data.synthetic import Synthetic
from recae.evaluation.evaluator import evaluate
from recae.evaluation.parts import HeldOutParts, Part, held_out_parts
from recae.experiment.compare import compare
from recae.experiment.config import RunConfig
from recae.experiment.report import html, markdown
from recae.experiment.tune import prepare
from recae.models.popular import Popularity
from tests.frames import interactions_from


def matrix(rows: list[list[int]]) -> csr_array:
    return csr_array(np.array(rows, dtype=np.float32))


def test_counts_are_of_the_users_who_have_a_target() -> None:
    """Item w has half of the training interactions, so it is the head; z is the tail."""
    train = interactions_from(pd.DataFrame({"user": list("pqrspqrs"), "item": list("wwwwxxyz")}))
    held_out = HeldOut(
        fold_in=Histories(matrix([[1, 1, 1, 0], [0, 0, 1, 0], [1, 1, 1, 1]])),
        target=matrix([[0, 0, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0]]),
        users=IdMap(["a", "b", "c"]),
    )
    found = held_out_parts(train, None, held_out)
    assert found.validation is None
    assert found.test is not None
    assert (found.test.users, found.test.targets) == (2, 4)
    assert found.test.history == pytest.approx((1.2, 2.0, 2.8))  # of 1 and 3 items
    assert found.test.targets_each == pytest.approx((1.2, 2.0, 2.8))
    assert found.rows()[1:] == [["test", "2", "4", "2 (1 to 3)", "2 (1 to 3)", "25%", "25%", "50%"]]
    told = json.loads(json.dumps(found.to_json()))
    assert told["validation"] is None
    assert told["test"]["popularity"] == {"head": 0.25, "middle": 0.25, "tail": 0.5}


def test_a_part_without_targets_has_no_quantiles() -> None:
    train = interactions_from(pd.DataFrame({"user": ["p", "q"], "item": ["x", "y"]}))
    empty = HeldOut(
        fold_in=Histories(matrix([[1, 0]])), target=matrix([[0, 0]]), users=IdMap(["a"])
    )
    part = held_out_parts(train, empty, None).validation
    assert part == Part(users=0, targets=0, history=(), targets_each=(), popularity=(0.0, 0.0, 0.0))
    assert " ".join(HeldOutParts(part, None).rows()[1]) == "validation 0 0 - - 0% 0% 0%"


def test_tuning_comparisons_and_reports_show_both_parts() -> None:
    data = Synthetic(n_users=120, n_items=40).interactions()
    config = RunConfig(protocol="random", metrics=("ndcg@10",))
    made = split(data, "random")
    table = compare(["popular"], made, config=config, metrics=config.metrics)
    told = json.loads(json.dumps(table.to_json()))["parts"]
    assert told == json.loads(json.dumps(prepare(data, config).parts.to_json()))
    judged = evaluate(Popularity().fit(made.train), made.test)
    assert told["test"]["users"] == judged["ndcg@100"].n
    assert told["validation"]["targets"] == made.validation.target.nnz
    rows = table.parts().rows()
    assert [row[0] for row in rows] == ["part", "validation", "test"]
    assert "| " + " | ".join(rows[2]) + " |" in markdown(table)
    page = html(table)
    for cell in rows[2]:
        assert f">{cell}</t" in page
