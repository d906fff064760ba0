"""The plain autoencoder: its loss is the squared error over all items, and it learns."""

import numpy as np
import pytest
import torch

import recae
from recae.data.histories import Histories
from recae.models.vanilla_ae import ACTIVATIONS, VanillaAENetwork
from recae.networks import losses
from recae.networks.batch import Batch

NUMPY = {
    "linear": lambda h: h,
    "relu": lambda h: np.maximum(h, 0),
    "sigmoid": lambda h: 1 / (1 + np.exp(-h)),
    "tanh": np.tanh,
}


@pytest.fixture(scope="module")
def histories() -> Histories:
    rng = np.random.default_rng(0)
    lists = [rng.choice(25, n, replace=False).tolist() for n in (0, 1, 4, 9, 25)]
    return Histories.from_lists(lists, n_items=25)


def network(activation: str, hidden: tuple[int, ...] = (7,)) -> VanillaAENetwork:
    return VanillaAENetwork(
        25,
        hidden=hidden,
        latent_dim=3,
        activation=activation,
        weight_decay=0.01,
        rng=torch.Generator().manual_seed(1),
    ).double()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_loss_is_that_of_plain_numpy(activation: str, histories: Histories) -> None:
    net = network(activation)
    found = net.loss(Batch.of(histories), step=0, rng=torch.Generator())
    layers = [(net.table.weight.T, net.table.bias)]
    layers += [(m.weight, m.bias) for m in [*net.encoder, *net.decoder, net.output]]
    pairs = [(w.detach().numpy(), b.detach().numpy()) for w, b in layers]
    x = histories.matrix.toarray().astype(np.float64)
    h = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    for weight, bias in pairs[:-1]:
        h = NUMPY[activation](h @ weight.T + bias)
    scores = h @ pairs[-1][0].T + pairs[-1][1]
    error = ((scores - x) ** 2).sum(axis=1).mean()
    penalty = 0.01 * sum((weight**2).sum() for weight, _ in pairs)
    assert found["error"].item() == pytest.approx(error, rel=1e-12)
    assert found["loss"].item() == pytest.approx(error + penalty, rel=1e-12)


def test_the_error_without_scores_has_the_gradients_of_the_error(histories: Histories) -> None:
    x = Batch.of(histories)
    gradients = []
    for dense in (True, False):
        net = network("tanh")
        hidden = net.hidden(net.encode(x))
        if dense:
            error = losses.squared_error(net.output(hidden), x)
        else:
            error = losses.linear_squared_error(hidden, net.output, x)
        error.mean().backward()
        gradients.append([p.grad for p in net.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_the_reconstruction_error_is_in_its_own_loss(histories: Histories) -> None:
    data = recae.sample().take_users(np.arange(200))
    model = recae.VanillaAE(latent_dim=8, epochs=2).fit(data)
    asked = data.histories().take(slice(0, 5))
    scores, x = model.score(asked), asked.matrix.toarray()
    expected = ((scores - x) ** 2).sum(axis=1) / x.sum(axis=1)
    np.testing.assert_allclose(model.reconstruction_error(asked), expected, rtol=1e-4)


def test_it_beats_popularity_on_the_sample() -> None:
    split = recae.split(recae.sample(), "strong", rng=0)
    model = recae.VanillaAE(epochs=5, latent_dim=64).fit(split.train)
    table = recae.compare([model, "popular"], split, metrics=["ndcg@100"])
    table.require_beat("popular")
