"""The service: ids in, ids out, nothing silently left out or filled up."""

import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recae
from recae.data.ids import IdMap
from recae.errors import BundleError, ConfigError, DataError, NoKnownItemError, UnknownIdError
from recae.ranking.recommender import Recommender
from recae.serving import (
    Cohort,
    Reason,
    Recommendations,
    RecommendationService,
    Request,
    ScoredItem,
    load_bundle,
)
from tests.model_directories import ITEMS, TITLES, USERS, interactions, save


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "films"
    save(directory)
    return directory


@pytest.fixture(scope="module")
def films(saved: Path) -> RecommendationService:
    return RecommendationService.open(saved)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of histories of each call of a model."""
    seen: list[int] = []
    real = Recommender.recommend

    def counted(self: Recommender, histories: Any, **options: Any) -> Any:
        seen.append(len(histories))
        return real(self, histories, **options)

    monkeypatch.setattr(Recommender, "recommend", counted)
    return seen


def ids(answer: Recommendations) -> list[str]:
    return [item.item for item in answer.items]


# ---------------------------------------------------------------- known users and histories


def test_a_known_user_gets_the_models_list(films: RecommendationService) -> None:
    answer = films.recommend(user="u1", k=3)
    data = interactions()
    top = films.bundle.model.recommend(data.histories().take(slice(0, 1)), k=3)
    assert ids(answer) == data.items.ids_at(top.items[0])
    assert [item.score for item in answer.items] == top.scores[0].tolist()
    assert [item.rank for item in answer.items] == [1, 2, 3]
    assert [item.title for item in answer.items] == [TITLES[i] for i in top.items[0]]
    assert (answer.user, answer.source, answer.complete) == ("u1", "model", True)
    assert (answer.model_name, answer.model_version) == ("ease", films.version)
    assert answer.warnings == ()


@pytest.mark.parametrize("user", USERS)
def test_a_user_and_the_users_history_get_the_same_list(
    films: RecommendationService, user: str
) -> None:
    known = films.recommend(user=user, k=6)
    folded_in = films.recommend(history=films.history(user), k=6)
    assert folded_in.items == known.items
    assert (folded_in.user, folded_in.source) == (None, "fold_in")


def test_histories_are_oldest_first(films: RecommendationService) -> None:
    assert films.history("u1") == ["NA", "m1"]
    assert films.history("Ann") == ["m5", "m2"]
    with pytest.raises(UnknownIdError, match="user 'Bob' is not known"):
        films.history("Bob")


def test_the_service_describes_itself(films: RecommendationService, tmp_path: Path) -> None:
    assert (films.model_name, films.n_items, films.n_users) == ("ease", 6, 5)
    save(tmp_path, people=False)
    assert RecommendationService.open(tmp_path).n_users == 0


def test_lists_are_never_padded_and_say_so(films: RecommendationService) -> None:
    answer = films.recommend(user="u1", k=100)
    assert sorted(ids(answer)) == sorted(set(ITEMS) - {"m1", "NA", "m6"})  # nobody had m6
    assert not answer.complete
    assert ids(films.recommend(history=ITEMS, k=5)) == []
    everything = films.recommend(user="u1", k=5, exclude_seen=False)
    assert sorted(ids(everything)) == sorted(set(ITEMS) - {"m6"})
    assert everything.complete


def test_exclude_and_candidates_are_followed(films: RecommendationService) -> None:
    assert "m2" not in ids(films.recommend(user="u1", k=6, exclude=["m2"]))
    answer = films.recommend(user="u1", k=3, candidates=["m2", "m1", "m5"])
    assert sorted(ids(answer)) == ["m2", "m5"]  # m1 was seen
    assert not answer.complete
    answer = films.recommend(user="u1", candidates=["m2", "m5"], exclude=["m2"], k=1)
    assert ids(answer) == ["m5"]
    for none in ([], ["unheard-of"]):
        for asking in ({"user": "u1"}, {"history": ["x"], "fallback": "popular"}):
            answer = films.recommend(**asking, candidates=none)
            assert (answer.items, answer.complete) == ((), False)
            assert "no candidate is known; the list is empty" in answer.warnings


@pytest.mark.parametrize("k", [np.int64(3), np.int32(3), np.uint8(3)])
def test_whole_numbers_of_numpy_are_lengths(films: RecommendationService, k: Any) -> None:
    answer = films.recommend(user="u1", k=k)
    assert answer == films.recommend(user="u1", k=3)
    assert answer.complete is True
    (first, *_), *_ = films.recommend_all(["u1"], k=k)
    assert first == answer


_NO_TEXTS = """
import sys

import numpy as np
from recae.errors import ConfigError
from recae.serving import RecommendationService, Request

films = RecommendationService.open(sys.argv[1])
for ask in (
    lambda: films.recommend(user=5.0),
    lambda: films.recommend(user=True, fallback="popular"),
    lambda: films.recommend_many([Request(user=5.0)]),
    lambda: films.explain("m1", user=b"u1"),
    lambda: films.explain(np.True_, user="u1"),
    lambda: films.similar(5.0),
    lambda: films.history(None),
    lambda: films.recommend(history=["m1", 5.0, None]),
    lambda: films.recommend(history={"m1": 5.0}),
    lambda: films.recommend(history=5),
    lambda: films.recommend(user="u1", exclude=[[5]]),
    lambda: films.recommend(user="u1", k=2.5),
    lambda: films.recommend(user="u1", k="3"),
    lambda: films.recommend(user="u1", k=None),
):
    try:
        ask()
    except ConfigError as error:
        print(error)
    else:
        print("accepted")
"""


def test_what_is_no_id_is_refused_by_name(films: RecommendationService, tmp_path: Path) -> None:
    assert films._directory is not None
    done = subprocess.run(  # here annotations are checked first, which users' processes do not
        [sys.executable, "-c", _NO_TEXTS, films._directory],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "user is 5.0; ids are texts or whole numbers",
        "user is True; ids are texts or whole numbers",
        "user is 5.0; ids are texts or whole numbers",
        "user is b'u1'; ids are texts or whole numbers",
        "item is np.True_; ids are texts or whole numbers",
        "item is 5.0; ids are texts or whole numbers",
        "user is None; ids are texts or whole numbers",
        "history holds 5.0, None; ids are texts or whole numbers; a column that lacks a value holds"
        " floats: .dropna().astype(int)",
        "history is of type dict, whose values would be lost; a list of ids is accepted",
        "history is of type int; a list of ids is accepted",
        "exclude holds [5]; ids are texts or whole numbers",
        "k is 2.5; whole numbers from 1 are accepted",
        "k is '3'; whole numbers from 1 are accepted",
        "k is None; whole numbers from 1 are accepted",
    ]


NUMBERS = [
    lambda values: values,
    np.array,
    lambda values: pd.Series(values, dtype="int32"),
    lambda values: pd.Series(values, dtype="Int64"),
]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> RecommendationService:
    """People and items whose ids are numbers, as most tables have them."""
    users = [7, 7, 8, 8, 9, 9, 10]
    frame = pd.DataFrame({"user": users, "item": [260, 1, 260, 2, 1, 2, 260]})
    data = recae.read_interactions(frame)
    directory = tmp_path_factory.mktemp("models") / "numbered"
    recae.save(recae.EASE(l2=1.0).fit(data), directory, data=data)
    return recae.load(directory)


@pytest.mark.parametrize("kind", NUMBERS, ids=["list", "array", "series", "nullable"])
def test_whole_numbers_are_ids_wherever_ids_are_given(
    numbered: RecommendationService, kind: Any
) -> None:
    (user,), items = kind([7]), kind([260, 1])
    assert numbered.recommend(user=user) == numbered.recommend(user="7")
    assert numbered.recommend(user=user).user == "7"
    as_text = numbered.recommend(history=["260", "1"], exclude=["2"], candidates=["260", "2"])
    found = numbered.recommend(history=items, exclude=kind([2]), candidates=kind([260, 2]))
    assert found == as_text
    assert numbered.recommend_many([Request(user=user)]) == [numbered.recommend(user="7")]
    assert numbered.similar(items[0], exclude=kind([2])) == numbered.similar("260", exclude=["2"])
    assert numbered.explain(items[0], user=user) == numbered.explain("260", user="7")
    assert numbered.history(user) == ["260", "1"]
    (chunk,) = numbered.recommend_all(kind([7, 9]))
    assert [answer.user for answer in chunk] == ["7", "9"]


def test_whole_numbers_are_ids_of_an_id_map() -> None:
    numbers = IdMap(np.array([7, 70]))
    assert numbers == IdMap(["7", "70"])
    assert numbers.indices_of([70]).tolist() == [1]
    assert 7 in numbers
    assert 7.0 not in numbers
    assert "07" not in numbers


# ---------------------------------------------------------------- several people


def test_a_cohort_is_a_sequence_of_the_lists_of_its_people(
    films: RecommendationService, calls: list[int]
) -> None:
    lists = films.recommend(users=iter(["é", "u1", "u1"]), k=2, exclude=["m6"])
    assert calls == [3]
    alone = [films.recommend(user=user, k=2, exclude=["m6"]) for user in ("é", "u1")]
    assert list(lists) == [*alone, alone[1]]
    assert (len(lists), lists[0], lists[-1], lists.unknown) == (3, alone[0], alone[1], ())
    assert lists[1:] == (alone[1], alone[1])
    assert len(films.recommend(users=[])) == 0


def test_somebody_unknown_costs_nobody_else_the_list(films: RecommendationService) -> None:
    lists = films.recommend(users=["u1", "U1", "é"], k=2)
    assert lists.unknown == ("U1",)
    assert [answer.user for answer in lists] == ["u1", "U1", "é"]
    assert (lists[1].items, lists[1].complete) == ((), False)
    assert lists[1].warnings == ("user 'U1' is not known, 5 users are; did you mean 'u1'",)
    assert lists[2] == films.recommend(user="é", k=2)
    assert "not known: 'U1'" in repr(lists)
    popular = films.recommend(users=["u1", "U1"], k=2, fallback="popular")
    assert (popular.unknown, popular[1].source) == ((), "popularity")


def test_answers_are_frames_in_the_columns_of_files(films: RecommendationService) -> None:
    lists = films.recommend(users=["u1", "nobody", "é"], k=2)
    frame = lists.to_frame()
    assert list(frame.columns) == ["user_id", "item_id", "score", "rank", "title"]
    assert frame["user_id"].tolist() == ["u1", "u1", "é", "é"]
    assert frame["rank"].tolist() == [1, 2, 1, 2]
    assert frame["item_id"].tolist() == ids(lists[0]) + ids(lists[2])
    assert frame["score"].tolist() == [i.score for a in (lists[0], lists[2]) for i in a.items]
    assert lists[0].to_frame().equals(frame[:2])
    titled = films.recommend(user="u1", k=6, exclude_seen=False).to_frame()
    titles = dict(zip(titled["item_id"], titled["title"], strict=True))
    assert titles["m5"] == "Five"
    assert pd.isna(titles["m2"])
    none = films.recommend(users=[]).to_frame()
    assert none.dtypes[["score", "rank"]].tolist() == [np.float64, np.int64]
    near = films.similar("m1", k=2).to_frame()
    assert list(near.columns) == ["target_item_id", *frame.columns[1:]]
    assert near["target_item_id"].tolist() == ["m1", "m1"]
    why = films.explain("m2", user="u1").to_frame()
    assert list(why.columns) == ["item_id", "weight", "title"]
    assert len(why) == 2


def test_answers_show_themselves_in_a_few_words_and_as_html(
    films: RecommendationService,
) -> None:
    answer = films.recommend(user="u1", k=6, fallback="popular")
    assert repr(answer).startswith("Recommendations(user='u1', 4 items: '010' 'Ten' 0.06")
    assert repr(answer).endswith(" and 1 more; 1 warnings)")
    wicked = "<script>alert('é')</script>" * 400
    place = ScoredItem(wicked, 1, 0.5, wicked)
    of_one = replace(answer, user=wicked, items=(place,) * 100, warnings=(wicked,) * 9)
    near = replace(films.similar("m1"), item=wicked, title=wicked, items=(place,) * 100)
    reason = Reason(wicked, 0.5, wicked)
    why = replace(films.explain("m2", user="u1"), item=wicked, title=wicked, reasons=(reason,) * 9)
    for shown in (of_one, near, why, Cohort((of_one,) * 99, (wicked,) * 99)):
        assert len(repr(shown)) < 600
        html = shown._repr_html_()
        assert html.startswith("<table>")
        assert "<script" not in html
        assert "&lt;script&gt;alert(&#x27;é&#x27;)" in html


def test_repeated_items_of_a_history_count_once(films: RecommendationService) -> None:
    once, twice = films.recommend(history=["m1"]), films.recommend(history=["m1", "m1"])
    assert once.items == twice.items


def test_unknown_ids_are_told(films: RecommendationService) -> None:
    unknown = [f"x{i}" for i in range(7)]
    answer = films.recommend(
        history=["m1", *unknown], exclude=["y"], candidates=["m2", "z", "m5"], k=2
    )
    assert answer.warnings == (
        "1 of 1 ids of exclude are not known: 'y'",
        "1 of 3 ids of candidates are not known: 'z'",
        "7 of 8 ids of history are not known: 'x0', 'x1', 'x2', 'x3', 'x4' and 2 more",
    )
    assert answer.items == films.recommend(history=["m1"], candidates=["m2", "m5"], k=2).items
    assert films.recommend(user="u1", candidates=["z"]).items == ()


# ---------------------------------------------------------------- nobody knows


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("U1", "user 'U1' is not known, 5 users are; did you mean 'u1'"),
        (" u1\n", r"user ' u1\\n' is not known, 5 users are; did you mean 'u1'"),
        ("7", "did you mean '007'"),
        ("0007", "did you mean '007'"),
        ("É", "did you mean 'é'"),
        ("ann", "did you mean 'Ann'"),
        ("u2", "user 'u2' is not known, 5 users are$"),
        ("", "user '' is not known, 5 users are$"),
        ("\ud800", r"user '\\ud800' is not known, 5 users are$"),
        ("x" * 9999, rf"user '{'x' * 80}…' is not known"),
    ],
)
def test_an_unknown_user_is_refused_with_a_hint(
    films: RecommendationService, asked: str, said: str
) -> None:
    with pytest.raises(UnknownIdError, match=said) as caught:
        films.recommend(user=asked)
    assert not isinstance(caught.value, NoKnownItemError)


def test_a_history_of_which_nothing_is_known_has_its_own_error(
    films: RecommendationService,
) -> None:
    said = "no item of the history is known: 'M1', 'x'; 6 items are; did you mean 'm1'"
    with pytest.raises(NoKnownItemError, match=said):
        films.recommend(history=["M1", "x"])


def test_a_model_without_people_says_so(tmp_path: Path) -> None:
    save(tmp_path, people=False)
    service = RecommendationService.open(tmp_path)
    with pytest.raises(UnknownIdError, match="saved without people; give a history"):
        service.recommend(user="u1")
    with pytest.raises(ConfigError, match="saved without people"):
        next(service.recommend_all())
    assert service.recommend(history=["m1"]).items


@pytest.mark.parametrize("asked", [{"user": "Bob"}, {"history": ["x"]}, {"history": []}])
def test_the_fallback_is_what_most_people_chose_and_says_so(
    films: RecommendationService, asked: dict[str, Any]
) -> None:
    answer = films.recommend(**asked, k=4, fallback="popular")
    assert answer.source == "popularity"
    assert ids(answer) == ["m1", "m2", "NA", "010"]  # ties in item order
    assert [item.score for item in answer.items] == [4, 2, 2, 1]
    assert answer.complete
    assert answer.warnings
    answer = films.recommend(
        **asked, k=4, fallback="popular", exclude=["m1"], candidates=["m6", "m1", "m2"]
    )
    assert ids(answer) == ["m2", "m6"]
    assert not answer.complete


def test_the_fallback_is_for_nobody_else(films: RecommendationService) -> None:
    for asked in ({"user": "u1", "k": 2}, {"history": ["m1", "x"], "k": 2}):
        with_it = films.recommend(**asked, fallback="popular")  # type: ignore[arg-type]  # either
        assert with_it == films.recommend(**asked)  # type: ignore[arg-type]  # either


def test_an_empty_history_is_answered_with_a_warning(films: RecommendationService) -> None:
    answer = films.recommend(history=[], k=6)
    assert (answer.source, answer.items) == ("fold_in", ())  # EASE has nothing to say to it
    assert answer.warnings == (
        "the history is empty; the list is the same for everybody",
        "0 of 6 places are filled: 6 of 6 items are eligible, and nothing in the history speaks for"
        " 6 others",
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "exactly one of user, history and users"),
        ({"user": "u1", "history": ["m1"]}, "exactly one of user, history and users"),
        ({"user": "u1", "users": ["u1"]}, "exactly one of user, history and users"),
        ({"users": "u1"}, "users is the text 'u1'; a list of ids is accepted"),
        ({"users": pd.DataFrame({"user": ["u1"]})}, "users is of type DataFrame; .* one column"),
        ({"user": "u1", "k": 0}, "k is 0; whole numbers from 1"),
        ({"user": "u1", "k": -3}, "k is -3"),
        ({"user": "u1", "k": True}, "k is True"),
        ({"history": "m1"}, "history is the text 'm1'; a list of ids is accepted"),
        ({"user": "u1", "exclude": "m1"}, "exclude is the text 'm1'"),
        ({"user": "u1", "candidates": "m1"}, "candidates is the text 'm1'"),
    ],
)
def test_what_is_not_accepted_is_refused(
    films: RecommendationService, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        films.recommend(**asked)


# ---------------------------------------------------------------- many


def test_many_are_answered_by_one_call(films: RecommendationService, calls: list[int]) -> None:
    requests = [Request(user=user, k=k) for user, k in zip(USERS, (1, 2, 3, 4, 5), strict=True)]
    answers = films.recommend_many(requests)
    assert calls == [5]
    assert answers == [films.recommend(user=r.user, k=r.k) for r in requests]


def test_other_exclusions_need_no_other_call(
    films: RecommendationService, calls: list[int]
) -> None:
    films.recommend_many([Request(history=("m1",), exclude=(item,)) for item in ITEMS])
    assert calls == [6]


def test_one_error_does_not_take_the_others_with_it(films: RecommendationService) -> None:
    requests = [Request(user="u1"), Request(user="Bob"), Request(history=("x",))]
    good, unknown, nothing = films.answer_many(requests)
    assert good == films.recommend(user="u1")
    assert isinstance(unknown, UnknownIdError)
    assert isinstance(nothing, NoKnownItemError)
    with pytest.raises(UnknownIdError, match="Bob"):
        films.recommend_many(requests)
    assert films.recommend_many([]) == []


_IDS = st.lists(st.sampled_from([*ITEMS, "x"]), max_size=4).map(tuple)
_WHO = st.one_of(
    st.fixed_dictionaries({"user": st.sampled_from([*USERS, "Bob"])}),
    st.fixed_dictionaries({"history": _IDS}),
)
_HOW = st.fixed_dictionaries(
    {
        "k": st.integers(1, 8),
        "exclude_seen": st.booleans(),
        "exclude": _IDS,
        "candidates": st.none() | _IDS,
        "fallback": st.sampled_from(["none", "popular"]),
    }
)


@settings(deadline=None, max_examples=50)
@given(asked=st.lists(st.tuples(_WHO, _HOW), max_size=6))
def test_together_is_as_alone_and_every_rule_holds(
    films: RecommendationService, asked: list[tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    requests = [Request(**who, **how) for who, how in asked]
    together = films.answer_many(requests)
    for request, answer in zip(requests, together, strict=True):
        alone = films.answer_many([request])[0]
        if isinstance(answer, DataError):
            assert request.fallback == "none"
            assert (type(alone), str(alone)) == (type(answer), str(answer))
            continue
        assert alone == answer
        listed = ids(answer)
        assert len(set(listed)) == len(listed) <= request.k
        assert answer.complete == (len(listed) == request.k)
        assert not set(listed) & set(request.exclude)
        if request.candidates is not None:
            assert set(listed) <= set(request.candidates)
        seen = set(request.history or ())
        if request.user in USERS:
            assert request.user is not None
            seen = set(films.history(request.user))
        if request.exclude_seen:
            assert not set(listed) & seen
        allowed = set(ITEMS if request.candidates is None else request.candidates) & set(ITEMS)
        allowed -= set(request.exclude) | (seen if request.exclude_seen else set())
        scores = [item.score for item in answer.items]
        if request.fallback == "popular":  # which fills the list
            assert len(listed) == min(request.k, len(allowed))
            scores = scores[: scores.index(0.0)] if 0.0 in scores else scores
        assert 0.0 not in scores
        assert scores == sorted(scores, reverse=True)


def test_everybody_is_answered_in_chunks(
    films: RecommendationService, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recae.serving.service._ROWS", 2)
    chunks = list(films.recommend_all(k=2, exclude=["m6"]))
    assert [len(chunk) for chunk in chunks] == calls == [2, 2, 1]
    answers = [answer for chunk in chunks for answer in chunk]
    assert answers == [films.recommend(user=user, k=2, exclude=["m6"]) for user in USERS]
    some = [answer for chunk in films.recommend_all(["é", "u1"]) for answer in chunk]
    assert [answer.user for answer in some] == ["é", "u1"]


def test_everybody_must_be_known_before_anybody_is_answered(
    films: RecommendationService, calls: list[int]
) -> None:
    with pytest.raises(UnknownIdError, match="unknown ids: 'Bob'"):
        next(films.recommend_all(["u1", "Bob"]))
    assert calls == []


# ---------------------------------------------------------------- reload


def test_reload_follows_the_directory(saved: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(saved, tmp_path / "films"))
    service = RecommendationService.open(root)
    assert service.reload() is False
    version = save(root, l2=50.0)
    assert service.recommend(user="u1").model_version != version
    assert service.reload() is True
    assert service.recommend(user="u1").model_version == service.version == version


def test_reload_follows_the_directory_wherever_the_process_goes(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(saved, tmp_path / "films"))
    monkeypatch.chdir(tmp_path)
    service = RecommendationService.open("films")
    version = save(root, l2=50.0)
    monkeypatch.chdir("/")
    assert service.reload() is True
    assert service.version == version


@pytest.mark.parametrize("damage", ["pointer", "weights", "gone"])
def test_a_damaged_model_is_refused_and_the_old_one_stays(
    saved: Path, tmp_path: Path, damage: str
) -> None:
    root = Path(shutil.copytree(saved, tmp_path / "films"))
    service = RecommendationService.open(root)
    before = service.recommend(user="u1")
    version = save(root, l2=50.0)
    weights = root / version / "model.safetensors"
    content = weights.read_bytes()
    if damage == "pointer":
        (root / "CURRENT").write_text("v-")
    elif damage == "weights":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        shutil.rmtree(root)
    with pytest.raises(BundleError):
        service.reload()
    assert service.recommend(user="u1") == before
    if damage == "weights":
        weights.write_bytes(content)
        assert service.reload() is True


def test_a_service_of_a_bundle_has_nothing_to_reload(saved: Path) -> None:
    with pytest.raises(ConfigError, match="made by open can reload"):
        RecommendationService(load_bundle(saved)).reload()


def test_no_answer_mixes_two_versions(saved: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(saved, tmp_path / "films"))
    service = RecommendationService.open(root)
    versions = [service.version, *(save(root, l2=l2, keep=9) for l2 in (5.0, 500.0))]
    manifests = {v: (root / v / "manifest.json").read_bytes() for v in versions}
    requests = [Request(user=user, k=6) for user in USERS] + [Request(history=("m1",), k=6)]
    right = {
        version: RecommendationService(load_bundle(root, version=version)).recommend_many(requests)
        for version in versions
    }
    wrong: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        try:
            while not stop.is_set():
                answers = service.recommend_many(requests)
                if answers != right[answers[0].model_version]:
                    wrong.append(answers)
        except Exception as error:  # noqa: BLE001  # reported by the assertion below
            wrong.append(error)

    from recae.serving import layout
    from recae.storage import write_atomic

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    askers = [threading.Thread(target=ask) for _ in range(3)]
    try:
        for asker in askers:
            asker.start()
        seen = set()
        for turn in range(20):
            version = versions[turn % 3]
            pointer = layout.pointer_line(version, layout.version_id(manifests[version])[1])
            write_atomic(root / "CURRENT", pointer)
            service.reload()
            seen.add(service.version)
    finally:
        stop.set()
        for asker in askers:
            asker.join()
        sys.setswitchinterval(switch)
    assert seen == set(versions)
    assert wrong == []


def test_reloads_happen_one_after_the_other(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(saved, tmp_path / "films"))
    service = RecommendationService.open(root)
    save(root, l2=50.0)
    active, most, loads = 0, 0, 0

    def slow(directory: Path) -> Any:
        nonlocal active, most, loads
        active, loads = active + 1, loads + 1
        most = max(most, active)
        threading.Event().wait(0.02)
        active -= 1
        return load_bundle(directory)

    monkeypatch.setattr("recae.serving.service.load_bundle", slow)
    threads = [threading.Thread(target=service.reload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, loads) == (1, 1)


def test_lists_of_all_users_are_the_models_lists(films: RecommendationService) -> None:
    """Indices and ids are aligned over the whole matrix, not for one user by luck."""
    data = interactions()
    top = films.bundle.model.recommend(data.histories(), k=3)
    for row, user in enumerate(USERS):
        expected = data.items.ids_at(top.items[row][top.items[row] >= 0])
        assert ids(films.recommend(user=user, k=3)) == expected
    assert np.isfinite(top.scores).any()
