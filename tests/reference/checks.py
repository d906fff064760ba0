"""Comparisons of `recae` with `mult_vae_numpy`, as functions that raise AssertionError.

`tests/test_conformance.py` runs them on the package as it is; `tests/test_port_bugs.py` runs them
again with a known mistake put in, and expects the error. Everything of `recae` is looked up when a
check runs, so that the mistake is met.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

from recae.data.histories import Histories, canonical_csr
from recae.models import mult_vae as models
from recae.networks.batch import Batch
from recae.training import trainer
from recae.training.config import TrainingConfig, planned_batch_size, steps_per_epoch
from tests.reference import mult_vae_numpy as ref

LATENT = 3


@dataclass(frozen=True, slots=True)
class Case:
    """A small problem: shapes, rates, precision, and the seed of its weights and histories."""

    kind: str = "vae"
    users: int = 6
    items: int = 9
    hidden: tuple[int, ...] = (5,)
    latent: int = LATENT
    dropout: float = 0.4
    lam: float = 0.0
    beta_cap: float = 0.2
    anneal_steps: int = 4
    dtype: torch.dtype = torch.float64
    seed: int = 0

    @property
    def tolerance(self) -> dict[str, float]:
        """Of gradients and losses of order 1."""
        if self.dtype == torch.float64:
            return {"rtol": 1e-9, "atol": 1e-11}
        # Float32 has 24 bits; sums of tens of terms of mixed sign lose a few more.
        return {"rtol": 2e-4, "atol": 2e-6}


def histories(case: Case) -> np.ndarray:
    """Binary rows; where there are two or more, one is empty and one is full."""
    rng = np.random.default_rng([case.seed, 1])
    x = (rng.random((case.users, case.items)) < 0.4).astype(np.float64)
    if case.users > 1:
        x[0], x[-1] = 0.0, 1.0
    return x


def build(case: Case) -> tuple[Any, Any]:
    """Network of `recae` and its counterpart, with the same weights, large enough to matter."""
    options: dict[str, Any] = {
        "hidden": case.hidden,
        "latent_dim": case.latent,
        "dropout": case.dropout,
        "weight_decay": case.lam,
        "rng": torch.Generator().manual_seed(case.seed),
    }
    if case.kind == "vae":
        options |= {"beta_cap": case.beta_cap, "anneal_steps": case.anneal_steps}
        network: Any = models.MultVAENetwork(case.items, **options)
    else:
        network = models.MultDAENetwork(case.items, **options)
    network.to(case.dtype)
    rng = np.random.default_rng([case.seed, 2])
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(0, 0.7, tuple(parameter.shape))))
    return network, counterpart(network, case)


def counterpart(network: Any, case: Case) -> Any:
    """Reference model with the weights that `network` has now."""
    layers = layers_of(network)
    if case.kind == "vae":
        cut = len(case.hidden) + 1
        return ref.MultVAE(layers[:cut], layers[cut:], case.dropout, case.lam)
    return ref.MultDAE(layers, case.dropout, case.lam)


def _layers(network: Any, value: Any) -> list[ref.Layer]:
    # The item table is stored with a row per item, (inputs, outputs); the others (outputs, inputs).
    pairs = [(value(network.table.weight), value(network.table.bias))]
    for layer in [*network.encoder, *network.decoder, network.output]:
        pairs.append((value(layer.weight).T, value(layer.bias)))
    return pairs


def layers_of(network: Any) -> list[ref.Layer]:
    """Weights of `network`, input to output, float64."""
    return _layers(network, lambda p: p.detach().numpy().astype(np.float64))


def gradients_of(network: Any) -> list[ref.Layer]:
    """Gradients of `network` after a backward pass, float64."""
    return _layers(network, lambda p: p.grad.numpy().astype(np.float64))


def random_batch(case: Case, x: np.ndarray) -> ref.Batch:
    """Mask and noise for `x`, the noise as exact in float32 as in float64."""
    rng = np.random.default_rng([case.seed, 3])
    keep = rng.random(x.shape) >= case.dropout
    noise = rng.normal(size=(len(x), case.latent)).astype(np.float32).astype(np.float64)
    return ref.Batch(x, keep, noise if case.kind == "vae" else None)


def loss_given(network: Any, batch: ref.Batch, beta: float, dtype: torch.dtype) -> Any:
    """Loss of `network` for the mask, noise and KL weight of `batch`."""
    x = Batch.of(Histories(canonical_csr(csr_array(batch.x))))
    rows, items = np.nonzero(batch.x)
    given: dict[str, Any] = {"keep": torch.from_numpy(batch.keep[rows, items])}
    if batch.noise is not None:
        given |= {"noise": torch.from_numpy(batch.noise).to(dtype), "beta": beta}
    return network.loss_given(x, **given)


def same_layers(
    actual: Sequence[ref.Layer], expected: Sequence[ref.Layer], *, rtol: float, atol: float
) -> None:
    """Assert that all weights and biases, or their gradients, agree."""
    assert len(actual) == len(expected)
    for i, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        for what, a, b in zip(("weights", "biases"), ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=f"{what} of layer {i}")


def check_loss_and_gradients(case: Case) -> None:
    """Loss, its parts and every gradient, for a given mask, noise and KL weight."""
    network, reference = build(case)
    batch = random_batch(case, histories(case))
    loss = loss_given(network, batch, 0.3, case.dtype)
    loss["loss"].backward()
    terms, grads = reference.loss_and_gradients(batch, 0.3)
    expected = {"loss": terms.loss, "nll": terms.nll, "kl": terms.kl}
    assert list(loss) == list(expected)[: len(loss)]
    for ours, theirs in ((loss[name], expected[name]) for name in loss):
        np.testing.assert_allclose(ours.item(), theirs, **case.tolerance)
    same_layers(gradients_of(network), grads, **case.tolerance)


def check_schedule(case: Case) -> None:
    """KL weight of each update, through the ramp and beyond its end."""
    network, _ = build(case)
    total = case.anneal_steps / case.beta_cap if case.beta_cap else 0
    with recorded(network) as steps:
        for step in range(2 * case.anneal_steps + 2):
            _drawn_loss(network, histories(case), step)
    expected = [ref.annealed_beta(s, total=total, cap=case.beta_cap) for s in range(len(steps))]
    np.testing.assert_allclose([beta for _, beta in steps], expected)


def check_paper_configuration() -> None:
    """`paper()` of both models: the setting of the notebook for the 116,677 users of ML-20M."""
    n_users = 116_677
    model = models.MultVAE(models.MultVAEConfig.paper())
    network = model.build(7, n_users, torch.Generator().manual_seed(0))
    dims = [(7, 600), (600, 400), (200, 600), (600, 7)]
    assert [weights.shape for weights, _ in layers_of(network)] == dims
    counts = [0, 1, 1000, 39_999, 40_000, 46_799]
    with recorded(network) as steps:
        for count in counts:
            _drawn_loss(network, np.ones((1, 7)), count)
    expected = [ref.annealed_beta(count, total=200_000, cap=0.2) for count in counts]
    np.testing.assert_allclose([beta for _, beta in steps], expected)
    assert (network.dropout, network.weight_decay) == (0.5, 0.0)

    denoising = models.MultDAE(models.MultDAEConfig.paper())
    network = denoising.build(7, n_users, torch.Generator().manual_seed(0))
    assert [weights.shape for weights, _ in layers_of(network)] == [(7, 200), (200, 7)]
    assert (network.dropout, network.weight_decay) == (0.5, 0.01 / 500)

    for config in (model.config, denoising.config):
        assert (config.epochs, config.learning_rate, config.patience) == (200, 1e-3, None)
        assert (planned_batch_size(config, n_users), steps_per_epoch(config, n_users)) == (500, 234)
        assert config.ema_decay is None
        assert config.precision == "float32"


def check_draws(case: Case) -> None:
    """Masks keep 1 - dropout of the history, noise has unit variance, and no step repeats another.

    40,000 normal numbers: the standard errors of their mean and deviation are 0.005 and 0.0035.
    """
    case = Case(
        kind=case.kind, users=200, items=50, latent=200, dropout=case.dropout, dtype=case.dtype
    )
    network, _ = build(case)
    x = np.ones((case.users, case.items))
    with recorded(network) as steps:
        for step in range(2):
            _drawn_loss(network, x, step)
    (first, _), (second, _) = steps
    assert abs(first.keep.mean() - (1 - case.dropout)) < 0.025  # five standard errors
    assert (first.keep != second.keep).any()
    if case.kind == "vae":
        assert abs(first.noise.mean()) < 0.025
        assert abs(first.noise.std() - 1.0) < 0.0175
        assert abs(np.corrcoef(first.noise.ravel(), second.noise.ravel())[0, 1]) < 0.025


def check_drawn_loss(case: Case) -> None:
    """A training step loses what the reference loses for the mask and noise the step drew."""
    network, reference = build(case)
    for step in (1, 100):
        with recorded(network) as steps:
            loss = _drawn_loss(network, histories(case), step)
        ((batch, beta),) = steps
        terms, _ = reference.loss_and_gradients(batch, beta)
        np.testing.assert_allclose(loss["loss"].item(), terms.loss, **case.tolerance)


def check_training(case: Case) -> None:
    """Three epochs of the trainer end with the reference's weights and log its losses.

    The masks, the noise and the order of users are those the trainer drew.
    """
    network, reference = build(case)
    x = histories(case)
    config = TrainingConfig(
        epochs=3, batch_size=2, learning_rate=1e-2, device="cpu", precision="float32", rng=3
    )
    with recorded(network) as steps:
        log = trainer.Trainer(config).fit(network, Histories(canonical_csr(csr_array(x))))
    batches = [batch for batch, _ in steps]

    used = np.array(sorted(row.tolist() for row in x if row.any()))
    per_epoch = -(-len(used) // config.batch_size)
    assert len(steps) == 3 * per_epoch
    for epoch in range(3):
        part = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert [len(b.x) for b in part[:-1]] == [config.batch_size] * (per_epoch - 1)
        seen = np.array(sorted(row.tolist() for b in part for row in b.x))
        np.testing.assert_array_equal(seen, used, "an epoch is every non-empty history once")

    orders = [np.concatenate([b.x for b in batches[e * per_epoch :][:per_epoch]]) for e in range(3)]
    assert any((orders[0] != order).any() for order in orders), "every epoch has the same order"

    total = case.anneal_steps / case.beta_cap
    trained, terms = ref.train(reference, batches, lr=1e-2, total=total, cap=case.beta_cap)
    # Adam divides a gradient by its own size, so what rounding does to a gradient near 0 comes back
    # as a share of the learning rate: float32 gets a hundredth of it.
    exact = case.dtype == torch.float64
    tolerance = {"rtol": 0.0, "atol": 1e-11 if exact else 1e-4}
    same_layers(layers_of(network), trained.layers, **tolerance)
    for epoch, record in enumerate(log):
        part = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
        sizes = [len(batch.x) for batch in batches[part]]
        for name, found in {"loss": record.loss, **record.parts}.items():
            mean = np.average([getattr(t, name) for t in terms[part]], weights=sizes)
            np.testing.assert_allclose(found, mean, **case.tolerance)


def check_prediction(case: Case) -> None:
    """Scores of a fitted model, one user at a time and together, and the ranking they give.

    The model computes on fixed-point grids about as fine as float32, whatever the case's precision.
    """
    model, reference = fitted_model(case)
    x = histories(case)
    expected = reference.scores(x)
    tolerance = {"rtol": 2e-5, "atol": 2e-5}  # scores of order 1 to 10
    rows = Histories(canonical_csr(csr_array(x)))
    np.testing.assert_allclose(model.score(rows), expected, **tolerance)
    alone = [model.score(rows.take(slice(u, u + 1))) for u in range(len(x))]
    np.testing.assert_allclose(np.concatenate(alone), expected, **tolerance)

    k = min(4, case.items)
    top = model.recommend(rows, k=k)
    hidden = np.where(x > 0, -np.inf, expected)
    best = -np.sort(-hidden, axis=1)[:, :k]
    np.testing.assert_allclose(top.scores, best, **tolerance)
    for u in range(len(x)):
        listed = top.items[u][np.isfinite(best[u])]
        np.testing.assert_allclose(hidden[u, listed], best[u][np.isfinite(best[u])], **tolerance)


def fitted_model(case: Case) -> tuple[Any, Any]:
    """A model as loaded from a directory, with random weights, and its counterpart."""
    case = Case(**{f: getattr(case, f) for f in case.__slots__} | {"dtype": torch.float32})
    network, reference = build(case)
    shape = {"hidden": case.hidden, "latent_dim": case.latent, "device": "cpu"}
    model_class, config_class = {
        "vae": (models.MultVAE, models.MultVAEConfig),
        "dae": (models.MultDAE, models.MultDAEConfig),
    }[case.kind]
    arrays = {name: p.detach().numpy() for name, p in network.named_parameters()}
    return model_class.from_arrays(config_class(**shape), arrays), reference


def check_initial_weights(case: Case) -> None:
    """Xavier-uniform weights; biases normal with deviation 0.001, cut at two deviations."""
    items, hidden = 300, (120,)
    options: dict[str, Any] = {} if case.kind == "dae" else {"beta_cap": 0.2, "anneal_steps": 1}
    network_class = models.MultVAENetwork if case.kind == "vae" else models.MultDAENetwork
    network = network_class(
        items,
        hidden=hidden,
        latent_dim=50,
        dropout=0.5,
        weight_decay=0.0,
        rng=torch.Generator().manual_seed(case.seed),
        **options,
    )
    layers = layers_of(network)
    for weights, _ in layers:
        bound = np.sqrt(6.0 / sum(weights.shape))
        assert 0.999 * bound < np.abs(weights).max() <= bound * (1 + 1e-6)
        assert abs(weights.std() / (bound / np.sqrt(3.0)) - 1.0) < 0.02
    biases = np.concatenate([bias for _, bias in layers])
    assert np.abs(biases).max() <= 0.002 * (1 + 1e-6)
    # A standard normal cut at 2 has deviation 0.8796; some 600 numbers estimate it to 3 %.
    assert abs(biases.std() / 0.8796e-3 - 1.0) < 0.1


@contextmanager
def recorded(network: Any) -> Iterator[list[tuple[ref.Batch, float]]]:
    """What `loss_given` of the network is called with inside, call after call."""
    calls: list[tuple[ref.Batch, float]] = []
    owner = type(network)
    original = owner.loss_given

    def loss_given(self: Any, x: Batch, **given: Any) -> Any:
        rows, items = x.rows().numpy(), x.items.numpy()
        dense, keep = np.zeros((len(x), x.n_items)), np.ones((len(x), x.n_items), dtype=bool)
        dense[rows, items] = 1.0
        if given["keep"] is not None:
            keep[rows, items] = given["keep"].numpy()
        noise = given.get("noise")
        noise = None if noise is None else noise.numpy().astype(np.float64)
        calls.append((ref.Batch(dense, keep, noise), given.get("beta", 0.0)))
        return original(self, x, **given)

    owner.loss_given = loss_given
    try:
        yield calls
    finally:
        owner.loss_given = original


def _drawn_loss(network: Any, x: np.ndarray, step: int) -> Any:
    rng = torch.Generator().manual_seed(1000 + step)
    return network.loss(Batch.of(Histories(canonical_csr(csr_array(x)))), step=step, rng=rng)
