"""Baselines against `implicit` itself, and against their equations in plain loops."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, csr_matrix

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.errors import BundleError, ConfigError, DataError
from recae.models.als import ALS
from recae.models.implicit_fit import one_blas_thread
from recae.models.item_knn import ItemKNN
from recae.models.sparse_items import columns_on_grid


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
    kept = ItemKNN(k_neighbours=5).fit(train).arrays()
    for item in range(train.n_items):
        of_item = slice(kept["indptr"][item], kept["indptr"][item + 1])
        assert item not in kept["indices"][of_item]
        np.testing.assert_allclose(
            np.sort(kept["data"][of_item]), np.sort(cosine[item])[-5:], rtol=1e-5
        )


def test_item_knn_knows_the_user_who_has_all_items_but_one():
    """Their inverse frequency is log(n / n) = 0: `implicit` alone divides 0 by 0 here."""
    model = ItemKNN(similarity="tf-idf").fit(interactions([[1, 1, 1, 0], [1, 0, 0, 1]]))
    assert np.isfinite(model.score(Histories.from_lists([[0], [1]], n_items=4))).all()


def test_columns_on_grid_add_exactly_and_stay_close():
    rng = np.random.default_rng(3)
    table = csr_array(rng.random((50, 7)) * 10.0 ** rng.integers(-9, 3, 7))
    rounded = columns_on_grid(table)
    dense, original = rounded.toarray(), table.toarray()
    assert (np.abs(dense - original) <= 2.0**-24 * original.max(axis=0)).all()
    for order in range(5):
        rows = np.random.default_rng(order).permutation(50)
        assert np.cumsum(dense[rows], axis=0)[-1].tolist() == dense.sum(axis=0).tolist()
    assert (columns_on_grid(rounded).data == rounded.data).all()
    assert (rounded.data.astype(np.float32) == rounded.data).all()


def test_columns_on_grid_twice_is_once_where_the_largest_entry_rounds_up():
    table = csr_array(np.array([[1 - 2.0**-30], [1 / 3]]))
    once = columns_on_grid(table)
    assert once.data[0] == 1.0
    assert (columns_on_grid(once).data == once.data).all()


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


# ---- all of them


@pytest.mark.parametrize("kind", [ItemKNN, ALS])
def test_values_do_not_matter_only_presence(train, kind):
    from dataclasses import replace

    doubled = train.matrix.copy()
    doubled.data = np.linspace(1, 5, doubled.nnz, dtype=np.float32)
    same = kind().fit(train).arrays()
    for name, array in kind().fit(replace(train, matrix=doubled)).arrays().items():
        assert (array == same[name]).all()


@pytest.mark.parametrize("kind", [ItemKNN, ALS])
def test_no_interactions_are_refused(kind):
    with pytest.raises(DataError, match="no training interactions"):
        kind().fit(interactions(np.zeros((2, 3))))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ItemKNN, {"k_neighbours": 0}, "k_neighbours is 0; at least 1"),
        (ItemKNN, {"similarity": "jaccard"}, "similarity is 'jaccard'"),
        (ItemKNN, {"bm25_b": 1.5}, "bm25_b is 1.5; 0 to 1"),
        (ItemKNN, {"bm25_k1": -1.0}, "bm25_k1 is -1.0; 0 or above"),
        (ALS, {"factors": 0}, "factors is 0"),
        (ALS, {"regularization": 0.0}, "regularization is 0.0"),
        (ALS, {"rng": -1}, "rng is -1"),
        (ALS, {"unknown": 1}, "ALSConfig has no unknown"),
    ],
)
def test_options_out_of_range_are_refused(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        kind(**options)


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
