"""Pairs rated below the minimum are seen, not positive: never listed, and nobody learns them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import recae
from recae.cli.main import run as run_command
from recae.data.histories import Histories
from recae.data.interactions import Interactions
from recae.data.protocols import split as split_data
from recae.data.readers import GroupedReading
from recae.data.split import HeldOut
from recae.errors import BundleError, ConfigError, DataError
from recae.models.ease import EASE
from recae.models.popular import Popularity
from recae.serving import load_bundle, save_bundle
from recae_api import Settings, create_app

Pair = tuple[str, str]


def fans() -> pd.DataFrame:
    """Twenty fans love `hit`, which anna rated 1; `flop` nobody likes."""
    rows = [(f"fan{n}", item, 5) for n in range(20) for item in ("hit", f"b{n % 4}")]
    rows += [("anna", "b0", 5), ("anna", "hit", 1), ("ben", "hit", 2), ("ben", "flop", 1)]
    return pd.DataFrame(rows, columns=["user", "item", "rating"])


def pairs_of(data: Interactions | None) -> set[Pair]:
    """Ids of the stored pairs."""
    if data is None:
        return set()
    rows, columns = data.matrix.tocoo().coords
    return set(zip(data.users.ids_at(rows), data.items.ids_at(columns), strict=True))


def written(frame: pd.DataFrame, kind: str, folder: Path) -> Path | pd.DataFrame:
    """`frame` as a source of some kind."""
    path = folder / f"rows.{kind}"
    if kind == "frame":
        return frame
    frame.to_parquet(path) if kind == "parquet" else frame.to_csv(path, index=False)
    return path


def grouped(source: Path | pd.DataFrame) -> tuple[set[Pair], set[Pair], GroupedReading]:
    """Positive and seen pairs of all groups of one person each."""
    reading = GroupedReading(source, people=1, min_rating=4)
    positive: set[Pair] = set()
    seen: set[Pair] = set()
    for group in reading:
        if group.data is not None:
            positive |= pairs_of(group.data)
            seen |= pairs_of(group.data.seen)
    return positive, seen, reading


@pytest.mark.parametrize("kind", ["csv", "parquet", "frame"])
@pytest.mark.parametrize("timed", [True, False])
def test_rows_of_a_pair_are_merged_before_the_minimum(
    kind: str, timed: bool, tmp_path: Path
) -> None:
    rows = [("anna", "b1", 5), ("anna", "b1", 1), ("anna", "b2", 4), ("ben", "b1", 1)]
    rows += [("ben", "b1", 5), ("ben", "flop", 2), ("cleo", "b1", 3)]
    frame = pd.DataFrame(rows, columns=["user", "item", "rating"])
    if timed:  # and in the file the latest row of each pair comes first
        frame["timestamp"] = 1_600_000_000 + np.arange(len(frame))
        frame = frame.sort_values(["user", "timestamp"], ascending=[True, False])
    source = written(frame, kind, tmp_path)
    data = recae.read_interactions(source, min_rating=4)
    assert pairs_of(data) == {("anna", "b2"), ("ben", "b1")}
    low = {("anna", "b1"), ("ben", "flop"), ("cleo", "b1")}
    assert pairs_of(data.seen) == low
    assert data.report is not None
    assert (data.report.rows_kept, data.report.rows_merged, data.report.pairs_seen) == (2, 2, 3)
    assert data.report.rows_dropped["below_min_rating"].rows == 3
    positive, seen, reading = grouped(source)
    assert positive == {("anna", "b2"), ("ben", "b1")}
    assert seen == low - {("cleo", "b1")}  # nothing of hers is positive
    assert reading.report is not None
    assert reading.report.rows_dropped["below_min_rating"].rows == 3


def test_ids_that_are_only_seen_come_after_the_others() -> None:
    rows = [("z", "flop", 1), ("a", "x", 1), ("b", "y", 5), ("a", "y", 1), ("b", "x", 5)]
    data = recae.read_interactions(
        pd.DataFrame(rows, columns=["user", "item", "rating"]), min_rating=4
    )
    assert data.users.ids_at(range(data.n_users)) == ["b"]
    assert data.items.ids_at(range(data.n_items)) == ["y", "x"]
    assert data.seen is not None
    assert data.seen.users.ids_at(range(3)) == ["b", "z", "a"]
    assert data.seen.items.ids_at(range(3)) == ["y", "x", "flop"]
    assert data.histories().seen is None  # of b
    assert (data.seen.matrix.data == 1).all()


def test_thresholds_count_positive_pairs_only() -> None:
    data = recae.read_interactions(fans(), min_rating=4, min_user=2)
    assert "anna" not in data.users
    assert data.report is not None
    assert data.report.rows_dropped["below_min_user"].rows == 1


def test_ratings_below_the_minimum_need_not_be_positive() -> None:
    frame = fans()
    frame.loc[frame.rating == 1, "rating"] = -3
    data = recae.read_interactions(frame, min_rating=4, keep_ratings=True)
    assert set(data.matrix.data) == {5}
    assert ("anna", "hit") in pairs_of(data.seen)


def test_no_positive_pair_is_refused() -> None:
    with pytest.raises(DataError, match=r"no usable rows among 44 \(below_min_rating 44\)"):
        recae.read_interactions(fans(), min_rating=6)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file of `fans` and a model directory made of it."""
    folder = tmp_path_factory.mktemp("seen")
    fans().to_csv(folder / "fans.csv", index=False)
    data = recae.read_interactions(folder / "fans.csv", min_rating=4)
    recae.save(Popularity().fit(data), folder / "model", data=data)
    return folder / "model", folder / "fans.csv"


def test_python_lists_leave_them_out(stored: tuple[Path, Path]) -> None:
    service = recae.load(stored[0])
    assert "hit" not in {i.item for i in service.recommend(user="anna", k=9).items}
    everything = service.recommend(user="anna", k=9, exclude_seen=False)
    assert {"hit", "b0"} <= {i.item for i in everything.items}
    popular = service.recommend(user="anna", k=9, fallback="popular")
    assert "hit" not in {i.item for i in popular.items}


def test_http_lists_leave_them_out(stored: tuple[Path, Path]) -> None:
    client = create_app(recae.load(stored[0]), Settings()).test_client()

    def items(query: str) -> set[str]:
        answer = client.get(f"/recommend?user=anna&k=9{query}").get_json()
        return {item["item"] for item in answer["items"]}

    assert "hit" not in items("")
    assert "hit" in items("&exclude_seen=false")


@pytest.mark.parametrize(
    "who",
    [
        ["--user", "anna"],
        ["--users", "all"],
        ["--interactions", "{file}"],
        ["--interactions", "{file}", "--grouped"],
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_files_leave_them_out(
    who: list[str], ending: str, stored: tuple[Path, Path], tmp_path: Path
) -> None:
    model, file = stored
    out = tmp_path / f"lists.{ending}"

    def listed(*more: str) -> set[str]:
        asked = [part.format(file=file) for part in who]
        arguments = ["recommend", str(model), *asked, "-k", "9", "-o", str(out), *more]
        assert run_command(arguments, debug=False) == 0
        if ending == "jsonl":
            lines = map(json.loads, out.read_text().splitlines())
            return {
                i["item_id"] for line in lines if line["user_id"] == "anna" for i in line["items"]
            }
        frame = pd.read_parquet(out) if ending == "parquet" else pd.read_csv(out)
        return set(frame.item_id[frame.user_id == "anna"])

    assert "hit" not in listed()
    assert "hit" in listed("--include-seen")


def test_people_of_a_file_need_no_fan_there(
    stored: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("cleo", "b1", 5), ("cleo", "hit", 1), ("dora", "hit", 2)]
    frame = pd.DataFrame(rows, columns=["user", "item", "rating"])
    frame.to_csv(tmp_path / "new.csv", index=False)
    for how in ([], ["--grouped"]):
        arguments = ["recommend", str(stored[0]), "--interactions", str(tmp_path / "new.csv"), *how]
        assert run_command([*arguments, "-k", "9"], debug=False) == 0
        out, err = capsys.readouterr()
        assert "hit" not in out
        assert "all rows of 1 people" in err
        assert "dora" in err


def test_a_model_directory_keeps_them(stored: tuple[Path, Path]) -> None:
    bundle = load_bundle(stored[0])
    assert bundle.histories is not None
    assert bundle.users is not None
    seen = bundle.histories.seen
    assert seen is not None
    row = bundle.users.indices_of(["anna"])[0]
    assert bundle.items.ids_at(seen[[row]].indices) == ["hit"]
    assert seen.nnz == 1


def test_codes_are_kept_with_the_people(tmp_path: Path) -> None:
    data = recae.read_interactions(fans(), min_rating=4)
    codes = {"codes": np.arange(2.0 * data.n_users, dtype=np.float32).reshape(-1, 2)}

    def save(some: dict[str, np.ndarray], *, people: bool = True) -> None:
        save_bundle(
            tmp_path / "model",
            Popularity().fit(data),
            items=data.items,
            users=data.users if people else None,
            histories=data.histories() if people else None,
            codes=some,
            popularity=np.ones(data.n_items, dtype=np.int64),
            provenance={},
        )

    save(codes)
    found = load_bundle(tmp_path / "model").codes
    assert found is not None
    np.testing.assert_array_equal(found["codes"], codes["codes"])
    for wrong, people in ((codes, False), ({"codes": codes["codes"][1:]}, True), ({}, True)):
        with pytest.raises(ConfigError, match="codes for"):
            save(wrong, people=people)
    save({"codes": codes["codes"] + np.nan})
    with pytest.raises(BundleError, match="not finite"):
        load_bundle(tmp_path / "model")


def rated(seed: int = 0) -> Interactions:
    """People with twenty rated items each, half of them below the minimum, with times."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{user}", f"i{item}", int(rng.integers(1, 6)), 1_600_000_000 + int(rng.integers(10**6)))
        for user in range(60)
        for item in rng.choice(40, 20, replace=False)
    ]
    frame = pd.DataFrame(rows, columns=["user", "item", "rating", "timestamp"])
    frame["split"] = np.array(["train", "valid", "test"])[rng.integers(0, 3, len(frame))]
    return recae.read_interactions(frame, min_rating=4, split_col="split")


OPTIONS = {
    "strong": {"held_out_users": 10},
    "mult-vae": {"held_out_users": 10},
    "random": {},
    "leave-last": {},
    "temporal": {},
    "column": {},
    "all": {"validation_fraction": 0.2},
}


@pytest.mark.parametrize("protocol", OPTIONS)
def test_what_is_asked_does_not_depend_on_them(protocol: str) -> None:
    data = rated()
    with_seen = split_data(data, protocol, **OPTIONS[protocol])
    without = split_data(
        Interactions(
            data.matrix, data.users, data.items, order=data.order, times=data.times, part=data.part
        ),
        protocol,
        **OPTIONS[protocol],
    )
    assert with_seen.train.rows_fingerprint() == without.train.rows_fingerprint()
    for name in ("validation", "test"):
        one, other = getattr(with_seen, name), getattr(without, name)
        if one is None:
            assert other is None
            continue
        assert (one.fold_in.matrix != other.fold_in.matrix).nnz == 0
        assert (one.target != other.target).nnz == 0
        as_published = protocol in ("mult-vae", "column")
        assert (one.fold_in.seen is None) == as_published
        assert as_published == (f"{name}_seen_left_out" not in with_seen.notes)


def seen_ids(part: HeldOut, data: Interactions, matrix: object) -> set[Pair]:
    rows, columns = matrix.tocoo().coords  # type: ignore[attr-defined]
    return set(zip(part.users.ids_at(rows), data.items.ids_at(columns), strict=True))


@pytest.mark.parametrize("protocol", ["strong", "random"])
def test_a_share_of_them_stays_a_candidate(protocol: str) -> None:
    data = rated()
    made = split_data(data, protocol, **OPTIONS[protocol])
    part = made.test
    assert part is not None
    assert part.fold_in.seen is not None
    left_out = seen_ids(part, made.train, part.fold_in.seen)
    if part.exclude is not None:  # the validation side of random
        left_out |= seen_ids(part, made.train, part.exclude.matrix) & pairs_of(data.seen)
    users = set(part.users.ids_at(range(len(part))))
    all_seen = {pair for pair in pairs_of(data.seen) if pair[0] in users}
    assert left_out < all_seen
    assert 0.1 < 1 - len(left_out) / len(all_seen) < 0.25  # a fifth, rounded down
    again = split_data(data, protocol, **OPTIONS[protocol]).test
    assert again is not None
    assert (again.fold_in.seen != part.fold_in.seen).nnz == 0


@pytest.mark.parametrize("protocol", ["leave-last", "temporal"])
@pytest.mark.parametrize("name", ["validation", "test"])
def test_in_time_those_before_what_is_asked_are_left_out(protocol: str, name: str) -> None:
    data = rated()
    made = split_data(data, protocol, **OPTIONS[protocol])
    part = getattr(made, name)
    times = {}
    for some in (data, data.seen):
        assert some is not None
        assert some.times is not None
        rows, columns = some.matrix.tocoo().coords
        ids = zip(some.users.ids_at(rows), some.items.ids_at(columns), strict=True)
        times |= dict(zip(ids, some.times.tolist(), strict=True))
    asked: dict[str, int] = {}
    for user, item in seen_ids(part, made.train, part.target):
        asked[user] = min(times[user, item], asked.get(user, 2**62))
    if protocol == "temporal":
        start = pd.Timestamp(made.notes[f"{name}_from"]).value // 1000
        asked = dict.fromkeys(part.users.ids_at(range(len(part))), start)
    known = set(made.train.items.ids_at(range(made.train.n_items)))
    expected = {
        pair
        for pair in pairs_of(data.seen)
        if pair[1] in known and times[pair] < asked.get(pair[0], 0)
    }
    assert seen_ids(part, made.train, part.fold_in.seen) == expected


def test_they_are_left_out_of_what_is_judged() -> None:
    data = rated()
    made = split_data(data, "strong", **OPTIONS["strong"])
    assert made.test is not None
    model = EASE(l2=1.0).fit(made.train)
    top = model.recommend(made.test.fold_in, k=made.train.n_items)
    assert made.test.fold_in.seen is not None
    rows = np.repeat(np.arange(len(made.test)), (top.items >= 0).sum(axis=1))
    listed = set(zip(rows.tolist(), top.items[top.items >= 0].tolist(), strict=True))
    seen = set(zip(*(axis.tolist() for axis in made.test.fold_in.seen.tocoo().coords), strict=True))
    assert not listed & seen
    without = HeldOut(
        Histories(made.test.fold_in.matrix, made.test.fold_in.order),
        made.test.target,
        made.test.users,
        apart_from=made.test.apart_from,
    )
    judged = [recae.evaluate(model, part, metrics=["recall@5"]) for part in (made.test, without)]
    assert judged[0].fingerprint != judged[1].fingerprint
    assert judged[0]["recall@5"].mean > judged[1]["recall@5"].mean


def test_a_target_cannot_be_seen() -> None:
    matrix = Histories.from_lists([[0]], n_items=3).matrix
    target = Histories.from_lists([[1]], n_items=3).matrix
    with pytest.raises(DataError, match="both seen and target"):
        HeldOut(Histories(matrix, seen=target), target, recae.IdMap(["anna"]))
    with pytest.raises(DataError, match=r"seen has shape \(1, 2\)"):
        Histories(matrix, seen=Histories.from_lists([[1]], n_items=2).matrix)


def test_the_title_table_is_of_the_vocabulary(tmp_path: Path) -> None:
    titles = pa.table({"item_id": ["hit", "flop"], "title": ["The Hit", "The Flop"]})
    pa.parquet.write_table(titles, tmp_path / "items.parquet")
    data = recae.read_interactions(fans(), min_rating=4, items=tmp_path / "items.parquet")
    assert data.item_table.num_rows == data.n_items
