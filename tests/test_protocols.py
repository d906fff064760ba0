"""What every split keeps, by hypothesis, and what each protocol does, by hand."""

import os
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from recae.data.ids import IdMap
from recae.data.protocols import PROTOCOLS, split
from recae.data.protocols.drawing import cut_sizes, id_order
from recae.data.readers import read_interactions
from recae.errors import ConfigError, DataError
from tests.frames import interactions_from

ROWS_APART = ("random", "leave-last", "temporal", "column", "all")
USERS_APART = ("strong", "mult-vae")
OPTIONS = {
    "mult-vae": {"held_out_users": 3, "min_user": 2},
    "column": {"validation_fraction": 0.3},
    "all": {"validation_fraction": 0.3},
    "random": {"target_fraction": 0.3},
}


REFUSALS = {  # possible with the frames below
    "temporal": "training interactions",
    "column": "training interactions",
    "mult-vae": "can be held out",
}


def test_a_split_is_shown_in_a_line():
    pairs = [(f"u{u}", f"i{i}") for u in range(20) for i in range(6)]
    data = interactions_from(pd.DataFrame(pairs, columns=["user", "item"]))
    found = split(data, "strong", rng=0, held_out_users=5)
    held_out = "validation 5 users, test 5 users"
    assert repr(found) == f"Split(strong: train 10 users x 6 items, {held_out})"
    assert repr(split(data, "all")) == "Split(all: train 20 users x 6 items)"


@st.composite
def frames(draw):
    """8 to 25 users of 1 to 12 items, few different times, rows in any order, any parts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_users, n_items = draw(st.integers(8, 25)), draw(st.integers(8, 30))
    text = draw(st.booleans())
    rows = [
        (f"u{user}" if text else 3 * user, f"film {item}" if text else int(item))
        for user in rng.permutation(n_users)
        for item in rng.choice(n_items, size=rng.integers(1, min(12, n_items)), replace=False)
    ]
    frame = pd.DataFrame(rows, columns=["user", "item"])
    frame["time"] = rng.integers(1, draw(st.integers(20, 400)), len(frame)) * 1_000_000
    frame["part"] = np.where(rng.random(len(frame)) < 0.7, 0, 2)
    frame.loc[[0, len(frame) - 1], "time"] = [0, 10**9]
    frame.loc[[0, len(frame) - 1], "part"] = [0, 2]
    return frame.sample(frac=1, random_state=int(rng.integers(2**31))).reset_index(drop=True)


def made_by(protocol, frame, **more):
    """The data and its split; hypothesis tries other data where this is rightly refused."""
    data = interactions_from(frame)
    try:
        return data, split(data, protocol, **{**OPTIONS.get(protocol, {}), **more})
    except (ConfigError, DataError) as error:
        if not re.search(REFUSALS.get(protocol, "nothing"), str(error)):
            raise
        reject()


def pairs(users, items, matrix):
    coordinates = matrix.tocoo()
    return set(
        zip(users.ids_at(coordinates.coords[0]), items.ids_at(coordinates.coords[1]), strict=True)
    )


def contents(made):
    """Every set of (user, item) pairs of a split, by name."""
    items = made.train.items
    out = {"train": pairs(made.train.users, items, made.train.matrix)}
    for name in ("validation", "test"):
        part = getattr(made, name)
        if part is not None:
            out[f"{name} shown"] = pairs(part.users, items, part.fold_in.matrix)
            out[f"{name} asked"] = pairs(part.users, items, part.target)
            if part.exclude is not None:
                out[f"{name} excluded"] = pairs(part.users, items, part.exclude.matrix)
    return out


def whole(data):
    return pairs(data.users, data.items, data.matrix)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=10, deadline=None)
@given(frame=frames())
def test_every_interaction_is_in_one_place_or_counted(protocol, frame):
    data, made = made_by(protocol, frame)
    held = contents(made)
    placed = [held["train"]] + [held.get(f"{name} asked", set()) for name in ("validation", "test")]
    if protocol in USERS_APART:
        placed += [held["validation shown"], held["test shown"]]
    assert sum(map(len, placed)) == len(set().union(*placed))  # nothing twice
    assert set().union(*placed) <= whole(data)
    counted = sum(
        made.notes.get(key, 0)
        for key in (
            "interactions_dropped",
            *(f"{name}_unreachable" for name in ("validation", "test")),
            *(f"{name}_interactions_without_history" for name in ("validation", "test")),
        )
    )
    assert sum(map(len, placed)) + counted == data.matrix.nnz


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=10, deadline=None)
@given(frame=frames())
def test_nothing_asked_is_learned_from_or_shown(protocol, frame):
    _, made = made_by(protocol, frame)
    held = contents(made)
    for name in ("validation", "test"):
        asked = held.get(f"{name} asked", set())
        assert not asked & held["train"]
        assert not asked & held.get(f"{name} shown", set())
        assert not asked & held.get(f"{name} excluded", set())
        if name == "validation":  # what tunes the model is not what judges it
            assert not asked & held.get("test asked", set())
    if protocol in USERS_APART:
        groups = [
            set(p.users.ids_at(range(len(p.users))))
            for p in (made.train, made.validation, made.test)
        ]
        assert sum(map(len, groups)) == len(set().union(*groups))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=10, deadline=None)
@given(frame=frames())
def test_the_vocabulary_is_what_is_trained_on(protocol, frame):
    _, made = made_by(protocol, frame)
    assert (np.bincount(made.train.matrix.indices, minlength=made.train.n_items) > 0).all()
    assert (np.diff(made.train.matrix.indptr) > 0).all()
    for part in (made.validation, made.test):
        if part is not None and protocol in ROWS_APART:  # nobody is asked without a history
            assert (np.diff(part.fold_in.matrix.indptr) > 0).all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(max_examples=6, deadline=None)
@given(frame=frames(), seed=st.integers(0, 2**40))
def test_options_make_the_split_again(protocol, frame, seed):
    drawn = {"seed": seed % 2**32} if protocol == "mult-vae" else {"rng": seed}
    data, made = made_by(protocol, frame, **drawn)
    again = split(data, made.protocol, **made.options)
    assert again.train.items == made.train.items
    assert again.train.users == made.train.users
    assert contents(again) == contents(made)
    assert again.to_json() == made.to_json()
    assert set(made.options) == {field.name for field in fields(PROTOCOLS[protocol])}


@pytest.mark.parametrize("protocol", ["strong", "random", "column", "all", "temporal"])
@settings(max_examples=8, deadline=None)
@given(frame=frames())
def test_the_order_of_the_rows_does_not_matter(protocol, frame):
    _, made = made_by(protocol, frame)
    shuffled = frame.sample(frac=1, random_state=1)
    assert contents(made_by(protocol, shuffled)[1]) == contents(made)


@pytest.mark.parametrize("protocol", ["strong", "random", "all"])
def test_another_seed_is_another_split(protocol):
    data = interactions_from(grid(40, 10))
    options = OPTIONS.get(protocol, {})
    one, two = (contents(split(data, protocol, rng=seed, **options)) for seed in (1, 2))
    assert one != two


def grid(n_users, n_items):
    """Everybody did everything, one after the other."""
    return pd.DataFrame(
        [
            (f"u{u}", f"i{i}", (u * n_items + i) * 10**6)
            for u in range(n_users)
            for i in range(n_items)
        ],
        columns=["user", "item", "time"],
    )


# strong


@pytest.mark.parametrize(("wanted", "held"), [(None, 10), (7, 7), (0.25, 25), (49, 49), (0.001, 1)])
def test_strong_holds_out_as_many_users_as_asked(wanted, held):
    made = split(interactions_from(grid(100, 6)), "strong", held_out_users=wanted)
    assert (made.train.n_users, len(made.validation), len(made.test)) == (
        100 - 2 * held,
        held,
        held,
    )
    assert (np.diff(made.test.target.indptr) == 1).all()  # int(0.2 * 6)


def test_strong_asks_for_a_fifth_and_always_for_something():
    frame = pd.concat(
        pd.DataFrame({"user": f"u{n}-{copy}", "item": [f"i{i}" for i in range(n)]})
        for n in (1, 2, 4, 9, 10, 15)
        for copy in range(40)
    )
    made = split(interactions_from(frame), "strong", held_out_users=60)
    seen = set()
    for part in (made.validation, made.test):
        shown, asked = np.diff(part.fold_in.matrix.indptr), np.diff(part.target.indptr)
        seen |= set(zip((shown + asked).tolist(), asked.tolist(), strict=True))
    assert seen == {(1, 0), (2, 1), (4, 1), (9, 1), (10, 2), (15, 3)}


@pytest.mark.parametrize("wanted", [5, 0.5, 0.9])
def test_strong_keeps_somebody_to_train_on(wanted):
    with pytest.raises(ConfigError, match=r"leaves none of 10 users to train on; at most 4 can"):
        split(interactions_from(grid(10, 3)), "strong", held_out_users=wanted)


def test_strong_needs_three_users():
    with pytest.raises(DataError, match="2 users have interactions; .* need at least 3"):
        split(interactions_from(grid(2, 3)), "strong")


def test_items_that_only_held_out_users_know_are_unreachable():
    frame = pd.concat(
        [
            grid(30, 4),
            pd.DataFrame(
                {
                    "user": [f"u{u}" for u in range(30)],
                    "item": [f"own {u}" for u in range(30)],
                    "time": 0,
                }
            ),
        ]
    )
    made = split(interactions_from(frame), "strong", held_out_users=5)
    assert made.train.n_items == 4 + 20
    assert made.test.unreachable.tolist() == [1] * 5
    assert made.notes["test_unreachable"] == 5
    assert made.notes["items_never_trained"] == 10


# column


def parted(rows):
    return interactions_from(pd.DataFrame(rows, columns=["user", "item", "part"]))


def test_column_takes_the_parts_of_the_input():
    data = parted(
        [("u", "a", 0), ("u", "b", 1), ("u", "c", 2), ("u", "new", 2), ("v", "b", 0), ("v", "c", 0)]
        + [("stranger", "a", 2), ("w", "a", 0), ("w", "c", 1)]
    )
    made = split(data, "column")
    assert contents(made) == {
        "train": {("u", "a"), ("v", "b"), ("v", "c"), ("w", "a")},
        "validation shown": {("u", "a"), ("w", "a")},
        "validation asked": {("u", "b"), ("w", "c")},
        "test shown": {("u", "a")},
        "test asked": {("u", "c")},
        "test excluded": {("u", "b")},
    }
    assert made.test.unreachable.tolist() == [1]
    assert made.notes["test_users_without_history"] == 1
    assert made.notes["items_never_trained"] == 1
    assert made.train.part is None


def test_column_without_validation_rows_has_no_validation_unless_asked():
    data = parted([("u", i, 0) for i in "abcdefghij"] + [("u", "k", 2), ("v", "k", 0)])
    made = split(data, "column")
    assert made.validation is None
    assert made.test.exclude is None
    cut = split(data, "column", validation_fraction=0.2)
    assert cut.validation.target.nnz + cut.notes["validation_unreachable"] == 2
    assert cut.notes["validation_cut_from_train"] == 2
    assert cut.train.matrix.nnz == 9  # eight of u, and v's only one is kept


def test_column_refuses_what_it_cannot_do():
    with pytest.raises(DataError, match="carries no split; name its column with split_col"):
        split(interactions_from(grid(4, 4)), "column")
    with pytest.raises(ConfigError, match="it is for data without one"):
        split(parted([("u", "a", 0), ("u", "b", 1)]), "column", validation_fraction=0.1)
    with pytest.raises(DataError, match="leaves no interaction to train on"):
        split(parted([("u", "a", 2)]), "column")
    with pytest.raises(DataError, match="none of the 1 test users has training interactions"):
        split(parted([("u", "a", 2), ("v", "a", 0)]), "column")


# all, random, leave-last, temporal


def test_all_trains_on_everything():
    data = interactions_from(grid(9, 5))
    made = split(data, "all")
    assert contents(made) == {"train": whole(data)}
    cut = split(data, "all", validation_fraction=0.2)
    assert cut.validation.target.nnz == 9
    assert cut.test is None


def test_random_cuts_both_shares_out_of_the_whole():
    made = split(
        interactions_from(grid(20, 50)), "random", target_fraction=0.2, validation_fraction=0.1
    )
    assert set(np.diff(made.test.target.indptr)) == {10}
    assert set(np.diff(made.validation.target.indptr)) == {5}
    assert set(np.diff(made.test.exclude.matrix.indptr)) == {5}
    bare = split(interactions_from(grid(20, 50)), "random", validation_fraction=0)
    assert bare.validation is None
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        split(
            interactions_from(grid(20, 50)), "random", target_fraction=0.6, validation_fraction=0.4
        )


def test_leave_last_goes_by_time():
    rows = [
        ("u", "c", 3),
        ("u", "a", 1),
        ("u", "d", 4),
        ("u", "b", 2),
        ("v", "b", 9),
        ("v", "a", 8),
    ]
    rows += [("w", "c", 5), ("x", "d", 1), ("x", "a", 1), ("x", "c", 1)]
    data = interactions_from(pd.DataFrame(rows, columns=["user", "item", "time"]))
    made = split(data, "leave-last")
    assert contents(made) == {
        "train": {("u", "a"), ("u", "b"), ("v", "a"), ("w", "c"), ("x", "d")},
        "validation shown": {("u", "a"), ("u", "b"), ("x", "d")},
        "validation asked": {("u", "c"), ("x", "a")},
        "test shown": {("u", "a"), ("u", "b"), ("u", "c"), ("v", "a"), ("x", "a"), ("x", "d")},
        "test asked": {("v", "b"), ("x", "c")} | {("u", "d")},
    }
    assert made.test.fold_in.order is not None
    assert split(data, "leave-last", validation=False).validation is None


def test_temporal_splits_at_one_date_for_everybody():
    day = 86_400 * 10**6
    rows = [
        ("u", "a", 0),
        ("u", "b", 5),
        ("u", "c", 8),
        ("u", "d", 10),
        ("v", "c", 1),
        ("v", "a", 12),
    ]
    rows += [("w", "d", 4), ("w", "new", 11), ("late", "a", 10)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"])
    frame["time"] *= day
    data = interactions_from(frame)
    made = split(data, "temporal", at="1970-01-11", validation_fraction=0.25)
    assert contents(made) == {
        "train": {("u", "a"), ("v", "c"), ("w", "d")},
        "validation shown": {("u", "a")},
        "validation asked": {("u", "c")},  # and b, which nobody trained on
        "test shown": {("u", "a"), ("u", "c"), ("v", "c"), ("w", "d")},
        "test asked": {("u", "d"), ("v", "a")},
    }
    assert made.notes["validation_unreachable"] == made.notes["test_unreachable"] == 1
    assert made.notes["test_users_without_history"] == 1
    assert made.notes["users_never_trained"] == 1
    assert made.notes["test_from"] == "1970-01-11T00:00:00+00:00"


@settings(max_examples=10, deadline=None)
@given(frame=frames(), quantile=st.floats(0.3, 0.95))
def test_temporal_never_learns_from_the_future(frame, quantile):
    _, made = made_by("temporal", frame, quantile=quantile)
    when = {
        (str(u), str(i)): t for u, i, t in frame[["user", "item", "time"]].itertuples(index=False)
    }
    held = contents(made)

    def times_of(name):
        return [when[pair] for pair in held.get(name, ())]

    for name in ("validation", "test"):
        earliest = min(times_of(f"{name} asked"), default=np.inf)
        assert max(times_of("train")) < earliest
        assert max(times_of(f"{name} shown"), default=-1) < earliest


@pytest.mark.parametrize("protocol", ["leave-last", "temporal"])
def test_protocols_of_time_need_times(protocol):
    with pytest.raises(DataError, match="the data has no times; name the column with --time-col"):
        split(interactions_from(grid(4, 4)[["user", "item"]]), protocol)


def test_temporal_refuses_dates_that_leave_a_side_empty():
    data = interactions_from(grid(4, 4))
    with pytest.raises(DataError, match="16 of 16 interactions are before 2001-01-01T"):
        split(data, "temporal", at="2001-01-01")
    with pytest.raises(DataError, match="0 of 16 interactions are before 1970-01-01T"):
        split(data, "temporal", at="1970-01-01")
    with pytest.raises(DataError, match="at or after .*, the start of validation"):
        split(interactions_from(grid(1, 2)), "temporal", quantile=0.5)
    with pytest.raises(ConfigError, match="at is 'soon'; it is an ISO 8601 date"):
        split(data, "temporal", at="soon")
    with pytest.raises(ConfigError, match="give one of them"):
        split(data, "temporal", at="2001-01-01", quantile=0.5)


# the registry


def test_unknown_names_are_refused_with_what_is_accepted():
    data = interactions_from(grid(10, 4))
    with pytest.raises(ConfigError, match="unknown protocol 'wek'; known are strong, mult-vae, "):
        split(data, "wek")
    with pytest.raises(
        ConfigError, match="'strong' has no option 'heldout'; it accepts held_out_users, target_fr"
    ):
        split(data, "strong", heldout=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out_users": "3"}, "option held_out_users is '3'; it is of type int | float | None"),
        ({"held_out_users": True}, "option held_out_users is True"),
        ({"target_fraction": None}, "option target_fraction is None; it is of type float"),
        ({"target_fraction": 1}, "target_fraction is 1; above 0 and below 1 is accepted"),
        ({"held_out_users": 0}, "held_out_users is 0; above 0 is accepted"),
        ({"held_out_users": 1.0}, "held_out_users is 1.0; a whole number or a share below 1"),
        ({"rng": -1}, "rng is -1; at least 0 is accepted"),
    ],
)
def test_values_are_checked(options, message):
    with pytest.raises(ConfigError) as caught:
        split(interactions_from(grid(10, 4)), "strong", **options)
    assert message in str(caught.value)


def test_numpy_numbers_are_numbers():
    made = split(interactions_from(grid(10, 4)), "strong", held_out_users=np.int64(2))
    assert made.options["held_out_users"] == 2
    assert type(made.options["held_out_users"]) is int


def test_no_interactions_are_refused():
    empty = interactions_from(grid(4, 4)).take_entries(np.zeros(0, dtype=np.int64))
    with pytest.raises(DataError, match="there are no interactions to split"):
        split(empty, "all")


def test_ids_sort_as_numbers_only_when_all_are():
    assert id_order(IdMap(["10", "9", "-3", "0"])).tolist() == [2, 3, 1, 0]
    assert id_order(IdMap(["10", "9", "007"])).tolist() == [2, 0, 1]
    assert id_order(IdMap([str(10**30), "2"])).tolist() == [1, 0]


def test_a_cut_leaves_something():
    assert cut_sizes(np.array([2, 3, 10]), 0.999999).tolist() == [1, 2, 9]


# published splits


def dataset(name):
    root = os.environ.get("RECAE_DATASETS")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"RECAE_DATASETS names no directory with {name}")
    return Path(root) / name / "interactions.parquet"


@pytest.mark.datasets
def test_gowalla_is_the_split_of_lightgcn():
    data = read_interactions(dataset("gowalla"), split_col="split")
    made = split(data, "column")
    assert (made.train.n_users, made.train.n_items) == (29_858, 40_981)
    assert (made.train.matrix.nnz, made.test.target.nnz) == (810_128, 217_242)
    assert made.validation is None
    assert len(made.test) == 29_858
    assert made.notes["test_unreachable"] == 0


@pytest.mark.datasets
def test_movielens_1m_is_the_split_of_infinite_ae():
    data = read_interactions(dataset("ml-1m"), split_col="split_infinite_ae", rating_col="rating")
    made = split(data, "column")
    counts = [
        made.train.matrix.nnz,
        made.validation.target.nnz + made.notes["validation_unreachable"],
        made.test.target.nnz + made.notes["test_unreachable"],
    ]
    assert counts == [791_718, 99_692, 108_799]
    assert made.test.exclude.matrix.nnz + made.notes["validation_unreachable"] == 99_692
