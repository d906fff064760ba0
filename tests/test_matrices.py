"""Matrices of scipy and NumPy where interactions and histories are meant."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sp

import recae
from recae.errors import DataError

COUNTS = np.random.default_rng(0).poisson(0.4, (30, 12))
KINDS: dict[str, Callable[[Any], Any]] = {
    "csr_array": sp.csr_array,
    "csr_matrix": sp.csr_matrix,
    "coo_array": sp.coo_array,
    "csc_matrix": sp.csc_matrix,
    "lil_array": sp.lil_array,
    "dok_matrix": sp.dok_matrix,
    "bool": lambda x: sp.csr_matrix(x > 0),
    "dense": np.asarray,
}


def model() -> recae.EASE:
    return recae.EASE(l2=1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_is_fitted_and_asked_for(kind: str) -> None:
    rows, columns = np.nonzero(COUNTS)
    frame = pd.DataFrame({"user": rows, "item": columns})
    data = recae.read_interactions(frame)
    usual = model().fit(data).recommend(data.histories(), k=3)
    x = KINDS[kind](COUNTS)
    fitted = model().fit(x)
    assert fitted.n_items == COUNTS.shape[1]
    top = fitted.recommend(x, k=3)
    for row, user in enumerate(data.users.ids_at(range(data.n_users))):
        assert top.items[int(user)].astype(str).tolist() == data.items.ids_at(usual.items[row])


def test_one_dense_row_is_one_person() -> None:
    fitted = model().fit(COUNTS)
    asked = sp.csr_array(COUNTS)
    expected = fitted.recommend(asked, k=3).items[[4]]
    for row in (COUNTS[4], COUNTS[4].astype(np.float32), sp.coo_array(COUNTS[4])):
        assert fitted.recommend(row, k=3).items.tolist() == expected.tolist()
    ((rows, top),) = fitted.recommend_batches(COUNTS[4], k=3)
    assert (rows, top.items.tolist()) == (slice(0, 1), expected.tolist())


def test_a_matrix_goes_the_whole_way(tmp_path: Path) -> None:
    x = sp.csr_matrix(COUNTS)
    split = recae.split(x, rng=0)
    table = recae.compare(["popular", model()], split, metrics=["recall@3"])
    assert len(table.entries) == 2
    fitted = model().fit(x)
    recae.save(fitted, tmp_path / "m", data=x)
    answer = recae.load(tmp_path / "m").recommend(user=4, k=3)
    top = fitted.recommend(x[4], k=3)
    assert [item.item for item in answer.items] == top.items[0].astype(str).tolist()


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.array([["a", "b"]]), "holds values of type <U1; numbers are accepted"),
        (np.array([[1j]]), "holds values of type complex128; numbers are accepted"),
        (np.zeros((2, 2, 2)), "has 3 dimensions; people x items are accepted"),
        (np.array([[1.0, np.nan]]), "not finite"),
        (sp.csr_array([[1.0, -1.0]]), "holds -1; values above 0, and 0 for no interaction"),
    ],
)
def test_what_is_no_matrix_of_interactions_is_refused(x: Any, said: str) -> None:
    for ask in (
        lambda: recae.Popularity().fit(x),
        lambda: recae.split(x),
        lambda: recae.Popularity().fit(np.ones((2, 2))).recommend(x, k=1),
    ):
        with pytest.raises(DataError, match=said):
            ask()


def test_a_matrix_of_other_items_is_refused() -> None:
    fitted = model().fit(COUNTS)
    with pytest.raises(DataError, match="histories have 2 columns; this model knows 12 items"):
        fitted.recommend(np.array([3, 7]), k=2)


# ---------------------------------------------------------------- tables of items


FRAME = pd.DataFrame({"user": [1, 1, 2], "item": [260, 7, 260]})


@pytest.mark.parametrize("kind", [lambda f: f, pa.Table.from_pandas, lambda f: f.set_index("year")])
def test_items_may_be_a_frame(kind: Any, tmp_path: Path) -> None:
    films = pd.DataFrame(
        {"movieId": [7, 260, 1], "title": ["Se7en", "Star Wars", "?"], "year": [1, 2, 3]}
    )
    data = recae.read_interactions(FRAME, items=kind(films))
    assert data.titles() == ["Star Wars", "Se7en"]
    assert data.report is not None
    assert any("2 of 2 items are in the" in notice for notice in data.report.notices)
    recae.save(model().fit(data), tmp_path / "m", data=data)
    listed = recae.load(tmp_path / "m").recommend(user=2).items
    assert [item.title for item in listed] == ["Se7en"]


def test_a_frame_of_items_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="the DataFrame of items: no column for the item among"):
        recae.read_interactions(FRAME, items=pd.DataFrame({"film": [1]}))
    with pytest.raises(DataError, match="the DataFrame of items has a column of several types"):
        recae.read_interactions(FRAME, items=pd.DataFrame({"item": [1], "x": [[1, "a"]]}))
