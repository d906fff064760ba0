"""Baselines against `implicit` itself, and against their equations in plain loops."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, csr_matrix
from scipy.special import expit

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.data.protocols import split
from recae.data.readers import read_interactions
from recae.errors import BundleError, ConfigError, DataError, DivergedError
from recae.evaluation.evaluator import evaluate
from recae.models import singular
from recae.models.als import ALS, ALSConfig
from recae.models.bpr import BPR, BPRConfig
from recae.models.gf_cf import GFCF
from recae.models.implicit_fit import one_blas_thread
from recae.models.item_knn import ItemKNN
from recae.models.mult_vae import MultVAE
from recae.models.pairwise import N_DRAWS, even_draws, pairwise_users
from recae.models.popular import Popularity
from recae.models.random_lists import Random, RandomConfig


def interactions(matrix):
    matrix = csr_array(np.asarray(matrix, dtype=np.float32))
    return Interactions(
        matrix=Histories(matrix).matrix,
        users=IdMap([f"u{i}" for i in range(matrix.shape[0])]),
        items=IdMap([f"i{i}" for i in range(matrix.shape[1])]),
        order=np.arange(matrix.nnz),
    )


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(0)
    taste = rng.random((60, 3)) @ rng.random((3, 40))
    return interactions(rng.random((60, 40)) < 0.4 * taste)


def old_csr(train):
    x = train.matrix
    indices, indptr = x.indices.astype(np.int32), x.indptr.astype(np.int32)
    return csr_matrix((x.data, indices, indptr), shape=x.shape)


# ---- item-knn


@pytest.mark.filterwarnings("ignore:Method expects CSR input")  # their wrapper hands over a COO
@pytest.mark.parametrize("similarity", ["cosine", "bm25", "tf-idf"])
def test_item_knn_scores_like_implicit(train, similarity):
    from implicit import nearest_neighbours as nn

    kinds = {"cosine": nn.CosineRecommender, "tf-idf": nn.TFIDFRecommender}
    n_items = train.n_items  # as many neighbours as there are: the cut is then the same
    theirs = kinds[similarity](n_items) if similarity in kinds else nn.BM25Recommender(n_items)
    theirs.fit(old_csr(train), show_progress=False)
    table = theirs.similarity.toarray()
    np.fill_diagonal(table, 0.0)
    ours = ItemKNN(k_neighbours=n_items, similarity=similarity).fit(train)
    scores = ours.score(train.histories())
    np.testing.assert_allclose(scores, train.matrix @ table, rtol=1e-5, atol=1e-6 * table.max())


def test_item_knn_keeps_the_k_most_similar_others(train):
    x = train.matrix.toarray().astype(float)
    cosine = x.T @ x / np.sqrt(np.outer(x.sum(0), x.sum(0)))
    np.fill_diagonal(cosine, -1)
    model = ItemKNN(k_neighbours=5, similarity="cosine").fit(train)
    each_item = Histories.from_lists([[i] for i in range(train.n_items)], n_items=train.n_items)
    table = model.score(each_item)  # row = history, column = scored item
    for item in range(train.n_items):
        kept = np.flatnonzero(table[:, item])
        np.testing.assert_allclose(table[kept, item], cosine[item, kept], rtol=1e-5)
        best = np.sort(cosine[item])[-5:]  # which of equal ones is left to implicit
        np.testing.assert_allclose(np.sort(table[kept, item]), best, rtol=1e-5)


def test_item_knn_knows_the_user_who_has_all_items_but_one():
    """Their inverse frequency is log(n / n) = 0: `implicit` alone divides 0 by 0 here."""
    model = ItemKNN(similarity="tf-idf").fit(interactions([[1, 1, 1, 0], [1, 0, 0, 1]]))
    assert np.isfinite(model.score(Histories.from_lists([[0], [1]], n_items=4))).all()


@pytest.mark.parametrize("kind", [ItemKNN, GFCF])
def test_blocks_of_items_change_nothing(kind, monkeypatch):
    x = np.random.default_rng(6).random((90, 700)) < 0.01
    data = interactions(x)
    model = kind().fit(data)
    assert "weights" not in model.arrays()
    rows, every = np.repeat(np.arange(90), 700), np.tile(np.arange(700), 90)
    in_one = model.scorer(data.histories())
    (block, _) = next(iter(in_one.blocks()))
    assert block == slice(0, 700)
    whole, listed = in_one.exact(rows, every), model.recommend(data.histories(), k=20)
    monkeypatch.setattr("recae.ranking.scorer.MAX_CELLS", 700)
    in_many = model.scorer(data.histories())
    blocks = list(in_many.blocks())
    assert [b for b, _ in blocks] == [slice(0, 256), slice(256, 512), slice(512, 700)]
    assert in_many.exact(rows, every).tobytes() == whole.tobytes()
    fast = np.concatenate([s.numpy() for _, s in blocks], axis=1).astype(np.float64)
    assert (np.abs(fast - whole.reshape(90, 700)) <= in_many.error_bound()[:, None]).all()
    assert model.recommend(data.histories(), k=20).items.tolist() == listed.items.tolist()


# ---- als


def fitted_by_implicit(train, model):
    from implicit.cpu.als import AlternatingLeastSquares

    c = model.config
    with one_blas_thread():
        theirs = AlternatingLeastSquares(
            factors=c.factors,
            regularization=c.regularization,
            alpha=c.alpha,
            iterations=c.iterations,
            random_state=c.rng,
            num_threads=1,
        )
        theirs.fit(old_csr(train), show_progress=False)
    return theirs


def test_als_users_are_those_that_implicit_recalculates(train):
    model = ALS(factors=8, regularization=0.5, alpha=3.0, iterations=5).fit(train)
    theirs = fitted_by_implicit(train, model)
    np.testing.assert_allclose(
        model.arrays()["item_factors"],
        theirs.item_factors,
        atol=2.0**-21 * np.abs(theirs.item_factors).max(),  # the grid
    )
    users = np.arange(train.n_users)
    with one_blas_thread():
        expected = theirs.recalculate_user(users, old_csr(train))
    ours = model.user_factors(train.histories())
    np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4)  # theirs solves in float32


def test_als_users_minimise_the_stated_loss(train):
    model = ALS(factors=4, regularization=2.0, alpha=7.0, iterations=2).fit(train)
    y = model.arrays()["item_factors"].astype(np.float64)
    x = model.user_factors(train.histories())
    p = train.matrix.toarray().astype(np.float64)
    c = np.where(p > 0, 7.0, 1.0)
    slope = -2 * (c * (p - x @ y.T)) @ y + 2 * 2.0 * x
    assert np.abs(slope).max() < 1e-10


def test_als_does_not_depend_on_the_number_of_threads(train):
    from threadpoolctl import threadpool_limits

    found = []
    for n in (1, 2):
        with threadpool_limits(n):
            model = ALS(factors=72, iterations=2).fit(train)
            found.append((model.arrays()["item_factors"], model.user_factors(train.histories())))
    for one, two in zip(*found, strict=True):
        assert (one == two).all()


def test_one_blas_thread_restores_the_limit():
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads():
        return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}

    with threadpool_limits(2, "blas"):
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == {2}


# ---- bpr


@pytest.fixture(scope="module")
def bpr(train):
    return BPR(factors=6, iterations=20, learning_rate=0.05, rng=3).fit(train)


def test_bpr_is_the_fit_of_implicit_bias_included(train, bpr):
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    c = bpr.config
    theirs = BayesianPersonalizedRanking(
        factors=c.factors,
        learning_rate=c.learning_rate,
        regularization=c.regularization,
        iterations=c.iterations,
        random_state=c.rng,
        num_threads=1,
    )
    theirs.fit(old_csr(train), show_progress=False)
    arrays = bpr.arrays()
    grid = 2.0**-21 * np.abs(theirs.item_factors[:, :-1]).max()
    np.testing.assert_allclose(arrays["item_factors"], theirs.item_factors[:, :-1], atol=grid)
    counts = train.matrix.toarray().sum(axis=0)
    popular = c.popularity * np.log(1 + counts)
    np.testing.assert_allclose(arrays["item_bias"], theirs.item_factors[:, -1] + popular, rtol=1e-5)
    assert (theirs.user_factors[:, -1] == 1).all()
    assert (arrays["counts"] == counts).all()


def test_bpr_users_minimise_the_stated_loss(train, bpr):
    """Loss and slope in plain loops over pairs; the slope is 0, and a step aside costs."""
    arrays = bpr.arrays()
    y, b = arrays["item_factors"].astype(np.float64), arrays["item_bias"].astype(np.float64)
    b -= bpr.config.popularity * np.log1p(arrays["counts"])  # without what was not learnt
    disliked = even_draws(arrays["counts"].astype(np.float64), N_DRAWS)
    found = bpr.user_factors(train.histories())
    for user, row in enumerate(train.matrix.toarray()[:10]):
        pairs = [(i, j) for i in np.flatnonzero(row) for j in disliked if not row[j]]

        def loss(w, pairs=pairs):
            margins = [w @ (y[i] - y[j]) + b[i] - b[j] for i, j in pairs]
            fit = np.mean([math.log1p(math.exp(-m)) for m in margins])
            return fit + bpr.config.ridge / 2 * w @ w

        w = found[user]
        assert np.abs(w).max() > 0.1
        slope = bpr.config.ridge * w
        for i, j in pairs:
            lost = 1 / (1 + math.exp(w @ (y[i] - y[j]) + b[i] - b[j]))
            slope -= lost * (y[i] - y[j]) / len(pairs)
        assert np.abs(slope).max() < 1e-6
        draw = np.random.default_rng(user)
        assert loss(w) < min(loss(w + 0.01 * draw.standard_normal(6)) for _ in range(3))


def test_pairwise_users_halves_steps_that_lead_uphill():
    """Vectors so long that Newton's first step is far too wide."""
    items = (300 * np.random.default_rng(2).standard_normal((30, 5))).astype(np.float32)
    bias = np.linspace(-40, 40, 30, dtype=np.float32)
    row = csr_array(np.eye(1, 30, 4) + np.eye(1, 30, 7))
    w = pairwise_users(row, items, bias, np.arange(30), ridge=0.01)[0]
    y, b = items.astype(np.float64), bias.astype(np.float64)
    slope, others = 0.01 * w, [j for j in range(30) if j not in (4, 7)]
    for i in (4, 7):
        for j in others:
            margin = w @ (y[i] - y[j]) + b[i] - b[j]
            slope = slope - expit(-margin) * (y[i] - y[j]) / (2 * len(others))
    assert np.abs(slope).max() < 1e-6  # of differences as long as 2000


def test_pairwise_users_of_nothing_and_of_everything_are_0():
    items = np.ones((3, 2), dtype=np.float32)
    x = csr_array(np.array([[0, 0, 0], [1, 1, 1]]))
    found = pairwise_users(x, items, np.zeros(3, np.float32), np.arange(3), ridge=0.1)
    assert (found == 0).all()


def test_even_draws_follow_the_weights():
    drawn = even_draws(np.array([1.0, 0.0, 2.0, 5.0]), 16)
    assert np.bincount(drawn).tolist() == [2, 0, 4, 10]


def test_bpr_knows_of_a_stranger_without_history_the_biases_alone(bpr):
    scores = bpr.score(Histories.from_lists([[]], n_items=40))
    assert (scores[0] == bpr.arrays()["item_bias"]).all()


def test_bpr_says_how_it_folds_in():
    assert "minimises the loss" in BPR.note


def test_bpr_that_diverges_says_so(train):
    with pytest.raises(DivergedError, match=r"learning_rate is 1e\+30"):
        BPR(learning_rate=1e30, iterations=3).fit(train)


def test_bpr_refuses_counts_that_are_none(bpr):
    for counts in (np.zeros(40, np.int64), -np.ones(40, np.int64)):
        with pytest.raises(BundleError, match="counts holds a number below 0"):
            BPR.from_arrays(bpr.config, {**bpr.arrays(), "counts": counts})


# ---- random


def lists(seed, histories, k=5):
    return Random(rng=seed).fit(interactions(np.eye(1000))).recommend(histories, k=k).items


def test_random_depends_on_seed_and_set_of_items_only():
    histories = Histories.from_lists([[1, 2, 3], [3, 1, 2], [1, 2], [], [4]], n_items=1000)
    found = lists(0, histories)
    assert found[0].tolist() == found[1].tolist()
    assert len({tuple(row) for row in found.tolist()}) == 4
    assert lists(0, histories).tolist() == found.tolist()
    assert not (lists(1, histories) == found).any(axis=1).all()


def test_random_scores_are_uniform_and_unrelated():
    """Kolmogorov-Smirnov at one in ten thousand; correlations within 5 standard errors."""
    from scipy.stats import kstest

    histories = Histories.from_lists([[i] for i in range(50)], n_items=1000)
    model = Random().fit(interactions(np.eye(1000)))
    scores = model.score(histories).astype(np.float64)
    assert scores.min() >= 0
    assert scores.max() < 1
    assert kstest(scores.ravel(), "uniform").pvalue > 1e-4
    for table in (scores, scores.T):
        related = np.corrcoef(table[:40])
        np.fill_diagonal(related, 0.0)
        assert np.abs(related).max() < 5 / np.sqrt(table.shape[1])


def test_random_refuses_a_negative_number_of_items():
    with pytest.raises(BundleError, match="n_items holds -1"):
        Random.from_arrays(RandomConfig(), {"n_items": np.array([-1])})


# ---- gf-cf


def gf_cf_by_hand(x, n_vectors, alpha):
    """Shen et al. 2021 in dense float64, by a full SVD; nobody or nothing here has degree 0."""
    users, items = x.sum(axis=1, keepdims=True), x.sum(axis=0, keepdims=True)
    r = x / np.sqrt(users) / np.sqrt(items)
    v = np.linalg.svd(r, full_matrices=False)[2][:n_vectors].T
    low_pass = (v / np.sqrt(items).T) @ (v * np.sqrt(items).T).T
    return x @ (r.T @ r + alpha * low_pass)


@pytest.mark.parametrize(("density", "kind"), [(0.03, "gram_data"), (0.6, "weights")])
def test_gf_cf_is_its_formula_sparse_or_dense(density, kind):
    x = (np.random.default_rng(1).random((50, 45)) < density).astype(np.float64)
    x[np.arange(50), np.arange(50) % 45] = 1
    data = interactions(x)
    model = GFCF(n_vectors=7, alpha=0.4).fit(data)
    assert kind in model.arrays()
    expected = gf_cf_by_hand(x, 7, 0.4)
    np.testing.assert_allclose(model.score(data.histories()), expected, rtol=1e-4, atol=1e-5)
    rows, every = np.repeat(np.arange(50), 45), np.tile(np.arange(45), 50)
    exact = model.scorer(data.histories()).exact(rows, every)
    np.testing.assert_allclose(exact.reshape(50, 45), expected, rtol=1e-4, atol=1e-5)


def test_gf_cf_gives_items_nobody_touched_nothing():
    x = np.eye(12)
    x[:, 3] = x[5] = 0
    data = interactions(x)
    scores = GFCF().fit(data).score(Histories.from_lists([[3], [0]], n_items=12))
    assert (scores[0] == 0).all()
    assert scores[1, 3] == 0
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
@pytest.mark.parametrize("dense_up_to", [0, 1024])
def test_singular_vectors_are_those_of_a_full_svd(shape, dense_up_to, monkeypatch):
    monkeypatch.setattr(singular, "_DENSE_UP_TO", dense_up_to)
    dense = np.random.default_rng(2).random(shape) * (np.random.default_rng(3).random(shape) < 0.3)
    v = singular.right_singular_vectors(csr_array(dense), 6)
    expected = np.linalg.svd(dense)[2][:6].T
    np.testing.assert_allclose(np.abs((v * expected).sum(axis=0)), 1.0, atol=1e-9)
    np.testing.assert_allclose(v.T @ v, np.eye(6), atol=1e-9)
    assert (v[np.abs(v).argmax(axis=0), np.arange(6)] > 0).all()
    assert (singular.right_singular_vectors(csr_array(dense), 6) == v).all()


@pytest.mark.parametrize("dense_up_to", [0, 1024])
def test_vectors_of_singular_value_zero_are_left_out(dense_up_to, monkeypatch):
    monkeypatch.setattr(singular, "_DENSE_UP_TO", dense_up_to)
    draw = np.random.default_rng(4)
    of_rank_two = csr_array(draw.random((20, 2)) @ draw.random((2, 25)))
    assert singular.right_singular_vectors(of_rank_two, 5).shape == (25, 2)


def test_gf_cf_refuses_factors_that_do_not_fit(train):
    x = np.eye(20)
    x[0, 1] = 1
    model = GFCF(n_vectors=3).fit(interactions(x))
    arrays = model.arrays()
    with pytest.raises(BundleError, match="encoder has 3 columns; at most 2"):
        GFCF.from_arrays(GFCF(n_vectors=2).config, arrays)
    with pytest.raises(BundleError, match=r"decoder has shape \(20, 2\); \(20, 3\)"):
        GFCF.from_arrays(model.config, {**arrays, "decoder": arrays["decoder"][:, :2]})
    with pytest.raises(BundleError, match="not a sorted sparse matrix"):
        GFCF.from_arrays(model.config, {**arrays, "gram_indices": arrays["gram_indices"] + 1})
    dense = GFCF().fit(train)
    with pytest.raises(BundleError, match=r"weights has shape \(39, 40\)"):
        GFCF.from_arrays(dense.config, {"weights": dense.arrays()["weights"][:-1]})


@pytest.mark.slow
@pytest.mark.datasets
def test_gf_cf_has_its_published_figures_on_gowalla():
    """BARS leaderboard, split of LightGCN: Recall@20 0.1849, NDCG@20 0.1518 (recall / targets)."""
    path = Path(os.environ.get("RECAE_DATASETS", "")) / "gowalla" / "interactions.parquet"
    if not path.is_file():
        pytest.skip("RECAE_DATASETS names no directory with gowalla")
    data = read_interactions(path, split_col="split")
    parts = split(data, "column")
    assert (parts.train.matrix.nnz, parts.test.target.nnz) == (810_128, 217_242)
    model = GFCF(n_vectors=256, alpha=0.3).fit(parts.train)
    report = evaluate(model, parts.test, metrics=("recall-all@20", "ndcg@20"))
    assert round(report["recall-all@20"].mean - 5e-5, 4) == 0.1849  # cut, as published: 0.18495
    assert round(report["ndcg@20"].mean, 4) == 0.1518


# ---- all of them


@pytest.mark.parametrize("kind", [ItemKNN, ALS, BPR, GFCF])
def test_values_do_not_matter_only_presence(train, kind):
    from dataclasses import replace

    doubled = train.matrix.copy()
    doubled.data = np.linspace(1, 5, doubled.nnz, dtype=np.float32)
    same = kind().fit(train).arrays()
    for name, array in kind().fit(replace(train, matrix=doubled)).arrays().items():
        assert (array == same[name]).all()


@pytest.mark.parametrize("kind", [ItemKNN, ALS, BPR, GFCF])
def test_no_interactions_are_refused(kind):
    with pytest.raises(DataError, match="no training interactions"):
        kind().fit(interactions(np.zeros((2, 3))))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ItemKNN, {"k_neighbours": 0}, "k_neighbours is 0; at least 1"),
        (ItemKNN, {"similarity": "jaccard"}, "similarity is 'jaccard'"),
        (ItemKNN, {"bm25_b": 1.5}, "bm25_b is 1.5; 0 to 1"),
        (ItemKNN, {"bm25_k1": -1.0}, "bm25_k1 is -1.0; at least 0 is accepted"),
        (ALS, {"factors": 0}, "factors is 0"),
        (ALS, {"regularization": 0.0}, "ALS: option regularization is 0.0; above 0 is accepted"),
        (ALS, {"rng": -1}, "rng is -1"),
        (BPR, {"factors": 0}, "factors is 0"),
        (BPR, {"learning_rate": 0.0}, "learning_rate is 0.0"),
        (BPR, {"ridge": 0.0}, "ridge is 0.0"),
        (BPR, {"regularization": -1.0}, "regularization is -1.0"),
        (BPR, {"popularity": -0.1}, "popularity is -0.1; 0 to 1"),
        (BPR, {"rng": -1}, "rng is -1"),
        (
            Random,
            {"rng": 2**63},
            "rng is 9223372036854775808; 0 to 9223372036854775807 is accepted",
        ),
        (GFCF, {"n_vectors": 0}, "n_vectors is 0"),
        (GFCF, {"alpha": -0.1}, "alpha is -0.1"),
        (GFCF, {"alpha": math.inf}, "option alpha is inf; at least 0 is accepted"),
        (GFCF, {"alpha": math.nan}, "option alpha is nan; at least 0 is accepted"),
        (GFCF, {"rng": -1}, "rng is -1"),
        (ALS, {"unknown": 1}, "ALS has no option 'unknown'; it accepts factors, "),
        (ALS, {"factors": "64"}, "ALS: option factors is '64'; it is of type int"),
        (ALS, {"factors": True}, "option factors is True; it is of type int"),
        (ALS, {"factors": 64.0}, "option factors is 64.0; it is of type int"),
        (ALS, {"alpha": 10**400}, "option alpha is 1000+; it is of type float"),
        (MultVAE, {"epochs": True}, "option epochs is True; it is of type int | 'auto'"),
        (MultVAE, {"hidden": [64, "8"]}, r"option hidden is \[64, '8'\]; it is of type list of in"),
        (MultVAE, {"precision": "half"}, "option precision is 'half'; it is of type 'auto' | "),
        (MultVAE, {"path": "fast"}, "MultVAE has no option 'path'"),
        (Popularity, {"l2": 1.0}, "Popularity has no option 'l2'; it accepts none"),
    ],
)
def test_options_that_are_not_accepted(kind, options, message):
    with pytest.raises(ConfigError, match=message.replace(" | ", r" \| ")):
        kind(**options)


def test_options_are_of_the_types_of_their_fields():
    config = MultVAE(hidden=[np.int64(8), 4], latent_dim=np.int32(2), learning_rate=1).config
    assert (config.hidden, config.latent_dim, config.learning_rate) == ((8, 4), 2, 1.0)
    assert {type(config.latent_dim), *map(type, config.hidden)} == {int}
    assert type(config.learning_rate) is float


def test_the_config_of_another_model_is_refused():
    with pytest.raises(ConfigError, match="the config is of type BPRConfig; accepted: ALSConfig"):
        ALS(config=BPRConfig())
    with pytest.raises(ConfigError, match="a config and options were both given; one is accepted"):
        ALS(ALSConfig(), factors=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("indptr"), "has the arrays"),
        (lambda a: a.update(more=a["data"]), "has the arrays"),
        (lambda a: a.update(data=a["data"].astype(np.float64)), "array data is float64"),
        (lambda a: a.update(data=a["data"][None]), "array data is float32 of shape"),
        (lambda a: a.update(data=a["data"] * np.float32("nan")), "array data is not finite"),
        (lambda a: a.update(indices=a["indices"] + 1), "not a sorted sparse matrix"),
        (lambda a: a.update(indices=a["indices"][::-1].copy()), "not a sorted sparse matrix"),
        (lambda a: a.update(indptr=a["indptr"][::-1].copy()), "not a sorted sparse matrix"),
        (lambda a: a.update(indptr=a["indptr"][:-1]), "not a sorted sparse matrix"),
        (lambda a: a.update(indptr=a["indptr"][:0]), "not a sorted sparse matrix"),
        (lambda a: a.update(data=a["data"][:-1]), "not a sorted sparse matrix"),
    ],
)
def test_item_knn_refuses_damaged_tables(train, change, message):
    model = ItemKNN(k_neighbours=3).fit(train)
    arrays = model.arrays()
    change(arrays)
    with pytest.raises(BundleError, match=message):
        ItemKNN.from_arrays(model.config, arrays)


def test_als_refuses_another_width(train):
    model = ALS(factors=4, iterations=1).fit(train)
    with pytest.raises(BundleError, match=r"shape \(40, 4\); \(40, 5\) is expected"):
        ALS.from_arrays(ALS(factors=5).config, model.arrays())


def test_weights_that_are_loaded_are_those_that_were_saved(train):
    """A grid whose largest weight rounds up to a power of two is found again."""
    model = ALS(factors=2, iterations=1).fit(train)
    factors = model.arrays()["item_factors"] * 0
    factors[0] = 1 - 2.0**-24, 1 / 3
    once = ALS.from_arrays(model.config, {"item_factors": factors}).arrays()["item_factors"]
    twice = ALS.from_arrays(model.config, {"item_factors": once}).arrays()["item_factors"]
    assert (once == twice).all()
    assert torch.from_numpy(once).max() == 1.0
