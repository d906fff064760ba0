"""What every recommender promises, for every model of the registry."""

import gc
import itertools
import tracemalloc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.errors import BundleError, ConfigError, DataError, NotFittedError
from recae.models.registry import MODELS, config_class, create, model_class
from recae.ranking.propose import recommend_chunk
from recae.ranking.scorer import lacking_of
from tests.toy import known

N_ITEMS = 30

# Small enough to fit in a moment, large enough to learn the data below.
NETWORK = {"epochs": 10, "batch_size": 20, "learning_rate": 0.03, "device": "cpu"}
OPTIONS = {
    "item-knn": {"k_neighbours": 12},
    "als": {"factors": 2, "regularization": 1.0, "iterations": 5},
    "bpr": {"factors": 2},
    "ease": {"l2": 5.0},
    "edlae": {"l2": 5.0},
    "gf-cf": {"n_vectors": 4},
    "mult-dae": {**NETWORK, "latent_dim": 8},
    "mult-vae": {**NETWORK, "hidden": (16,), "latent_dim": 8},
    "vanilla-ae": {**NETWORK, "epochs": 40, "latent_dim": 4},
    "recvae": {**NETWORK, "epochs": 60, "width": 24, "depth": 2, "latent_dim": 8, "dropout": 0.2},
    "toy": {**NETWORK, "epochs": 20, "width": 12},
}
UNPERSONAL = {"popular", "random"}


def interactions(lists, n_items=N_ITEMS):
    histories = Histories.from_lists(lists, n_items=n_items)
    return Interactions(
        matrix=histories.matrix,
        users=IdMap([f"u{i}" for i in range(len(lists))]),
        items=IdMap([f"i{i}" for i in range(n_items)]),
        order=np.arange(histories.matrix.nnz),
    )


def two_tastes(n_users=80, rng=0):
    """Users of even number like even items, the others odd; each knows two thirds of them."""
    draw = np.random.default_rng(rng)
    return [
        sorted((draw.choice(N_ITEMS // 2, N_ITEMS // 3, replace=False) * 2 + u % 2).tolist())
        for u in range(n_users)
    ]


@pytest.fixture(scope="module")
def train():
    return interactions(two_tastes())


@pytest.fixture(scope="module", autouse=True)
def toy():
    with known():
        yield


@pytest.fixture(scope="module", params=[*sorted(MODELS), "toy"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name, train):
    return create(name, OPTIONS.get(name, {})).fit(train)


@pytest.fixture(scope="module")
def asking():
    """Histories of strangers, of every length, the empty one included."""
    draw = np.random.default_rng(7)
    lists = [draw.choice(N_ITEMS, n, replace=False).tolist() for n in draw.integers(0, N_ITEMS, 40)]
    return Histories.from_lists([[], *lists, list(range(N_ITEMS))], n_items=N_ITEMS)


def same(one, other):
    np.testing.assert_array_equal(one.items, other.items)
    assert one.scores.tobytes() == other.scores.tobytes()


def evident(model, histories):
    """Items that something in each history speaks for, by the reasons that models give in words."""
    everything = np.ones((len(histories), N_ITEMS), dtype=bool)
    if model.name in ("ease", "edlae", "item-knn"):  # a row of the table for each item
        table = model.score(Histories.from_lists([[i] for i in range(N_ITEMS)], n_items=N_ITEMS))
        return (histories.matrix @ (table != 0)).astype(bool)
    if model.name in ("als", "gf-cf"):  # all that a vector of the history reaches
        return everything & (np.diff(histories.matrix.indptr) > 0)[:, None]
    return everything


def seen(histories, row):
    x = histories.matrix
    return set(x.indices[x.indptr[row] : x.indptr[row + 1]].tolist())


# ---- what it says of itself


def test_it_shows_the_options_that_are_not_usual_and_whether_it_is_fitted(name, model):
    kind = type(model).__name__
    assert repr(create(name)) == f"<{kind}(), not fitted>"
    assert repr(create("ease", {"l2": 5.0})) == "<EASE(l2=5.0), not fitted>"
    shown = repr(model)
    assert shown.startswith(f"<{kind}(")
    assert shown.endswith("), 30 items>")
    for option, value in OPTIONS.get(name, {}).items():
        assert (f"{option}={value!r}" in shown) == (value != getattr(config_class(name)(), option))


# ---- what it learns


def test_a_stranger_gets_the_rest_of_their_taste(model, name):
    """Known answer: who likes some even items is offered the other even ones, and vice versa."""
    strangers = two_tastes(20, rng=99)
    top = model.recommend(Histories.from_lists(strangers, n_items=N_ITEMS), k=N_ITEMS // 2 // 3)
    for user, listed in enumerate(top.items):
        right = set(range(user % 2, N_ITEMS, 2)) - set(strangers[user])
        if name not in UNPERSONAL:
            assert set(listed.tolist()) == right
    if name in UNPERSONAL:  # half the users are right by chance for some of the list, not all
        assert any(set(i.tolist()) - set(range(u % 2, N_ITEMS, 2)) for u, i in enumerate(top.items))


def test_fit_forgets_keeps_and_touches_nothing(name, model, train, asking):
    """One fit for three promises: fits of networks take a second."""
    data = interactions(two_tastes())
    before = data.fingerprint()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002  # the state to be left alone
    torch_state = torch.random.get_rng_state()
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()

    used = create(name, OPTIONS.get(name, {})).fit(interactions(two_tastes(6, rng=5)))
    assert used.fit(data) is used
    same(used.recommend(asking, k=9), model.recommend(asking, k=9))

    assert data.fingerprint() == before
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert (torch.random.get_rng_state() == torch_state).all()
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)

    x = data.matrix
    held = [weakref.ref(part) for part in (x, x.data, x.indices, x.indptr, data.order)]
    del data, x
    gc.collect()
    assert [ref() for ref in held] == [None] * 5


# ---- what it lists


def test_one_user_at_a_time_equals_the_batch(model, asking):
    batch = model.recommend(asking, k=7)
    for row in range(len(asking)):
        alone = model.recommend(asking.take(slice(row, row + 1)), k=7)
        assert alone.items[0].tolist() == batch.items[row].tolist()
        assert alone.scores[0].tobytes() == batch.scores[row].tobytes()


def test_chunks_of_rows_change_nothing(model, asking, monkeypatch):
    expected = model.recommend(asking, k=7)
    monkeypatch.setattr("recae.ranking.scorer.MAX_CELLS", 5 * N_ITEMS)
    monkeypatch.setattr(type(model), "users_per_pass", 1)
    same(model.recommend(asking, k=7), expected)


def test_shuffled_users_get_their_lists_shuffled(model, asking):
    order = np.random.default_rng(1).permutation(len(asking))
    expected = model.recommend(asking, k=7)
    shuffled = model.recommend(asking.take(order), k=7)
    assert shuffled.items.tolist() == expected.items[order].tolist()
    assert shuffled.scores.tobytes() == expected.scores[order].tobytes()


def test_values_of_the_training_part_do_not_matter(model, name, train, asking):
    draw = np.random.default_rng(5)
    matrix = train.matrix.copy()
    matrix.data = draw.choice(np.float32([0.5, 3, 5]), matrix.nnz)
    rated = create(name, OPTIONS.get(name, {})).fit(replace(train, matrix=matrix))
    same(rated.recommend(asking, k=9), model.recommend(asking, k=9))


def test_values_of_a_history_do_not_matter(model, asking):
    louder = asking.matrix.copy()
    louder.data = louder.data * np.float32(3)
    same(model.recommend(Histories(louder, asking.order), k=7), model.recommend(asking, k=7))


def test_the_order_of_a_history_matters_to_models_that_say_so(model, asking):
    turned = Histories(asking.matrix, -asking.order)
    lists, others = (model.recommend(h, k=7) for h in (asking, turned))
    if model.ordered:
        assert (lists.items != others.items).any()
    else:
        same(lists, others)


def test_a_seen_item_is_listed_only_when_asked_for(model, asking):
    hidden = model.recommend(asking, k=N_ITEMS)
    shown = model.recommend(asking, k=N_ITEMS, exclude_seen=False)
    for row in range(len(asking)):
        listed = hidden.items[row][hidden.items[row] >= 0].tolist()
        known = set(np.flatnonzero(evident(model, asking)[row]).tolist())
        assert sorted(listed) == sorted(known - seen(asking, row))
        assert sorted(shown.items[row][shown.items[row] >= 0].tolist()) == sorted(known)


def test_lists_are_ordered_by_score_then_item(model, asking):
    top = model.recommend(asking, k=N_ITEMS, exclude_seen=False)
    key = [list(zip(-s, i, strict=True)) for s, i in zip(top.scores, top.items, strict=True)]
    assert key == [sorted(row) for row in key]


def test_scores_are_those_of_all_items(model, asking):
    """Lists follow the scores that `score` gives, up to the rounding of the fast path."""
    top = model.recommend(asking, k=N_ITEMS, exclude_seen=False)
    fast = np.take_along_axis(model.score(asking), top.items, axis=1)
    allowed = model.scorer(asking).error_bound()[:, None]
    there = top.items >= 0
    off = np.abs(fast[there].astype(np.float64) - top.scores[there])
    assert (off <= np.broadcast_to(allowed, there.shape)[there]).all()


def test_a_shorter_list_starts_the_longer_one(model, asking):
    short, long = model.recommend(asking, k=3), model.recommend(asking, k=20)
    assert short.items.tolist() == long.items[:, :3].tolist()


def test_short_lists_are_padded_never_filled(model):
    everything_but_two = Histories.from_lists([range(2, N_ITEMS)], n_items=N_ITEMS)
    top = model.recommend(everything_but_two, k=N_ITEMS + 10)
    assert top.items.shape == (1, N_ITEMS + 10)
    assert sorted(top.items[0, :2].tolist()) == [0, 1]
    assert (top.items[0, 2:] == -1).all()
    assert np.isfinite(top.scores[0, :2]).all()
    assert np.isneginf(top.scores[0, 2:]).all()


def test_places_beyond_the_catalogue_cost_their_room_only(model):
    nobody = Histories.from_lists([[0]] * 4, n_items=N_ITEMS)
    model.recommend(nobody, k=3)  # what is made once is made before
    k = 500_000
    tracemalloc.start()
    top = model.recommend(nobody, k=k)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert top.items.shape == (4, k)
    assert (top.items[:, N_ITEMS - 1 :] == -1).all()
    assert peak < 1.5 * (top.items.nbytes + top.scores.nbytes)


def test_an_empty_history_is_legal(model):
    nobody = Histories.from_lists([[]], n_items=N_ITEMS)
    top = model.recommend(nobody, k=5)
    listed = top.items[0][top.items[0] >= 0].tolist()
    assert len(set(listed)) == len(listed) == min(5, evident(model, nobody).sum())
    assert np.isfinite(model.score(nobody)).all()


def test_the_callers_autocast_changes_nothing(model, asking):
    expected = model.recommend(asking, k=5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same(model.recommend(asking, k=5), expected)


def test_no_pairs_have_no_scores(model, asking):
    nothing = np.empty(0, dtype=np.int64)
    assert model.scorer(asking).exact(nothing, nothing).shape == (0,)


def test_no_histories_give_no_lists(model, asking):
    none = asking.take(slice(0, 0))
    assert model.recommend(none, k=5).items.shape == (0, 5)
    assert model.score(none).shape == (0, N_ITEMS)


def test_candidates_and_exclusions_hold_together(model, asking):
    candidates, exclude = np.array([1, 2, 3, 5, 8, 13, 21]), np.array([2, 8, 29])
    top = model.recommend(asking, k=5, candidates=candidates, exclude=exclude)
    full = model.recommend(asking, k=N_ITEMS)
    for row in range(len(asking)):
        expected = [i for i in full.items[row].tolist() if i in {1, 3, 5, 13, 21}][:5]
        assert top.items[row].tolist() == expected + [-1] * (5 - len(expected))


def test_exclusions_of_each_user_hold(model, asking):
    rows = [[(r * 7) % N_ITEMS, (r * 11 + 3) % N_ITEMS] for r in range(len(asking))]
    excluded = Histories.from_lists(rows, n_items=N_ITEMS)
    top = model.recommend(asking, k=6, exclude=excluded)
    full = model.recommend(asking, k=N_ITEMS)
    for row in range(len(asking)):
        expected = [i for i in full.items[row].tolist() if i not in rows[row]][:6]
        assert top.items[row].tolist() == (expected + [-1] * 6)[:6]


@given(
    history=st.lists(st.integers(0, N_ITEMS - 1), unique=True),
    company=st.lists(st.lists(st.integers(0, N_ITEMS - 1), unique=True), max_size=4),
    k=st.integers(1, N_ITEMS + 5),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_company_changes_nothing(model, history, company, k):
    alone = model.recommend(Histories.from_lists([history], n_items=N_ITEMS), k=k)
    both = model.recommend(Histories.from_lists([*company, history], n_items=N_ITEMS), k=k)
    assert alone.items[0].tolist() == both.items[-1].tolist()
    assert alone.scores[0].tobytes() == both.scores[-1].tobytes()
    listed = alone.items[0][alone.items[0] >= 0].tolist()
    known = evident(model, Histories.from_lists([history], n_items=N_ITEMS))[0]
    known[history] = False
    assert len(listed) == min(k, known.sum())
    assert not set(listed) & set(history)


# ---- on what lists depend


@pytest.fixture
def restored_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_number_of_threads_changes_nothing(model, asking, restored_threads):
    found = []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        found.append(model.recommend(asking, k=9))
    same(*found)


@pytest.mark.parametrize("batch_size", [1, 12, 1000])
def test_chunks_ranked_side_by_side_change_nothing(
    model, asking, batch_size, monkeypatch, restored_threads
):
    expected = model.recommend(asking, k=7, exclude=[2, 3])
    torch.set_num_threads(3)
    monkeypatch.setattr("recae.ranking.scorer.MAX_CELLS", 5 * N_ITEMS)
    monkeypatch.setattr(type(model), "users_per_pass", 1)
    batches = list(model.recommend_batches(asking, k=7, batch_size=batch_size, exclude=[2, 3]))
    assert [rows.start for rows, _ in batches] == list(range(0, len(asking), batch_size))
    assert batches[-1][0].stop == len(asking)
    assert np.concatenate([top.items for _, top in batches]).tolist() == expected.items.tolist()
    assert np.concatenate([top.scores for _, top in batches]).tobytes() == expected.scores.tobytes()
    assert torch.get_num_threads() == 3


def test_batches_are_refused_before_the_first(model, asking):
    with pytest.raises(ConfigError, match="batch_size is 0; at least 1 is accepted"):
        model.recommend_batches(asking, k=3, batch_size=0)
    with pytest.raises(DataError, match="candidates hold an index outside"):
        model.recommend_batches(asking, k=3, candidates=[N_ITEMS])


def every_exact(scorer, n_users, block):
    """Exact scores of all items of a block for all users, dense."""
    users, items = np.arange(n_users), np.arange(block.start, block.stop)
    flat = scorer.exact(np.repeat(users, len(items)), np.tile(items, n_users))
    return flat.reshape(n_users, len(items))


class Blurred:
    """A scorer whose fast scores are off by anything up to its error bound, which is `widened`."""

    def __init__(self, scorer, rng, widened=0.0):
        self.scorer, self.rng, self.widened = scorer, np.random.default_rng(rng), widened

    def blocks(self):
        bound = self.error_bound()
        for block, _ in self.scorer.blocks():
            exact = every_exact(self.scorer, len(bound), block).astype(np.float64)
            noise = self.rng.choice([-1.0, 1.0], exact.shape) * self.rng.random(exact.shape) ** 0.1
            blurred = exact + noise * bound[:, None]
            below = np.nextafter(blurred.astype(np.float32), np.float32(0))
            nearer = np.abs(blurred.astype(np.float32) - exact) <= bound[:, None]
            yield block, torch.from_numpy(np.where(nearer, blurred, below).astype(np.float32))

    def exact(self, rows, items):
        return self.scorer.exact(rows, items)

    def lacking(self):
        return lacking_of(self.scorer)

    def error_bound(self):
        return np.maximum(self.scorer.error_bound(), self.widened)


@pytest.mark.parametrize("widened", [0.0, 0.01, 1.0])
def test_noise_in_the_fast_scores_changes_nothing(model, asking, widened):
    expected = model.recommend(asking, k=4)
    blurred = Blurred(model.scorer(asking), rng=3, widened=widened)
    same(recommend_chunk(blurred, asking, 4, [asking.matrix], None), expected)


# ---- what it refuses


def test_unfitted_models_say_so(name, asking):
    unfitted = create(name, OPTIONS.get(name, {}))
    message = f"{name} is not fitted; call fit first"
    for call in (
        lambda: unfitted.recommend(asking, k=3),
        lambda: unfitted.score(asking),
        lambda: unfitted.n_items,
        unfitted.arrays,
    ):
        with pytest.raises(NotFittedError, match=message):
            call()


def test_histories_over_other_items_are_refused(model):
    wrong = Histories.from_lists([[0]], n_items=N_ITEMS + 1)
    with pytest.raises(DataError, match=f"have {N_ITEMS + 1} columns; this model knows {N_ITEMS}"):
        model.recommend(wrong, k=3)


def test_lists_of_indices_are_arrays_of_them(model, asking):
    only, never = [1, 2, 3, 5, 8, 13, 21], [2, 8, 29]
    top = model.recommend(asking, k=5, candidates=only, exclude=never)
    same = model.recommend(asking, k=5, candidates=np.array(only), exclude=np.array(never))
    assert (top.items == same.items).all()
    assert (model.recommend(asking, k=5, candidates=[]).items == -1).all()
    with pytest.raises(DataError, match="candidates hold True; indices of items are accepted"):
        model.recommend(asking, k=5, candidates=[True])


@pytest.mark.parametrize("argument", ["candidates", "exclude"])
def test_indices_of_no_item_are_refused(model, asking, argument):
    for index in (-1, N_ITEMS):
        with pytest.raises(DataError, match=f"{argument} hold an index outside 0..{N_ITEMS - 1}"):
            model.recommend(asking, k=3, **{argument: np.array([0, index])})


def test_exclusions_for_other_users_are_refused(model, asking):
    with pytest.raises(DataError, match="exclude has shape"):
        model.recommend(asking, k=3, exclude=asking.take(slice(0, 3)))


def test_lists_of_no_length_are_refused(model, asking):
    with pytest.raises(ConfigError, match="k is 0; at least 1"):
        model.recommend(asking, k=0)


def test_unknown_options_are_refused(name):
    with pytest.raises(ConfigError, match="has no option 'surely_not'"):
        create(name, {"surely_not": 1})


# ---- what is stored


def test_a_stored_model_gives_the_same_lists(model, asking):
    arrays = {key: array.copy() for key, array in model.arrays().items()}
    loaded = type(model).from_arrays(model.config, arrays)
    assert loaded.n_items == N_ITEMS
    assert loaded.config == model.config
    same(loaded.recommend(asking, k=9), model.recommend(asking, k=9))
    again = loaded.arrays()
    assert {k: (a.dtype, a.tobytes()) for k, a in again.items()} == {
        k: (a.dtype, a.tobytes()) for k, a in arrays.items()
    }


def test_damaged_arrays_are_refused(model, name):
    kind, config, arrays = type(model), model.config, model.arrays()
    for key, array in arrays.items():
        for damaged in (array.astype(np.float16), array[None], array[:-1]):
            if name in {"popular", "als"} and damaged.shape == array[:-1].shape:
                continue  # a row fewer is a model of an item fewer
            with pytest.raises(BundleError):
                kind.from_arrays(config, {**arrays, key: damaged})
        with pytest.raises(BundleError):
            kind.from_arrays(config, {k: a for k, a in arrays.items() if k != key})
        if array.dtype.kind == "f" and array.size:
            for value in (np.nan, np.inf):
                damaged = array.copy()
                damaged.flat[-1] = value
                with pytest.raises(BundleError, match=f"{key} is not finite"):
                    kind.from_arrays(config, {**arrays, key: damaged})
    with pytest.raises(BundleError):
        kind.from_arrays(config, {**arrays, "more": np.zeros(3, dtype=np.float32)})
    with pytest.raises(BundleError):
        kind.from_arrays(config, {})


def test_the_config_is_the_registrys(model, name):
    assert type(model) is model_class(name)
    assert type(model.config) is config_class(name)
    assert model.name == name
    assert replace(model.config) == model.config


# ---- the proof behind every list


class Given:
    """Scorer of a given table."""

    def __init__(self, scores, blurred, bound, block):
        self.scores, self.blurred, self.bound, self.block = scores, blurred, bound, block

    def blocks(self):
        for start in range(0, self.scores.shape[1], self.block):
            block = slice(start, min(self.scores.shape[1], start + self.block))
            yield block, torch.from_numpy(self.blurred[:, block].copy())

    def exact(self, rows, items):
        return self.scores[rows, items]

    def error_bound(self):
        return self.bound


def sorted_list(scores, hidden, allowed, k):
    """Top k of one user by sorting everything."""
    eligible = [i for i in range(len(scores)) if i not in hidden and allowed[i]]
    best = sorted(eligible, key=lambda i: (-scores[i], i))[:k]
    return best + [-1] * (k - len(best))


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_lists_are_exact_whatever_the_noise_and_the_ties(data):
    """Scores of few values, so that nearly all are tied; fast ones anywhere within the bound."""
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    n_users, n_items = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 200))
    k, block = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 80))
    n_values = data.draw(st.sampled_from([1, 2, 3, 50]))
    scores = draw.integers(0, n_values, (n_users, n_items)).astype(np.float32)
    bound = draw.choice([0.0, 0.25, 1.0, 2.5], n_users)
    noise = draw.uniform(-1, 1, scores.shape).round(data.draw(st.sampled_from([0, 3])))
    blurred = (scores + noise * bound[:, None] * 0.999).astype(np.float32)
    hidden = csr_array(draw.random(scores.shape) < draw.choice([0.0, 0.1, 0.9]), dtype=np.float32)
    allowed = draw.random(n_items) < 0.8 if data.draw(st.booleans()) else None
    histories = Histories(csr_array((n_users, n_items), dtype=np.float32))
    top = recommend_chunk(Given(scores, blurred, bound, block), histories, k, [hidden], allowed)
    for user in range(n_users):
        expected = sorted_list(
            scores[user],
            set(np.flatnonzero(hidden.toarray()[user]).tolist()),
            np.ones(n_items, dtype=bool) if allowed is None else allowed,
            k,
        )
        assert top.items[user].tolist() == expected
        listed = [i for i in expected if i >= 0]
        assert top.scores[user, : len(listed)].tolist() == scores[user, listed].tolist()


def test_noise_that_hides_the_best_item_is_seen_through():
    """The best item comes last by fast score: only the widest proposal finds it."""
    n_items = 5000
    scores = np.linspace(1, 2, n_items, dtype=np.float32)[None, :]
    blurred = scores[:, ::-1].copy()
    histories = Histories(csr_array((1, n_items), dtype=np.float32))
    scorer = Given(scores, blurred, np.array([1.0]), block=700)
    top = recommend_chunk(scorer, histories, 3, [], None)
    assert top.items.tolist() == [[n_items - 1, n_items - 2, n_items - 3]]


@pytest.mark.parametrize("network", ["mult-dae", "mult-vae"])
def test_the_error_of_a_reconstruction_is_the_mean_surprise(network, train, asking):
    model = create(network, OPTIONS[network]).fit(train)
    scores = model.score(asking).astype(np.float64)
    log_shares = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    expected = [
        -log_shares[row, asking.matrix.indices[start:end]].mean() if end > start else np.nan
        for row, (start, end) in enumerate(itertools.pairwise(asking.matrix.indptr))
    ]
    np.testing.assert_allclose(model.reconstruction_error(asking), expected, rtol=1e-6)
    nobody = Histories.from_lists([], n_items=N_ITEMS)
    assert model.reconstruction_error(nobody).shape == (0,)
