"""A fitted network holds its tables once, and its output layer in 8 and 64 bits as well."""

import numpy as np
import pytest
import torch

from recae.data.interactions import Interactions
from recae.data.protocols import split
from recae.data.synthetic import Synthetic
from recae.models.autoencoder import Autoencoder, Ranking
from recae.models.mult_vae import MultDAE, MultVAE
from recae.ranking.rounded import RoundedTable

WIDTH, LATENT = 32, 4


@pytest.fixture(scope="module")
def train() -> Interactions:
    return split(Synthetic(n_users=60, n_items=500).interactions(), "strong", rng=0).train


def made(kind: type[Autoencoder], train: Interactions, hidden: tuple[int, ...]) -> Autoencoder:
    model = kind(epochs=1, hidden=hidden, latent_dim=LATENT, batch_size=16)  # type: ignore[call-arg]  # options
    return model.fit(train)


def random_weights(model: Autoencoder) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {name: array.shape for name, array in model.arrays().items()}
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def held_bytes(model: Autoencoder) -> int:
    """Bytes of all tensors of a model, a memory that several share counted once."""
    storages: dict[int, int] = {}
    waiting: list[object] = [model]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, torch.nn.Module | Autoencoder | RoundedTable | Ranking):
            waiting += vars(value).values()
    return sum(storages.values())


@pytest.mark.parametrize("kind", [MultVAE, MultDAE])
def test_tables_are_held_once(kind: type[Autoencoder], train: Interactions) -> None:
    fitted = made(kind, train, (WIDTH,))
    loaded = kind.from_arrays(fitted.config, random_weights(fitted))
    floats, output = 4 * 2 * WIDTH * train.n_items, (1 + 8) * WIDTH * train.n_items
    few = 4 * 3 * train.n_items + 4 * 4 * WIDTH * 2 * LATENT * 2  # biases, scales, inner layers
    for model in (fitted, loaded):
        assert floats <= held_bytes(model) <= floats + output + few


@pytest.mark.parametrize("kind", [MultVAE, MultDAE])
@pytest.mark.parametrize("hidden", [(), (WIDTH,)])
def test_loading_leaves_what_it_is_given_as_it_is(
    kind: type[Autoencoder], hidden: tuple[int, ...], train: Interactions
) -> None:
    fitted = made(kind, train, hidden)
    given = random_weights(fitted)
    before = {name: array.copy() for name, array in given.items()}
    loaded = kind.from_arrays(fitted.config, given)
    assert all((given[name] == array).all() for name, array in before.items())
    stored = loaded.arrays()
    again = kind.from_arrays(loaded.config, stored)
    assert all(np.shares_memory(stored[name], array) for name, array in again.arrays().items())
    first, second = (model.recommend(train.histories(), k=9) for model in (loaded, again))
    assert first.items.tobytes() == second.items.tobytes()
    assert first.scores.tobytes() == second.scores.tobytes()
