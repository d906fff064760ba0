"""Exact networks by swapping modules: what they compute for a history depends on it alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recae.data.histories import Histories
from recae.models.mult_vae import MultVAENetwork
from recae.models.vanilla_ae import VanillaAENetwork
from recae.networks.batch import Batch
from recae.networks.exact import GridLinear, GridTable, exact, share_tables
from recae.networks.layers import ItemTable, linear
from recae.networks.network import Network
from tests.toy import ToyNetwork

N_ITEMS, N_USERS = 600, 61


class Dense(Network):
    """The encoder of RecVAE: LayerNorm, swish, and each layer adds all before it."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__()
        self.table = ItemTable(N_ITEMS, 48, rng)
        self.inner = nn.ModuleList(linear(48, 48, rng) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(48, eps=0.1) for _ in range(5))
        self.code = linear(48, 16, rng)
        self.output = linear(16, N_ITEMS, rng)

    def encode(self, x: Batch, *, keep: Tensor | None = None) -> Tensor:
        h = self.table(x, x.inverse_norms(self.table.dtype), keep=keep)
        outputs = [nn.functional.silu(self.norms[0](h))]
        for layer, norm in zip(self.inner, list(self.norms)[1:], strict=True):
            outputs.append(nn.functional.silu(norm(layer(outputs[-1]) + sum(outputs))))
        code: Tensor = self.code(outputs[-1])
        return code

    def hidden(self, code: Tensor) -> Tensor:
        return code

    def loss(self, x: Batch, *, step: int, rng: torch.Generator, **options: Any) -> Any:
        raise AssertionError("never trained")


class Convolution(Dense):
    """Windows over the last items of a history, in time order."""

    def __init__(self, rng: torch.Generator) -> None:
        super().__init__(rng)
        self.items = nn.Embedding(N_ITEMS + 1, 24)
        self.filters = nn.Conv1d(24, 48, 3, padding=1)

    def encode(self, x: Batch, *, keep: Tensor | None = None) -> Tensor:
        padded = torch.full((len(x), 20), N_ITEMS)
        for row, (start, length) in enumerate(zip(x.offsets, x.lengths, strict=True)):
            last = x.items[start : start + length][-20:]
            padded[row, : len(last)] = last
        h = self.filters(self.items(padded).transpose(1, 2))
        code: Tensor = self.code(torch.relu(h).amax(dim=2))
        return code


def networks() -> dict[str, Network]:
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.random.set_rng_state(rng.get_state())
        dense, convolution = Dense(rng), Convolution(rng)
    shape: dict[str, Any] = {"hidden": (48,), "latent_dim": 16, "weight_decay": 0.0, "rng": rng}
    return {
        "vanilla": VanillaAENetwork(N_ITEMS, activation="sigmoid", **shape),
        "mult-vae": MultVAENetwork(N_ITEMS, dropout=0.5, beta_cap=0.2, anneal_steps=1, **shape),
        "dense skips": dense,
        "convolution": convolution,
        "toy": ToyNetwork(N_ITEMS, 32, rng),
    }


NETWORKS = networks()


@pytest.fixture(scope="module")
def histories() -> Histories:
    draw = np.random.default_rng(3)
    lengths = [0, 1, *draw.integers(2, 90, N_USERS - 2)]
    lists = [draw.choice(N_ITEMS, n, replace=False).tolist() for n in lengths]
    return Histories.from_lists(lists, n_items=N_ITEMS)


@torch.no_grad()
def hidden(network: Any, histories: Histories) -> np.ndarray:
    return network.hidden(network.encode(Batch.of(histories, ordered=True))).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_depends_on_its_history_alone(name: str, histories: Histories) -> None:
    """One by one, in a batch, shuffled, on one thread and on two: hidden vectors that rank alike.

    What is compared are the vectors on the grid that products with the output layer see.
    """
    from recae.ranking.fixed_point import rows_on_grid

    twin = exact(NETWORKS[name])

    def gridded(some: Histories) -> np.ndarray:
        h = torch.from_numpy(hidden(twin, some))
        return rows_on_grid(h, n_terms=h.shape[1]).numpy()

    threads = torch.get_num_threads()
    together = gridded(histories)
    order = np.random.default_rng(0).permutation(len(histories))
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            alone = [gridded(histories.take(slice(u, u + 1))) for u in range(len(histories))]
            assert np.concatenate(alone).tobytes() == together.tobytes()
            assert gridded(histories.take(order)).tobytes() == together[order].tobytes()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_network_but_for_the_grids(name: str, histories: Histories) -> None:
    network = NETWORKS[name].eval()
    exactly, usually = hidden(exact(network), histories), hidden(network, histories)
    np.testing.assert_allclose(exactly, usually, atol=2e-5)


def test_tables_are_shared_and_nothing_else_is_changed(histories: Histories) -> None:
    network = networks()["mult-vae"]
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    twin = exact(network)
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())
    share_tables(network, twin)
    assert isinstance(twin.table, GridTable)
    assert isinstance(twin.output, GridLinear)
    for module, its in ((network.table, twin.table), (network.output, twin.output)):
        assert module.weight.data_ptr() == its.weight.data_ptr()
    changed = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {"table.weight", "output.weight"}


def test_kept_entries_alone_count(histories: Histories) -> None:
    """A mask gives what the history without these entries gives, but for the norm."""
    table = ItemTable(N_ITEMS, 8, torch.Generator().manual_seed(0))
    x = Batch.of(histories)
    keep = torch.rand(len(x.items), generator=torch.Generator().manual_seed(1)) > 0.3
    for layer in (table, GridTable(table)):
        masked = layer(x, keep=keep, dropout=0.5)
        scale = torch.full((len(x),), 2.0, dtype=layer.dtype)
        torch.testing.assert_close(masked, layer(x.only(keep), scale), rtol=1e-5, atol=1e-6)
