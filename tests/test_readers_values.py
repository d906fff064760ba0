"""What values become: ids of typed tables, ratings, times, parts, merged pairs, item tables."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recae.data.interactions import Interactions
from recae.data.readers import GroupedReading, read_interactions
from recae.data.readers.numbers import parse_times
from recae.errors import DataError

SECOND = 1_000_000


def read_text(folder: Path, text: str, **options: object) -> Interactions:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return read_interactions(path, **options)


def by_row(data: Interactions, values: np.ndarray | None) -> list[int]:
    """Values of the stored entries in the order of the input."""
    assert values is not None
    return [int(v) for v in values[np.argsort(data.order)]]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1500000000", "0", "-5"], [1_500_000_000 * SECOND, 0, -5 * SECOND]),
        (["1500000000000", "1500000000001"], [1_500_000_000_000_000, 1_500_000_000_001_000]),
        (["1500000000000000", "7"], [1_500_000_000_000_000, 7]),
        (["1500000000000000999", "1500000000000001000"],
         [1_500_000_000_000_000, 1_500_000_000_000_001]),
        (["1500000000.25", "1500000000"], [1_500_000_000_250_000, 1_500_000_000 * SECOND]),
        (["1.5e9", " 1500000001 ", "+1500000002"],
         [(1_500_000_000 + i) * SECOND for i in range(3)]),
        (["253402300799", "0", "1"], [253_402_300_799 * SECOND, 0, SECOND]),
        (["1970-01-02", "1970-01-01T00:00:01", "1970-01-01 00:00:00.5"],
         [86400 * SECOND, SECOND, 500_000]),
        (["1970-01-01T02:00:00+02:00", "1970-01-01T00:00:01Z"], [0, SECOND]),
        (["1970-01-01T02:00:00+02:00", "1970-01-01T00:00:01"], [0, SECOND]),
        (["1970-01-01 00:00:01 UTC", "1970/01/01 00:00:02", "1970-01-01 02:00:03.000 +0200"],
         [SECOND, 2 * SECOND, 3 * SECOND]),
        (["1970-01-01 00:00:01 UTC", "1970-01-01 00:00:02.5 GMT"], [SECOND, 2_500_000]),
        (["1970/01/02", "1970/01/03"], [86400 * SECOND, 2 * 86400 * SECOND]),
        (["1970-01-01 02:00:01.000 +0200", "1970-01-01T02:00:02 +02:00"], [SECOND, 2 * SECOND]),
        (["19700102000001", "20240229120000"], [86401 * SECOND, 1_709_208_000 * SECOND]),
        (["19700102000001.0", "20240229120000.0"], [86401 * SECOND, 1_709_208_000 * SECOND]),
        (["202402291200", "20240229120001"], [1_709_208_000 * SECOND, 1_709_208_001 * SECOND]),
        (["19700102", "20240229"], [86400 * SECOND, 1_709_164_800 * SECOND]),
        (["19700102", "20240230"], [19_700_102 * SECOND, 20_240_230 * SECOND]),
        (["9999-12-31", "0001-01-01"], [253_402_214_400 * SECOND, -62_135_596_800 * SECOND]),
    ],
)  # fmt: skip
def test_times(texts: list[str], expected: list[int], tmp_path: Path) -> None:
    rows = "".join(f"u,i{i},{text}\n" for i, text in enumerate(texts))
    data = read_text(tmp_path, "user,item,ts\n" + rows)
    assert by_row(data, data.times) == expected


RATED = "user,item,rating,ts\nu,a,4.5,10\nv,a,2,11\nu,a,3,12\nv,b,0.5,13\nu,c,1,14\n"


@pytest.mark.parametrize("kind", ["text", "frame", "parquet"])
def test_ratings_are_kept_where_that_is_asked_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "rated.csv"
    path.write_text(RATED)
    source: Path | pd.DataFrame = path
    if kind != "text":
        source = pd.read_csv(path)
    if kind == "parquet":
        pd.read_csv(path).to_parquet(path)
        source = path
    data = read_interactions(source, keep_ratings=True)
    ratings = {
        (*data.users.ids_at([int(u)]), *data.items.ids_at([int(i)])): float(v)
        for u, i, v in zip(*data.matrix.tocoo().coords, data.matrix.data, strict=True)
    }
    assert ratings == {("u", "a"): 3.0, ("v", "a"): 2.0, ("v", "b"): 0.5, ("u", "c"): 1.0}
    few = read_interactions(source, keep_ratings=True, min_rating=1, min_user=2)
    assert few.matrix.data.tolist() == [3.0, 1.0]
    assert read_interactions(source).matrix.data.tolist() == [1.0] * 4


def test_kept_ratings_stay_with_their_pairs_when_users_and_items_are_dropped(
    tmp_path: Path,
) -> None:
    draw = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "user": [f"u{n}" for n in draw.integers(0, 40, 400)],
            "item": [f"i{n}" for n in draw.integers(0, 60, 400) ** 2 // 60],
            "rating": draw.integers(1, 11, 400) / 2,
        }
    )
    data = read_text(tmp_path, table.to_csv(index=False), keep_ratings=True, min_item=4, min_user=8)
    assert data.n_users < 40
    assert data.n_items < table["item"].nunique()
    last = table.groupby(["user", "item"])["rating"].last()
    rows, columns = (where.tolist() for where in data.matrix.tocoo().coords)
    pairs = list(zip(data.users.ids_at(rows), data.items.ids_at(columns), strict=True))
    assert data.matrix.data.tolist() == last[pairs].tolist()


@pytest.mark.parametrize("rating", ["0", "-1", "1e39", "1e-60"])
def test_a_rating_that_no_matrix_holds_cannot_be_kept(rating: str, tmp_path: Path) -> None:
    text = f"user,item,rating\nu,a,4\nv,b,{rating}\n"
    with pytest.raises(DataError, match=r"csv: user 'v' rated item 'b' .*; keep_ratings takes"):
        read_text(tmp_path, text, keep_ratings=True)
    assert read_text(tmp_path, text).matrix.nnz == 2
    with pytest.raises(DataError, match="keep_ratings needs a rating column, none among"):
        read_text(tmp_path, "user,item\nu,a\n", keep_ratings=True)


def test_unit_of_times_is_told_with_their_range(tmp_path: Path) -> None:
    data = read_text(tmp_path, "user,item,ts\nu,a,1500000000000\nu,b,0\n")
    assert data.report is not None
    assert "times are milliseconds, from 1970-01-01 to 2017-07-14 (UTC)" in data.report.notices
    data = read_text(tmp_path, "user,item,ts\nu,a,3\nu,b,1\n")
    assert by_row(data, data.times) == [3 * SECOND, SECOND]
    assert data.report is not None
    assert any("too close to 1970" in notice for notice in data.report.notices)


def test_units_may_not_change_between_blocks_or_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item,ts\nu,a,1500000000\n")
    (tmp_path / "b.csv").write_text("user,item,ts\nu,b,2017-07-14\n")
    with pytest.raises(DataError, match=r"seconds \(line 2\), dates \(line 4\)"):
        read_interactions(tmp_path)


MOMENT = dt.datetime(2017, 7, 14, 2, 40, tzinfo=dt.UTC)
NAIVE = MOMENT.replace(tzinfo=None)


@pytest.mark.parametrize(
    "times",
    [
        pa.array([1_500_000_000], pa.int32()),
        pa.array([1_500_000_000], pa.uint64()),
        pa.array([1_500_000_000_000], pa.int64()),
        pa.array([1_500_000_000.0], pa.float64()),
        pa.array([NAIVE], pa.timestamp("s")),
        pa.array([NAIVE], pa.timestamp("ns")),
        pa.array([MOMENT], pa.timestamp("ms", tz="Europe/Paris")),
        pa.array(["1500000000"], pa.large_string()),
        pa.array(["2017-07-14T02:40:00Z"]),
    ],
    ids=lambda times: str(times.type),
)
def test_times_of_parquet(times: pa.Array, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"user": ["u"], "item": ["a"], "time": times}), path)
    data = read_interactions(path)
    assert data.times is not None
    assert data.times.tolist() == [1_500_000_000 * SECOND]


def test_times_of_a_type_that_has_none(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"user": ["u"], "item": ["a"], "time": [True]}), path)
    with pytest.raises(DataError, match="times are of type bool"):
        read_interactions(path)


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("rating", "ratings are of type"),
        ("time", "times are of type"),
        ("user", "user ids are of type"),
        ("split", "parts are of type"),
    ],
)
@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1]]),
        pa.array([{"a": 1}]),
        pa.array([dt.timedelta(days=1)]),
        pa.array([dt.time(1)]),
        pa.array([b"1"]),
    ],
    ids=lambda values: str(values.type),
)
def test_types_that_a_column_cannot_be(
    role: str, said: str, values: pa.Array, tmp_path: Path
) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"user": ["u"], "item": ["a"]} | {role: values}), path)
    with pytest.raises(DataError, match=said):
        read_interactions(path, split_col="split" if role == "split" else None)


def test_dates_are_no_ratings(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"user": ["u"], "item": ["a"], "value": pa.array([NAIVE])}), path)
    with pytest.raises(DataError, match=r"ratings are of type timestamp\[us\]; accepted: numbers"):
        read_interactions(path)
    pq.write_table(pa.table({"user": ["u"], "item": ["a"], "value": [NAIVE.date()]}), path)
    with pytest.raises(DataError, match=r"ratings are of type date32\[day\]; accepted: numbers"):
        read_interactions(path)


def test_values_of_a_dictionary_are_read_as_the_values_alone(tmp_path: Path) -> None:
    columns = {
        "user": ["u", "v", "w"],
        "item": ["a", "b", "c"],
        "rating": ["4", "x", "2020-01-01"],
        "time": ["2017-07-14", "2017-07-15", "2017-07-14"],
    }
    plain, encoded = tmp_path / "plain.parquet", tmp_path / "encoded.parquet"
    pq.write_table(pa.table(columns), plain)
    pq.write_table(
        pa.table({name: pa.array(v).dictionary_encode() for name, v in columns.items()}), encoded
    )
    a, b = (read_interactions(path, max_bad_rows=0.9) for path in (plain, encoded))
    assert a.fingerprint() == b.fingerprint()
    assert by_row(b, b.times) == by_row(a, a.times) == [1_499_990_400 * SECOND]
    for data in (a, b):
        assert data.report is not None
        assert {r: d.lines for r, d in data.report.rows_dropped.items()} == {"bad_rating": (2, 3)}
    pq.write_table(
        pa.table({"user": ["u"], "item": ["a"], "time": pa.array([NAIVE]).dictionary_encode()}),
        encoded,
    )
    c = read_interactions(encoded)
    assert by_row(c, c.times) == [1_500_000_000 * SECOND]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (pa.array([7, 10**18, -1], pa.int64()), ["7", "1000000000000000000", "-1"]),
        (pa.array([2**64 - 1, 0, 1], pa.uint64()), ["18446744073709551615", "0", "1"]),
        (pa.array([1, 2, 3], pa.int8()), ["1", "2", "3"]),
        (pa.array(["007", "na", "1e5"], pa.large_string()), ["007", "na", "1e5"]),
        (pa.array([12.0, 7.0, -1.0]), ["12", "7", "-1"]),
        (pa.array([12.0, 7.0, 12.0], pa.float32()).dictionary_encode(), ["12", "7"]),
        (pa.array(["12.0", "7", "12"]), ["12", "7"]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ["b", "a"]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_ids_of_parquet(ids: pa.Array, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"user": ids, "item": ["x", "y", "z"]}), path)
    assert read_interactions(path).users.to_arrow().to_pylist() == expected


@pytest.mark.parametrize(
    "ids", [[1.5, 2.0], [2.0**53, 1.0], [float("inf"), 1.0], [True, False], [b"a", b"b"]]
)
def test_ids_whose_text_is_open_are_refused(ids: list[object], tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"user": pa.array(ids), "item": ["x", "y"]}), path)
    with pytest.raises(DataError, match="user ids are of type .*accepted: text and whole numbers"):
        read_interactions(path)


def test_frames_give_what_their_csv_gives(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "userId": [101, 102, 101],
            "movieId": pd.Categorical(["007", "7", "na"]),
            "rating": [4.0, 3.5, 5.0],
            "timestamp": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]),
        },
        index=[9, 9, 1],
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    a, b = read_interactions(frame), read_interactions(tmp_path / "t.csv")
    assert a.fingerprint() == b.fingerprint()
    assert a.items.to_arrow().to_pylist() == ["007", "7", "na"]


def test_frames_with_missing_values() -> None:
    frame = pd.DataFrame(
        {
            "user": pd.array([1, None, 3, 4], dtype="Int64"),
            "item": ["a", "b", None, "d"],
            "rating": [1.0, 1.0, 1.0, np.nan],
        }
    )
    data = read_interactions(frame, max_bad_rows=0.9)
    assert data.users.to_arrow().to_pylist() == ["1"]
    assert data.report is not None
    assert {r: d.lines for r, d in data.report.rows_dropped.items()} == {
        "empty_user": (2,),
        "empty_item": (3,),
        "bad_rating": (4,),
    }


def test_frames_that_are_refused() -> None:
    with pytest.raises(DataError, match=r"user ids are of type double, one is 1\.5"):
        read_interactions(pd.DataFrame({"user": [1.5, np.nan], "item": ["a", "b"]}))
    with pytest.raises(
        DataError, match=r"no column for the user .*--user-col\), such as 'who', the only one left$"
    ):
        read_interactions(pd.DataFrame({"who": ["u"], "item": ["a"]}))
    with pytest.raises(DataError, match="the user column 'user' holds values of several types"):
        read_interactions(pd.DataFrame({"user": ["a", 1], "item": ["a", "b"]}))
    with pytest.raises(DataError, match="the user column 'user' holds values"):
        read_interactions(pd.DataFrame({"user": [2**64 + 1, 1], "item": ["a", "b"]}))
    with pytest.raises(DataError, match="more than one column for the user"):
        read_interactions(pd.DataFrame([["u", "v", "a"]], columns=["user", "user", "item"]))
    with pytest.raises(DataError, match="no usable rows among 0"):
        read_interactions(pd.DataFrame({"user": [], "item": []}, dtype=str))


def test_merged_pairs_keep_the_first_place_and_the_last_time(tmp_path: Path) -> None:
    data = read_text(
        tmp_path,
        "user,item,ts\nu,a,300000000\nu,b,100000000\nu,a,900000000\nv,a,1\nu,a,500000000\nu,b,1\n",
    )
    assert by_row(data, data.order) == [0, 1, 3]
    assert by_row(data, data.times) == [900_000_000 * SECOND, 100_000_000 * SECOND, SECOND]
    assert data.matrix.toarray().tolist() == [[1, 1], [1, 0]]
    assert data.report is not None
    assert (data.report.rows_kept, data.report.rows_merged) == (3, 3)


def test_pairs_are_merged_before_ratings_filter(tmp_path: Path) -> None:
    data = read_text(tmp_path, "user,item,rating\nu,a,5\nu,a,1\nu,b,5\n", min_rating=4)
    assert data.items.to_arrow().to_pylist() == ["b"]
    assert data.report is not None
    assert data.report.rows_merged == 1
    assert data.report.rows_dropped["below_min_rating"].lines == (3,)


def test_thresholds_count_merged_pairs_items_first(tmp_path: Path) -> None:
    # b has two rows of one pair, so one pair: it goes. That leaves w one pair: w goes. a keeps
    # its place although only two of its three users stay: one pass
    rows = "u,a\nu,c\nu,b\nu,b\nv,a\nv,c\nw,a\n"
    data = read_text(tmp_path, "user,item\n" + rows, min_item=2, min_user=2)
    assert data.users.to_arrow().to_pylist() == ["u", "v"]
    assert data.items.to_arrow().to_pylist() == ["a", "c"]
    assert data.report is not None
    assert {r: d.lines for r, d in data.report.rows_dropped.items()} == {
        "below_min_item": (4,),
        "below_min_user": (8,),
    }
    assert data.report.rows_merged == 1


def test_numbering_follows_rows_that_are_kept(tmp_path: Path) -> None:
    text = "user,item,rating\nx,a,1\nu,b,5\nx,c,5\nu,a,5\n"
    data = read_text(tmp_path, text, min_rating=4)
    assert data.users.to_arrow().to_pylist() == ["u", "x"]
    assert data.items.to_arrow().to_pylist() == ["b", "c", "a"]
    rows = "".join(f"u{i},once{i}\nu{i},twice{i // 2}\n" for i in range(6))
    data = read_text(tmp_path, "user,item\n" + rows, min_item=2)
    assert data.items.to_arrow().to_pylist() == ["twice0", "twice1", "twice2"]
    assert data.users.to_arrow().to_pylist() == [f"u{i}" for i in range(6)]


def test_equals_a_plain_reading_on_random_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "user": rng.integers(0, 40, 3000).astype(str),
            "item": rng.integers(0, 60, 3000).astype(str),
            "rating": rng.integers(1, 6, 3000),
            "ts": rng.integers(10**9, 2 * 10**9, 3000),
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = read_interactions(tmp_path / "t.csv", min_rating=3, min_item=17, min_user=14)
    pairs = frame.assign(row=frame.index).sort_values(["ts", "row"], kind="stable")
    latest = {"ts": ("ts", "last"), "row": ("row", "min"), "rating": ("rating", "last")}
    pairs = pairs.groupby(["user", "item"]).agg(**latest).reset_index()
    low = pairs[pairs.rating < 3]
    pairs = pairs[pairs.rating >= 3]
    pairs = pairs[pairs.groupby("item").user.transform("size") >= 17]
    pairs = pairs[pairs.groupby("user").item.transform("size") >= 14].sort_values("row")
    assert 0 < len(pairs) < 1000
    assert data.users.to_arrow().to_pylist() == list(pairs.user.unique())
    assert data.items.to_arrow().to_pylist() == list(pairs.item.unique())
    order = np.argsort(data.order)
    owner = np.repeat(np.arange(data.n_users), np.diff(data.matrix.indptr))[order]
    assert data.users.ids_at(owner.tolist()) == pairs.user.tolist()
    assert data.items.ids_at(data.matrix.indices[order].tolist()) == pairs.item.tolist()
    assert by_row(data, data.times) == (pairs.ts * SECOND).tolist()
    assert by_row(data, data.order) == pairs.row.tolist()
    assert data.seen is not None
    assert data.seen.matrix.nnz == len(low)
    at = data.seen.matrix.tocoo().coords
    ids = data.seen.users.ids_at(at[0]), data.seen.items.ids_at(at[1])
    found = set(zip(*ids, data.seen.order.tolist(), strict=True))
    assert found == set(zip(low.user, low.item, low.row, strict=True))


def test_split_column(tmp_path: Path) -> None:
    text = "user,item,fold\nu,a,train\nu,b,Valid\nu,c,TEST\nu,d,val\nu,e,validation\nu,f,dev\n"
    data = read_text(tmp_path, text, split_col="fold", max_bad_rows=1)
    assert by_row(data, data.part) == [0, 1, 2, 1, 1]
    assert data.report is not None
    assert data.report.rows_dropped["bad_split"].lines == (7,)


def test_a_pair_in_two_parts_is_told(tmp_path: Path) -> None:
    text = "user,item,fold\nu,a,train\nu,a,test\nu,b,train\n"
    data = read_text(tmp_path, text, split_col="fold")
    assert by_row(data, data.part) == [2, 0]
    assert data.report is not None
    assert any("several parts" in notice for notice in data.report.notices)


def test_ratings_without_a_minimum_are_told(tmp_path: Path) -> None:
    data = read_text(tmp_path, "user,item,rating\nu,a,0\n")
    assert data.report is not None
    assert any("every row counts as a positive" in notice for notice in data.report.notices)
    data = read_text(tmp_path, "user,item,rating\nu,a,x\n", rating_col="")
    assert data.matrix.nnz == 1


MOVIES = 'movieId,name,year\n7,"Seven, ""7""",1995\n007,"Bond\nagain",\n7,twice,\nbad\n9,Nine,1\n'


def test_items_are_aligned_with_the_numbering(tmp_path: Path) -> None:
    items = tmp_path / "movies.csv"
    items.write_text(MOVIES)
    rows = "userId,movieId\nu,007\nu,8\nv,7\n"
    data = read_text(tmp_path, rows, items=items, max_bad_rows=0.2)
    assert data.titles() == ["Bond\nagain", None, 'Seven, "7"']
    assert data.item_table.column_names == ["item_id", "title", "year"]
    assert data.item_table["item_id"].to_pylist() == ["007", "8", "7"]
    assert data.item_table["year"].to_pylist() == ["", None, "1995"]
    assert data.report is not None
    assert "2 of 3 items are in movies.csv" in data.report.notices
    assert any("1 rows of movies.csv repeat an item" in n for n in data.report.notices)
    assert any("the first in line 6; they are left out" in n for n in data.report.notices)
    with pytest.raises(DataError, match="1 of 5 rows of movies.csv are malformed"):
        read_text(tmp_path, rows, items=items)


@pytest.mark.parametrize(
    ("header", "options", "title"),
    [
        ("id,name,url", {}, "name"),
        ("artistID,Titel,url", {"items_title_col": "Titel"}, "Titel"),
        ("key,Titel,title", {"items_id_col": "key", "items_title_col": "2"}, "Titel"),
        ("item_id:token,movie_title:token_seq,x:float_seq", {}, "movie_title:token_seq"),
        ("item_id:token,name:token_seq,genre:token_seq", {}, "name:token_seq"),
        ("Game_ID,Game Name,author_name", {}, "Game Name"),
        ("item,Titel,url", {}, None),
        ("item,movie_title,game_title", {}, None),
        ("item,title,url", {"items_title_col": ""}, None),
    ],
)
def test_titles_are_found_and_named_or_missed_aloud(
    header: str, options: dict[str, object], title: str | None, tmp_path: Path
) -> None:
    items = tmp_path / "films.csv"
    items.write_text(f"{header}\n7.0,Seven,x\n8,Eight,y\n")
    rows = "userID,artistID\nu,7\nu,8.0\n"
    data = read_text(tmp_path, rows, items=items, item_col="artistID", **options)
    assert data.titles() == (None if title is None else ["Seven", "Eight"])
    assert data.report is not None
    said = [notice for notice in data.report.notices if "titles" in notice]
    if title is not None:
        assert said == [f"titles are column {title!r} of films.csv"]
    elif not options:
        assert said[0].endswith("items_title_col (--items-title-col) names it")
    assert "2 of 2 items are in films.csv" in data.report.notices
    assert "ids of films.csv such as '7.0' are read as '7'" in data.report.notices


@pytest.mark.parametrize("kind", ["text", "frame", "parquet", "grouped"])
def test_ids_that_were_numbers_are_read_without_point_and_told(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": [12.0, np.nan, 12.0, 7.0], "item": ["a", "b", "c", "1.0"]})
    path = tmp_path / "t.csv"
    if kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    if kind == "grouped":
        reading = GroupedReading(path, people=1, max_bad_rows=0.5)
        users = [user for group in reading if group.data is not None for user in group.data.users]
        report = reading.report
    else:
        data = read_interactions(frame if kind == "frame" else path, max_bad_rows=0.5)
        users, report = list(data.users), data.report
    assert users == ["12", "7"]
    assert report is not None
    typed = kind in ("frame", "parquet")
    assert report.rows_dropped["empty_user"].lines == ((2,) if typed else (3,))
    told = [notice for notice in report.notices if "ids_as_written" in notice]
    assert told == [
        f"{role} ids of {rows} of 4 rows are written such as '{first}.0' and read as '{first}'"
        " (ids_as_written, --ids-as-written, keeps them)"
        for role, rows, first in (("user", 3, 12), ("item", 1, 1))
    ]
    as_written = read_interactions(
        frame if kind == "frame" else path, max_bad_rows=0.5, ids_as_written=True
    )
    assert list(as_written.users) == ["12.0", "7.0"]


def test_ids_of_both_forms_are_one_in_any_part(tmp_path: Path) -> None:
    for name, users in (("0", [12, 7]), ("1", [12.0, np.nan])):
        pd.DataFrame({"user": users, "item": ["a", f"b{name}"]}).to_parquet(tmp_path / f"{name}.pq")
    assert list(read_interactions(tmp_path, max_bad_rows=0.5).users) == ["12", "7"]


def test_columns_of_one_name_are_taken_by_position(tmp_path: Path) -> None:
    table = pa.table([["u"], [1.0], ["a"], [5.0]], names=["user", "rating", "item", "rating"])
    path = tmp_path / "t.parquet"
    pq.write_table(table, path)
    for source in (path, table, table.to_pandas()):
        with pytest.raises(DataError, match="settle it by position with rating_col .*: 2 or 4"):
            read_interactions(source)
        for place, value in (("2", 1.0), ("4", 5.0)):
            data = read_interactions(source, rating_col=place, keep_ratings=True)
            assert data.matrix.data.tolist() == [value]
            assert data.report is not None
            assert data.report.notices[0].endswith(f"rating 'rating' ({place})")


def test_times_beyond_the_next_year_are_told(tmp_path: Path) -> None:
    for times in ("1500000000\nu,b,1500000001\nu,c,253402300799", "2020-01-01\nu,b,9999-12-31"):
        data = read_text(tmp_path, f"user,item,ts\nu,a,{times}\n")
        assert data.report is not None
        assert any(n.endswith(f"lie after {dt.date.today().year + 1}") for n in data.report.notices)


def test_what_a_first_look_shows_is_told(tmp_path: Path) -> None:
    for text, options, said in (
        ("u,1396861869,a\nv,1396861870,b\n", {"header": False}, "or ids like times"),
        (
            "user, item\nu, a\nv, b\n",
            {},
            "start with a blank, which is kept; sep (--sep) may hold it, ', '",
        ),
        ("user,item,Split\nu,a,train\n", {}, "column 'Split' is not read; if it holds the split"),
    ):
        data = read_text(tmp_path, text, rating_col="", **options)
        assert data.report is not None
        assert any(said in notice for notice in data.report.notices), said


def test_items_of_parquet_with_whole_numbers(tmp_path: Path) -> None:
    items = tmp_path / "items.parquet"
    pq.write_table(pa.table({"year": [1, 2], "item_id": [8, 7], "title": ["x", None]}), items)
    data = read_text(tmp_path, "user,item\nu,7\nu,8\n", items=items)
    assert data.titles() == [None, "x"]
    assert data.item_table["year"].to_pylist() == [2, 1]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (
            "key,title\n7,x\n",
            {},
            r"no column for the item among 'key', 'title'; name it with items_id",
        ),
        ("item,title\n7,x\n", {"items_title_col": "Titel"}, r"no column 'Titel' .*items_title_col"),
        ("item,title,title\n7,x,y\n", {}, "column 'title' occurs more than once"),
        ("item,iid\n7,x\n", {}, "more than one column for the item"),
        ("", {}, "movies.csv has no rows"),
        ("7::x\n8::y::z\n", {"header": False}, "cuts the first lines unevenly"),
    ],
)
def test_items_that_are_refused(
    table: str, options: dict[str, object], message: str, tmp_path: Path
) -> None:
    items = tmp_path / "movies.csv"
    items.write_text(table)
    text = "u,7\n" if "header" in options else "user,item\nu,7\n"
    with pytest.raises(DataError, match=message):
        read_text(tmp_path, text, items=items, **options)


@pytest.mark.parametrize("values", [["a", "a", "b"], ["a", None, "b"]])
def test_a_dictionary_with_a_value_twice_or_with_none_is_read_as_its_values(
    values: list[str | None],
) -> None:
    codes = pa.array([0, 1, 2, 0])
    users = pa.DictionaryArray.from_arrays(codes, pa.array(values))
    plain = pa.array([values[code] for code in codes.to_pylist()])
    items = pa.array(["x", "y", "x", "x"])
    found, wanted = (
        read_interactions(pa.table({"user": column, "item": items}), max_bad_rows=1)
        for column in (users, plain)
    )
    assert found.users == wanted.users
    assert found.fingerprint() == wanted.fingerprint()
    assert found.report == wanted.report


@pytest.mark.parametrize(
    "written",
    [
        ["1700000000"],
        ["1700000000.25", "17e8"],
        ["20240301120000"],
        ["2024-03-01 12:00:00", "2024-03-01T13:00:00Z"],
        ["2024/03/01 12:00:00", "2024-03-01 12:00:00.000 +0000", "2024-03-01 12:00 UTC"],
    ],
)
def test_many_texts_of_times_are_read_as_each_alone_is(written: list[str]) -> None:
    """Arrow reads many at once; a text that it cannot read costs only those beside it."""
    rng = np.random.default_rng(0)
    odd = ["", None, "never", " 2024-03-01" if "-" in written[-1] else " 20240301120000", "nan"]
    texts = [written[n] for n in rng.integers(len(written), size=5000)]
    for place in rng.integers(2000, 5000, size=40):
        texts[place] = odd[place % len(odd)]
    found = parse_times(pa.array(texts, pa.large_string()))
    alone = [parse_times(pa.array([text], pa.large_string())) for text in texts]
    assert found.good.tolist() == [bool(one.good[0]) for one in alone]
    values = np.array([one.values[0] for one in alone])
    assert found.values[found.good].tolist() == values[found.good].tolist()
    assert found.dates is ("-" in written[-1])


def test_counts_far_from_dates_are_told_together_too() -> None:
    texts = ["2024-03-01 12:00:00"] * 3000 + ["1700000000"] * 3000
    with pytest.raises(
        DataError, match="counts in some rows and dates in others: '1700000000', '2"
    ):
        parse_times(pa.array(texts, pa.large_string()))
