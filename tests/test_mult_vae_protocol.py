"""The Mult-VAE split against a literal transcription of the published rules, in pandas."""

# ruff: noqa: NPY002, TID251
# The published rules use the legacy global generator, and so does their transcription.

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recae.data.interactions import Interactions
from recae.data.protocols import split
from recae.data.protocols.fixtures import fixture_hashes, published_files
from recae.errors import ConfigError, DataError
from tests.frames import interactions_from


def published_rules(raw, held_out, min_user=5, min_item=0, fraction=0.2, seed=98765):
    """The published rules, one after the other, on frames of raw ids in input order."""
    if min_item > 0:
        item_counts = raw.groupby("item").size()
        raw = raw[raw["item"].isin(item_counts.index[item_counts >= min_item])]
    if min_user > 0:
        user_counts = raw.groupby("user").size()
        raw = raw[raw["user"].isin(user_counts.index[user_counts >= min_user])]
    users = raw.groupby("user").size().index.to_numpy()
    np.random.seed(seed)
    users = users[np.random.permutation(len(users))]
    n = len(users)
    train_users, valid_users, test_users = (
        users[: n - 2 * held_out],
        users[n - 2 * held_out : n - held_out],
        users[n - held_out :],
    )
    train = raw[raw["user"].isin(train_users)]
    vocabulary = pd.unique(train["item"])

    def cut(rows):
        rows = rows[rows["item"].isin(vocabulary)]
        shown, asked = [], []
        np.random.seed(seed)
        for _, group in rows.groupby("user"):
            count = len(group)
            mask = np.zeros(count, dtype=bool)
            if count >= 5:
                size = int(fraction * count)
                mask[np.random.choice(count, size=size, replace=False)] = True
            shown.append(group[~mask])
            asked.append(group[mask])
        return pd.concat(shown), pd.concat(asked)

    valid = cut(raw[raw["user"].isin(valid_users)])
    test = cut(raw[raw["user"].isin(test_users)])
    return users, vocabulary, train, valid, test


def authors_csv(rows, users, vocabulary):
    user_number = {u: i for i, u in enumerate(users)}
    item_number = {s: i for i, s in enumerate(vocabulary)}
    frame = pd.DataFrame(
        {
            "uid": [user_number[u] for u in rows["user"]],
            "sid": [item_number[s] for s in rows["item"]],
        }
    )
    return frame.to_csv(index=False, lineterminator="\n").encode()


def awkward_frame(text_ids=False):
    """Every ordering rule matters: shuffled rows and ids, users of 2 to 13 items, rare items."""
    rng = np.random.default_rng(3)
    user_ids = rng.permutation(np.arange(3, 3 + 7 * 60, 7))  # 1 to 3 digits: "10" sorts before "9"
    rows = []
    for user in user_ids:
        chance = 1 / np.arange(1, 121) ** 0.6
        items = rng.choice(
            120, size=int(rng.integers(2, 14)), replace=False, p=chance / chance.sum()
        )
        rows += [(int(user), int(1000 - 7 * item)) for item in items]
    frame = pd.DataFrame(rows, columns=["user", "item"])
    frame = frame.sample(frac=1, random_state=5).reset_index(drop=True)
    if text_ids:
        frame["user"] = [f"{'b' if u % 2 else 'B'}{u}" for u in frame["user"]]
        frame["item"] = [f"film {i}" for i in frame["item"]]
    return frame


def pairs(part_users, part_items, matrix):
    coordinates = matrix.tocoo()
    users = part_users.ids_at(coordinates.coords[0])
    items = part_items.ids_at(coordinates.coords[1])
    return set(zip(users, items, strict=True))


def frame_pairs(frame):
    return set(zip(frame["user"].astype(str), frame["item"].astype(str), strict=True))


@pytest.mark.parametrize("text_ids", [False, True])
@pytest.mark.parametrize(("min_user", "min_item", "held_out"), [(5, 0, 12), (5, 4, 9), (0, 2, 15)])
def test_equals_the_published_rules(text_ids, min_user, min_item, held_out):
    frame = awkward_frame(text_ids)
    users, vocabulary, train, valid, test = published_rules(frame, held_out, min_user, min_item)
    data = interactions_from(frame)
    made = split(data, "mult-vae", held_out_users=held_out, min_user=min_user, min_item=min_item)
    numbered = [
        part.users.ids_at(range(len(part.users)))
        for part in (made.train, made.validation, made.test)
    ]
    assert sum(numbered, []) == [str(u) for u in users]
    items = made.train.items
    assert items.ids_at(range(len(items))) == [str(i) for i in vocabulary]
    assert pairs(made.train.users, items, made.train.matrix) == frame_pairs(train)
    for part, (shown, asked) in ((made.validation, valid), (made.test, test)):
        assert pairs(part.users, items, part.fold_in.matrix) == frame_pairs(shown)
        assert pairs(part.users, items, part.target) == frame_pairs(asked)
    files = dict(published_files(made, data))
    assert files["unique_sid.txt"] == "".join(f"{i}\n" for i in vocabulary).encode()
    assert files["validation_te.csv"] == authors_csv(valid[1], users, vocabulary)
    assert files["test_te.csv"] == authors_csv(test[1], users, vocabulary)
    assert (
        fixture_hashes(made, data)["test_te.csv"]
        == hashlib.sha256(files["test_te.csv"]).hexdigest()
    )


def test_the_frame_exercises_every_rule():
    frame = awkward_frame()
    data = interactions_from(frame)
    made = split(data, "mult-vae", held_out_users=12)
    for part in (made.validation, made.test):
        counts = np.diff(part.fold_in.matrix.indptr) + np.diff(part.target.indptr)
        assert (counts < 5).any()  # users who draw nothing once the vocabulary is applied
        assert (counts >= 10).any()
        assert part.unreachable.sum() > 0
    assert made.notes["users_dropped"] > 0
    vocabulary = made.train.items.ids_at(range(made.train.n_items))
    in_file = [i for i in data.items.ids_at(range(data.n_items)) if i in set(vocabulary)]
    assert vocabulary != in_file  # some items are first seen with held-out users


def test_every_interaction_is_in_one_place_or_counted():
    data = interactions_from(awkward_frame())
    made = split(data, "mult-vae", held_out_users=12, min_item=3)
    notes = made.notes
    placed = made.train.matrix.nnz + sum(
        part.fold_in.matrix.nnz + part.target.nnz + part.unreachable.sum()
        for part in (made.validation, made.test)
    )
    assert placed + notes["interactions_dropped"] == data.matrix.nnz == notes["interactions"]
    assert notes["items_dropped"] > 0


def test_the_legacy_global_generator_is_left_alone():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    split(interactions_from(awkward_frame()), "mult-vae", held_out_users=5)
    assert np.array_equal(np.random.get_state()[1], before)


def test_refuses_more_held_out_users_than_there_are():
    data = interactions_from(awkward_frame())
    with pytest.raises(
        ConfigError, match=r"held_out_users=10000, taken twice, .* at most \d+ can be"
    ):
        split(data, "mult-vae")
    usable = 60 - split(data, "mult-vae", held_out_users=2).notes["users_dropped"]
    most = (usable - 1) // 2
    assert split(data, "mult-vae", held_out_users=most).train.n_users == usable - 2 * most
    with pytest.raises(ConfigError, match=f"at most {most} can be"):
        split(data, "mult-vae", held_out_users=most + 1)


def test_refuses_an_item_minimum_nothing_reaches():
    with pytest.raises(DataError, match="no item has 1000 interactions"):
        split(interactions_from(awkward_frame()), "mult-vae", held_out_users=2, min_item=1000)


def test_rng_is_refused_because_the_seed_is_part_of_the_benchmark():
    with pytest.raises(ConfigError, match="seeded by its option seed"):
        split(interactions_from(awkward_frame()), "mult-vae", rng=1, held_out_users=5)


def test_fixture_files_are_of_this_protocol_and_this_data():
    data = interactions_from(awkward_frame())
    other = interactions_from(awkward_frame().iloc[::-1])
    made = split(data, "mult-vae", held_out_users=5)
    with pytest.raises(ConfigError, match="other data"):
        fixture_hashes(made, other)
    with pytest.raises(ConfigError, match="these files are of mult-vae"):
        fixture_hashes(split(data, "strong"), data)


def test_users_are_permuted_as_in_the_published_movielens_20m_files():
    """The order of users depends on their number only, so any 136,677 users show it."""
    n_users = 136_677
    frame = pd.DataFrame(
        {"user": np.repeat(np.arange(1, n_users + 1), 5), "item": np.tile(np.arange(5), n_users)}
    )
    data = interactions_from(frame)
    lines = dict(published_files(split(data, "mult-vae"), data))["test_te.csv"].split()
    assert len(lines) == 1 + 10_000
    # The first users of test_te.csv in the repository psywaves/EVCF, commit f2a62fb5.
    published = [134677, 128041, 130583, 128326, 133321, 132972, 130343, 129368, 131022, 132656]
    assert [int(line.split(b",")[0]) for line in lines[1:11]] == published


@pytest.fixture(scope="module")
def ml_1m() -> Interactions:
    root = os.environ.get("RECAE_DATASETS")
    if not root or not (Path(root) / "ml-1m").is_dir():
        pytest.skip("RECAE_DATASETS names no directory with ml-1m")
    frame = pd.read_parquet(Path(root) / "ml-1m" / "interactions.parquet")
    frame = frame[frame["rating"] >= 4].rename(columns={"user_id": "user", "item_id": "item"})
    return interactions_from(frame[["user", "item"]])


@pytest.mark.datasets
def test_movielens_1m_has_the_measured_counts(ml_1m):
    made = split(ml_1m, "mult-vae", held_out_users=1000)
    assert (made.train.n_users, made.train.n_items) == (4034, 3468)
    assert made.train.matrix.nnz == 388_246
    assert len(made.validation) == len(made.test) == 1000


@pytest.mark.datasets
def test_movielens_1m_equals_the_published_rules(ml_1m):
    made = split(ml_1m, "mult-vae", held_out_users=1000)
    coordinates = ml_1m.matrix.tocoo()
    by_input = np.argsort(ml_1m.order)
    frame = pd.DataFrame(
        {
            "user": [int(u) for u in ml_1m.users.ids_at(coordinates.coords[0][by_input])],
            "item": [int(i) for i in ml_1m.items.ids_at(coordinates.coords[1][by_input])],
        }
    )
    users, vocabulary, _, valid, test = published_rules(frame, 1000)
    files = dict(published_files(made, ml_1m))
    assert files["validation_te.csv"] == authors_csv(valid[1], users, vocabulary)
    assert files["test_te.csv"] == authors_csv(test[1], users, vocabulary)
