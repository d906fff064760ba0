"""The reference itself: cases worked out by hand, finite differences, and its own edge cases."""

import math

import numpy as np
import pytest

from tests.reference import mult_vae_numpy as ref


def random_layers(rng: np.random.Generator, dims: list[int]) -> list[ref.Layer]:
    return [
        (rng.normal(0, 0.6, (a, b)), rng.normal(0, 0.3, b))
        for a, b in zip(dims[:-1], dims[1:], strict=True)
    ]


def random_batch(rng: np.random.Generator, users: int, items: int, latent: int | None) -> ref.Batch:
    x = (rng.random((users, items)) < 0.4).astype(float)
    x[0] = 0.0  # an empty history in every batch
    keep = rng.random((users, items)) < 0.5
    return ref.Batch(x, keep, None if latent is None else rng.normal(size=(users, latent)))


def vae(rng: np.random.Generator, lam: float = 0.0) -> ref.MultVAE:
    return ref.MultVAE(
        random_layers(rng, [6, 5, 4]), random_layers(rng, [2, 3, 6]), rate=0.5, lam=lam
    )


def dae(rng: np.random.Generator, lam: float = 0.0) -> ref.MultDAE:
    return ref.MultDAE(random_layers(rng, [6, 3, 6]), rate=0.3, lam=lam)


def test_normalisation_divides_by_the_euclidean_norm_and_leaves_empty_rows_at_zero():
    x = np.array([[1.0, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]])
    assert ref.normalise(x).tolist() == [[0.5] * 4, [0, 1, 0, 0], [0] * 4]


def test_dropout_rescales_what_it_keeps():
    kept = ref.dropout(np.array([[0.6, 0.8]]), np.array([[False, True]]), 0.75)
    np.testing.assert_allclose(kept, [[0.0, 3.2]])


def test_likelihood_of_hand_computed_logits():
    logits = np.log(np.array([[1.0, 2, 5], [1, 1, 2], [1, 1, 1]]))
    x = np.array([[1.0, 0, 1], [0, 1, 0], [0, 0, 0]])
    expected = [-math.log(1 / 8) - math.log(5 / 8), math.log(4), 0.0]
    np.testing.assert_allclose(ref.multinomial_nll(logits, x), expected)


def test_log_softmax_survives_large_logits():
    np.testing.assert_allclose(ref.log_softmax(np.array([[1e4, 0.0]])), [[0.0, -1e4]])


def test_kl_of_hand_computed_gaussians_is_summed_over_dimensions():
    mu, log_var = np.array([[0.0, 0], [1, 2]]), np.array([[0.0, 0], [0, math.log(4)]])
    np.testing.assert_allclose(ref.gaussian_kl(mu, log_var), [0.0, 0.5 + (3.5 - math.log(2))])


@pytest.mark.parametrize(
    ("count", "beta"), [(0, 0.0), (1, 5e-6), (39_999, 0.199995), (40_000, 0.2), (10**6, 0.2)]
)
def test_beta_reaches_the_cap_of_the_paper_at_step_40_000(count: int, beta: float):
    assert ref.annealed_beta(count, total=200_000, cap=0.2) == pytest.approx(beta)


def test_beta_is_the_cap_without_annealing():
    assert ref.annealed_beta(0, total=0, cap=0.2) == 0.2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lam", [0.0, 0.01])
@pytest.mark.parametrize(("build", "latent"), [(vae, 2), (dae, None)])
def test_gradients_equal_finite_differences(build, latent, lam, seed):
    rng = np.random.default_rng(seed)
    model = build(rng, lam)
    batch = random_batch(rng, 4, 6, latent)

    def loss(arrays: list[np.ndarray]) -> float:
        layers = list(zip(arrays[::2], arrays[1::2], strict=True))
        return model.with_layers(layers).loss_and_gradients(batch, 0.7)[0].loss

    _, grads = model.loss_and_gradients(batch, 0.7)
    numeric = ref.finite_differences(loss, ref.flat(model.layers))
    for ours, theirs in zip(ref.flat(grads), numeric, strict=True):
        # Central differences with step 1e-6 are good to about 1e-9 of a loss of order 1 to 10.
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("build", [vae, dae])
def test_empty_history_has_scores_and_no_likelihood(build):
    model = build(np.random.default_rng(0))
    empty = np.zeros((1, 6))
    assert np.isfinite(model.scores(empty)).all()
    batch = ref.Batch(empty, np.ones((1, 6), bool), np.zeros((1, 2)))
    terms, grads = model.loss_and_gradients(batch, 0.0)
    assert terms.loss == 0.0
    assert all((g == 0).all() for g in ref.flat(grads))


def test_scores_use_the_latent_mean_and_the_whole_history():
    model = ref.MultVAE(
        [(np.array([[1.0, 50.0], [2.0, -50.0]]), np.array([0.5, 0.0]))],
        [(np.array([[1.0, -1.0]]), np.array([0.0, 3.0]))],
    )
    mean = (1 + 2) / math.sqrt(2) + 0.5
    np.testing.assert_allclose(model.scores(np.ones((1, 2))), [[mean, 3 - mean]])


def test_dae_applies_tanh_to_its_only_hidden_layer():
    model = ref.MultDAE(
        [(np.array([[1.0], [0.0]]), np.array([0.5])), (np.array([[1.0, 2.0]]), np.zeros(2))]
    )
    np.testing.assert_allclose(
        model.scores(np.array([[1.0, 0.0]])), [[math.tanh(1.5), 2 * math.tanh(1.5)]]
    )


def test_weight_penalty_counts_squares_of_weights_once_and_no_biases():
    layers = [(np.full((1, 2), 3.0), np.full(2, 100.0)), (np.full((2, 1), 2.0), np.ones(1))]
    assert ref.squared_weights(layers) == 2 * 9 + 2 * 4


def test_first_adam_step_moves_by_the_learning_rate_against_the_sign():
    params, grads = [np.array([1.0, 1.0, 1.0])], [np.array([0.3, -40.0, 0.0])]
    (moved,), state = ref.adam_step(params, grads, lr=0.01)
    np.testing.assert_allclose(moved, [0.99, 1.01, 1.0], rtol=1e-8)
    assert state.steps == 1


def test_second_adam_step_of_a_hand_computed_case():
    state = None
    p = [np.array([0.0])]
    for g in (1.0, 3.0):
        p, state = ref.adam_step(p, [np.array([g])], state, lr=0.1)
    first = 0.1 * 1 / (1 + 1e-8)
    m_hat = (0.9 * 0.1 * 1 + 0.1 * 3) / (1 - 0.81)
    v_hat = (0.999 * 0.001 * 1 + 0.001 * 9) / (1 - 0.999**2)
    assert p[0][0] == pytest.approx(-first - 0.1 * m_hat / (math.sqrt(v_hat) + 1e-8), rel=1e-12)


@pytest.mark.parametrize(("build", "latent"), [(vae, 2), (dae, None)])
def test_training_on_one_batch_lowers_its_loss(build, latent):
    rng = np.random.default_rng(1)
    batch = random_batch(rng, 5, 6, latent)
    _, terms = ref.train(build(rng), [batch] * 60, lr=1e-2, total=0, cap=0.1)
    assert terms[-1].loss < 0.9 * terms[0].loss
