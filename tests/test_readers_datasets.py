"""Real data sets, against what their publishers count and against pandas."""

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recae.data.readers import read_interactions
from recae.errors import DataError

pytestmark = pytest.mark.datasets


@pytest.fixture
def datasets() -> Path:
    folder = os.environ.get("RECAE_DATASETS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("RECAE_DATASETS names no folder")
    return Path(folder)


def test_movielens_csv_equals_pandas(datasets: Path) -> None:
    path = datasets / "ml-latest-small/raw/ratings.csv"
    data = read_interactions(path, items=path.with_name("movies.csv"))
    frame = pd.read_csv(path, dtype=str)
    user, users = pd.factorize(frame["userId"])
    item, items = pd.factorize(frame["movieId"])
    assert data.users.to_arrow().to_pylist() == list(users)
    assert data.items.to_arrow().to_pylist() == list(items)
    assert (data.n_users, data.n_items, data.matrix.nnz) == (610, 9724, 100_836)
    back = np.argsort(data.order)
    assert (data.order[back] == np.arange(100_836)).all()
    row = np.repeat(np.arange(610), np.diff(data.matrix.indptr))
    assert (row[back] == user).all()
    assert (data.matrix.indices[back] == item).all()
    assert data.times is not None
    assert (data.times[back] == frame["timestamp"].astype(np.int64) * 1_000_000).all()
    titles = pd.read_csv(path.with_name("movies.csv"), dtype=str).set_index("movieId")["title"]
    assert data.titles() == titles[items].tolist()
    assert data.report is not None
    assert (data.report.rows_read, data.report.rows_kept) == (100_836, 100_836)


def test_thresholds_equal_the_published_order_of_filters(datasets: Path) -> None:
    path = datasets / "ml-latest-small/raw/ratings.csv"
    data = read_interactions(path, min_rating=4, min_item=3, min_user=5)
    frame = pd.read_csv(path, dtype={"userId": str, "movieId": str})
    frame = frame[frame.rating >= 4]
    frame = frame[frame.groupby("movieId").userId.transform("size") >= 3]
    frame = frame[frame.groupby("userId").movieId.transform("size") >= 5]
    assert data.users.to_arrow().to_pylist() == list(frame.userId.unique())
    assert data.items.to_arrow().to_pylist() == list(frame.movieId.unique())
    item = pd.factorize(frame["movieId"])[0]
    assert (data.matrix.indices[np.argsort(data.order)] == item).all()
    assert data.report is not None
    assert set(data.report.rows_dropped) == {"below_min_rating", "below_min_item", "below_min_user"}


def test_movielens_dat_with_latin_1_titles(datasets: Path) -> None:
    path = datasets / "ml-1m/raw/ratings.users-1-2999.dat.gz"
    movies = datasets / "ml-1m/raw/movies.dat"
    options: dict[str, object] = {"sep": "::", "header": False}
    data = read_interactions(path, items=movies, items_encoding="latin-1", **options)
    assert data.matrix.nnz == 487_650
    assert data.n_users == 2999
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    assert data.items.ids_at([0, 1]) == [lines[0].split("::")[1], lines[1].split("::")[1]]
    titles = data.titles()
    assert titles is not None
    known = dict(line.split("::")[:2] for line in movies.read_text("latin-1").splitlines())
    assert titles == [known[i] for i in data.items.to_arrow().to_pylist()]
    assert any("é" in title for title in titles if title)
    with pytest.raises(DataError, match=r"movies.dat: line 73, byte 8 is not utf-8"):
        read_interactions(path, items=movies, **options)


def test_movielens_parquet(datasets: Path) -> None:
    path = datasets / "ml-1m/interactions.parquet"
    data = read_interactions(path, time_col="time_rank", items=path.with_name("items.parquet"))
    frame = pd.read_parquet(path)
    assert (data.n_users, data.n_items, data.matrix.nnz) == (6040, 3706, 1_000_209)
    assert data.users.to_arrow().to_pylist() == [str(u) for u in frame.user_id.unique()]
    again = read_interactions(frame, time_col="time_rank")
    assert again.fingerprint() == data.fingerprint()


def test_gowalla_with_its_published_split(datasets: Path) -> None:
    path = datasets / "gowalla/interactions.parquet"
    data = read_interactions(path, split_col="split")
    assert (data.n_users, data.n_items) == (29_858, 40_981)
    assert data.part is not None
    assert np.bincount(data.part).tolist() == [810_128, 0, 217_242]
