"""People of a file in the items of a model: which, with what, and in how much memory."""

import gc
import tracemalloc
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import recae
from recae.cli import people
from recae.serving import Bundle, load_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model that knows the items ``i0`` to ``i299``, in no order."""
    places = np.random.default_rng(0).permutation(300)
    items = [f"i{place}" for place in places]
    data = recae.read_interactions(pd.DataFrame({"user": ["u"] * 300, "item": items}))
    directory = tmp_path_factory.mktemp("models") / "popular"
    recae.save(recae.Popularity().fit(data), directory, data=data)
    return load_bundle(directory)


def table_of(n_people: int, rows: int, n_items: int) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    items = [rng.choice(n_items, rows, replace=False) for _ in range(n_people)]
    return pd.DataFrame(
        {
            "user": np.repeat([f"u{person}" for person in range(n_people)], rows),
            "item": [f"i{item}" for item in np.concatenate(items)],
        }
    )


@pytest.mark.parametrize("n_items", [300, 600, 6000])
def test_everybody_has_the_items_of_the_file_that_the_model_knows(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], n_items: int
) -> None:
    table = table_of(50, 6, n_items)
    table.to_csv(tmp_path / "people.csv", index=False)
    found = people.people_of(bundle, str(tmp_path / "people.csv"), {})
    known = set(bundle.items.ids_at(range(300)))
    wanted = {
        user: sorted(set(rows["item"]) & known)
        for user, rows in table.groupby("user", sort=False)
    }  # fmt: skip
    assert found.ids.ids_at(range(len(found.ids))) == [u for u in wanted if wanted[u]]
    strangers = [u for u in wanted if not wanted[u]]
    assert (found.left_out.count, found.left_out.first) == (len(strangers), strangers[:5])
    assert bool(strangers) == (n_items == 6000) == ("have no item" in capsys.readouterr().err)
    matrix = found.histories.matrix
    for row, user in enumerate(found.ids.ids_at(range(len(found.ids)))):
        columns = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
        assert (np.diff(columns) > 0).all()
        assert sorted(bundle.items.ids_at(columns)) == wanted[user]
    assert (matrix.data == 1).all()
    assert matrix.shape == (len(found.ids), 300)


def test_people_are_held_about_as_often_as_reading_them_takes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table_of(10_000, 20, 300).to_parquet(tmp_path / "people.parquet")
    real, reading = people.read, []

    def read(*arguments):
        data = real(*arguments)
        reading.extend([tracemalloc.get_traced_memory()[0], data.matrix.nnz])
        tracemalloc.reset_peak()
        return data

    monkeypatch.setattr(people, "read", read)
    gc.collect()
    tracemalloc.start()
    try:
        people.people_of(bundle, str(tmp_path / "people.parquet"), {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    held, rows = reading
    assert rows == 200_000
    # Columns, values and a mask are 13 bytes a row, what only reading needs gives up 8 of them;
    # the same by way of smaller Interactions takes 51 more than the reading leaves.
    assert peak - held < 20 * rows


def test_a_reading_leaves_no_cycle_that_holds_what_its_caller_has(tmp_path: Path) -> None:
    class Held:
        """Something that the caller has."""

    def caller() -> weakref.ref[Held]:
        held = Held()
        recae.read_interactions(tmp_path / "people.csv")
        return weakref.ref(held)

    table_of(5, 2, 9).to_csv(tmp_path / "people.csv", index=False)
    gc.collect()
    gc.disable()
    try:
        assert caller()() is None
    finally:
        gc.enable()
