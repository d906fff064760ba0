"""Mult-VAE and Mult-DAE against the NumPy reference: losses, gradients, training, predictions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recae.data.histories import Histories, canonical_csr
from tests.reference import checks
from tests.reference import mult_vae_numpy as ref
from tests.reference.checks import Case

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
KINDS = pytest.mark.parametrize("kind", ["vae", "dae"])


@st.composite
def cases(draw: st.DrawFn, kind: str, dtype: torch.dtype) -> Case:
    return Case(
        kind=kind,
        dtype=dtype,
        users=draw(st.integers(1, 7)),
        items=draw(st.integers(1, 12)),
        hidden=tuple(draw(st.lists(st.integers(1, 6), max_size=2))),
        latent=draw(st.integers(1, 4)),
        dropout=draw(st.sampled_from([0.0, 0.25, 0.5, 0.9])),
        lam=draw(st.sampled_from([0.0, 0.01 / 500, 0.1])),
        anneal_steps=draw(st.integers(1, 9)),
        beta_cap=draw(st.sampled_from([0.05, 0.2, 1.0])),
        seed=draw(st.integers(0, 10**6)),
    )


@KINDS
@DTYPES
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_loss_and_gradients(kind: str, dtype: torch.dtype, data: st.DataObject) -> None:
    checks.check_loss_and_gradients(data.draw(cases(kind, dtype)))


@KINDS
@DTYPES
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_loss_of_drawn_mask_and_noise(kind: str, dtype: torch.dtype, data: st.DataObject) -> None:
    checks.check_drawn_loss(data.draw(cases(kind, dtype)))


@settings(deadline=None, max_examples=15)
@given(case=cases("vae", torch.float64))
def test_kl_weight_of_each_update(case: Case) -> None:
    checks.check_schedule(case)


@KINDS
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_scores_and_lists(kind: str, data: st.DataObject) -> None:
    checks.check_prediction(data.draw(cases(kind, torch.float32)))


@KINDS
@DTYPES
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lam", [0.0, 0.02])
def test_training(kind: str, dtype: torch.dtype, seed: int, lam: float) -> None:
    checks.check_training(Case(kind=kind, dtype=dtype, seed=seed, lam=lam, dropout=0.5))


@KINDS
@pytest.mark.parametrize("dropout", [0.5, 0.2])
def test_distribution_of_masks_and_noise(kind: str, dropout: float) -> None:
    checks.check_draws(Case(kind=kind, dropout=dropout))


@KINDS
def test_initial_weights(kind: str) -> None:
    checks.check_initial_weights(Case(kind=kind))


def test_paper_configuration() -> None:
    checks.check_paper_configuration()


@KINDS
def test_batch_of_empty_histories_only(kind: str) -> None:
    case = Case(kind=kind, users=2)
    network, reference = checks.build(case)
    batch = checks.random_batch(case, np.zeros((2, case.items)))
    loss = checks.loss_given(network, batch, 0.3, case.dtype)
    loss["loss"].backward()
    terms, grads = reference.loss_and_gradients(batch, 0.3)
    assert loss["nll"].item() == terms.nll == 0.0
    np.testing.assert_allclose(loss["loss"].item(), terms.loss)
    checks.same_layers(checks.gradients_of(network), grads, rtol=1e-9, atol=1e-12)


@KINDS
def test_history_with_everything_dropped(kind: str) -> None:
    case = Case(kind=kind)
    network, reference = checks.build(case)
    batch = checks.random_batch(case, checks.histories(case))
    batch = ref.Batch(batch.x, np.zeros_like(batch.keep), batch.noise)
    loss = checks.loss_given(network, batch, 0.3, case.dtype)
    terms, _ = reference.loss_and_gradients(batch, 0.3)
    np.testing.assert_allclose(loss["loss"].item(), terms.loss)


def test_posterior_samples_have_the_reference_mean_and_variance() -> None:
    case = Case()
    model, reference = checks.fitted_model(case)
    x = checks.histories(case)
    drawn = model.sample(Histories(canonical_csr(csr_array(x))), n_samples=4000, rng=1)
    code, _ = ref.through(reference.encoder, ref.normalise(x))
    mu, log_var = np.split(code, 2, axis=1)
    noise = (drawn - mu) / np.exp(0.5 * log_var)  # (samples, users, latent)
    # Standard errors over 4,000 samples: 0.016 of a mean, 0.011 of a deviation; five of each.
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.08)
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.056)
