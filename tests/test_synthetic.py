"""The sample data, what is known of it, and the matrices for measurements."""

import time
from pathlib import Path

import numpy as np
import pytest

from recae.data.histories import is_canonical
from recae.data.protocols import split
from recae.data.readers import read_interactions
from recae.data.synthetic import (
    GENRES,
    ML_20M,
    MOODS,
    SETTINGS,
    MatrixShape,
    Synthetic,
    ml20m_shape,
    write_sample,
)
from recae.errors import ConfigError
from recae.evaluation.evaluator import evaluate
from recae.models.registry import create

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
FILES = ("interactions.csv", "items.csv")


@pytest.fixture(scope="module")
def club():
    return Synthetic()


@pytest.fixture(scope="module")
def data(club):
    return club.interactions()


@pytest.fixture(scope="module")
def parts(data):
    return split(data, "strong", rng=42)


@pytest.mark.checkout
def test_the_sample_is_what_the_generator_writes(tmp_path):
    write_sample(tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes()
    assert sum((SAMPLE / name).stat().st_size for name in FILES) < 2_000_000


@pytest.mark.checkout
def test_the_sample_reads_back_as_the_interactions_that_were_written(data):
    read = read_interactions(SAMPLE / "interactions.csv", items=SAMPLE / "items.csv")
    assert read.fingerprint() == data.fingerprint()
    assert read.titles() == data.titles()
    assert read.report.rows_read == read.report.rows_kept == data.matrix.nnz == 80_239


def test_same_seed_same_data():
    small = {"n_users": 60, "n_items": 40}
    one, same, other = (Synthetic(**small, rng=seed).interactions() for seed in (1, 1, 2))
    assert one.fingerprint() == same.fingerprint() != other.fingerprint()
    assert one.item_table.equals(same.item_table)


def test_too_small_a_club_is_refused():
    with pytest.raises(ConfigError, match="0 users and 10 items; at least 1 and 20 are needed"):
        Synthetic(n_users=0, n_items=10)


def test_histories_and_times_are_plausible(data):
    lengths = np.diff(data.matrix.indptr)
    assert lengths.min() >= 5
    assert 19 < lengths.mean() < 21
    assert (np.diff(data.times[np.argsort(data.order)]) >= 0).all()  # a log, oldest first
    first_days = data.times.min() // (86_400 * 10**6)
    assert first_days >= np.datetime64("2022-01-01").astype(int)


def test_titles_name_the_traits(club, data):
    traits = club.truth().traits
    words = [list(facet.values()) for facet in (GENRES, MOODS, SETTINGS)]
    titles = data.titles()
    assert len(set(titles)) == len(titles)
    for item_id, title, genre in zip(*data.item_table.columns, strict=True):
        values = traits[int(item_id.as_py()[1:])]
        for facet, value in zip(words, values, strict=True):
            assert any(word in title.as_py() for word in facet[value])
        assert genre.as_py() == list(GENRES)[values[0]]


def test_tastes_and_popularity_show_in_the_data(club, data):
    truth = club.truth()
    users = [int(u[1:]) for u in data.users.ids_at(range(data.n_users))]
    items = [int(i[1:]) for i in data.items.ids_at(range(data.n_items))]
    counts = data.matrix.sum(axis=0)
    assert np.corrcoef(np.log(counts), truth.log_popularity[items])[0, 1] > 0.7
    for traits, tastes in zip(truth.traits.T, truth.tastes, strict=True):
        one_hot = np.eye(tastes.shape[1])[traits[items]]
        watched = data.matrix @ one_hot
        likes = np.corrcoef(
            (watched / watched.sum(1, keepdims=True)).ravel(), tastes[users].ravel()
        )
        assert likes[0, 1] > 0.5


def ndcg_of_truth(club, parts):
    """NDCG@100 of the true odds, by plain loops."""
    items = np.array([int(i[1:]) for i in parts.train.items.ids_at(range(parts.train.n_items))])
    users = [int(u[1:]) for u in parts.test.users.ids_at(range(len(parts.test)))]
    shown, asked = parts.test.fold_in.matrix.toarray(), parts.test.target.toarray()
    truth, values = club.truth(), []
    for row, user in enumerate(users):
        scores = truth.log_odds(slice(user, user + 1))[0, items]
        scores[shown[row] > 0] = -np.inf
        hits = asked[row][np.argsort(-scores)[:100]]
        gains = 1 / np.log2(np.arange(2, 102))
        values.append(hits @ gains / gains[: int(asked[row].sum())].sum())
    return np.mean(values)


def ndcg(name, parts, **options):
    model = create(name, options).fit(parts.train, validation=parts.validation)
    return evaluate(model, parts.test).per_user["ndcg@100"]


def test_ease_beats_popularity_by_far_and_the_truth_beats_ease(club, parts):
    popular, ease = ndcg("popular", parts), ndcg("ease", parts, l2=200.0)
    assert ease.mean() > popular.mean() + 0.1
    assert ndcg_of_truth(club, parts) > ease.mean() + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mult-vae", "mult-dae"])
def test_autoencoders_beat_ease_at_its_best(name, parts):
    autoencoder = ndcg(name, parts)
    tuned = max((ndcg("ease", parts, l2=l2) for l2 in (100.0, 200.0, 400.0)), key=np.mean)
    # Paired over the same 400 people: above by two standard errors.
    differences = autoencoder - tuned
    assert differences.mean() > 2 * differences.std() / np.sqrt(len(differences))


# matrices for measurements

SMALL = MatrixShape(n_users=3_000, n_items=500, n_interactions=60_000, n_tastes=10)


def test_a_matrix_has_the_shape_asked_for():
    matrix = ml20m_shape(3, SMALL)
    assert matrix.shape == (3_000, 500)
    assert matrix.nnz == 60_000
    assert is_canonical(matrix)
    assert set(matrix.data) == {1.0}
    assert (matrix.indices.max(), matrix.indices.min()) == (499, 0)
    again, other = ml20m_shape(3, SMALL), ml20m_shape(4, SMALL)
    assert np.array_equal(again.indices, matrix.indices)
    assert not np.array_equal(other.indices, matrix.indices)


def test_a_matrix_has_a_head_and_a_tail():
    matrix = ml20m_shape(0, SMALL)
    counts = np.sort(np.bincount(matrix.indices, minlength=500))[::-1]
    assert counts[:50].sum() > counts[-250:].sum()
    lengths = np.diff(matrix.indptr)
    assert np.percentile(lengths, 95) > 3 * np.median(lengths)


def test_tastes_make_items_of_a_group_go_together():
    def ratio(n_tastes):
        shape = MatrixShape(n_users=3_000, n_items=500, n_interactions=60_000, n_tastes=n_tastes)
        matrix = ml20m_shape(0, shape)
        together = (matrix.T @ matrix).toarray()
        group = np.arange(500) // 50
        same = (group[:, None] == group) & ~np.eye(500, dtype=bool)
        return together[same].mean() / together[group[:, None] != group].mean()

    assert ratio(10) > 1.3
    assert 0.8 < ratio(0) < 1.2


@pytest.mark.parametrize("wanted", [0, 26])
def test_a_matrix_that_would_be_full_is_refused(wanted):
    with pytest.raises(ConfigError, match="from 1 to 25 fit"):
        MatrixShape(n_users=10, n_items=10, n_interactions=wanted)


@pytest.mark.slow
def test_the_full_size_is_made_within_a_minute():
    start = time.process_time()
    matrix = ml20m_shape()
    assert time.process_time() - start < 60
    assert matrix.shape == (ML_20M.n_users, ML_20M.n_items) == (136_677, 20_108)
    assert matrix.nnz == 9_990_682
