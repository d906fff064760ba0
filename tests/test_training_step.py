"""A training step: the dense equations of the paper, whole or in slices, in float32 or bfloat16."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from recae.data.histories import Histories, canonical_csr
from recae.errors import DivergedError
from recae.models.mult_vae import MultDAENetwork, MultVAENetwork
from recae.networks.batch import Batch
from recae.training.config import TrainingConfig, planned_slices
from recae.training.rows import STEP, DeviceRows, stream
from recae.training.trainer import Trainer
from tests.reference import plain

N_USERS, N_ITEMS, LATENT = 70, 400, 16
KINDS = pytest.mark.parametrize("kind", ["vae", "dae"])


def made() -> Histories:
    rng = np.random.default_rng(0)
    dense = rng.random((N_USERS, N_ITEMS)) < np.linspace(0.2, 0.01, N_ITEMS)
    dense[:, 0] = True  # nobody is empty
    return Histories(canonical_csr(csr_array(dense.astype(np.float32))))


@pytest.fixture(scope="module")
def rows() -> Histories:
    return made()


def network(kind: str, dtype: torch.dtype = torch.float32) -> Any:
    options: dict[str, Any] = {
        "hidden": (24,),
        "latent_dim": LATENT,
        "dropout": 0.4,
        "weight_decay": 1e-3,
        "rng": torch.Generator().manual_seed(1),
    }
    if kind == "dae":
        return MultDAENetwork(N_ITEMS, **options).to(dtype)
    return MultVAENetwork(N_ITEMS, beta_cap=0.3, anneal_steps=4, **options).to(dtype)


def config(**changes: Any) -> TrainingConfig:
    given = {"epochs": 3, "batch_size": 32, "learning_rate": 1e-2, "precision": "float32", "rng": 3}
    return TrainingConfig(**given | changes)


def plainly_trained(kind: str, rows: Histories, asked: TrainingConfig) -> Any:
    """Network after the steps of `asked`, with dense histories and Adam as PyTorch has it."""
    trained = network(kind)
    adam = torch.optim.Adam(trained.parameters(), lr=asked.learning_rate)
    batches = DeviceRows(rows, torch.device("cpu"))
    step = 0
    assert isinstance(asked.batch_size, int)
    for epoch in range(3):
        for (x,) in batches.epoch(asked.rng, epoch, asked.batch_size):
            rng = torch.Generator().manual_seed(stream(asked.rng, STEP, step))
            given: dict[str, Any] = {"keep": x.uniform(rng) >= trained.dropout}
            if kind == "vae":
                given |= {"noise": x.normal(LATENT, rng), "beta": trained.beta(step)}
            adam.zero_grad()
            plain.loss(trained, x, **given).backward()
            adam.step()
            step += 1
    return trained


@torch.no_grad()
def largest_difference(a: torch.nn.Module, b: torch.nn.Module) -> float:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max(float((p - q).abs().max()) for p, q in pairs)


@torch.no_grad()
def distance(a: torch.nn.Module, b: torch.nn.Module) -> float:
    """Euclidean distance of all weights."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return float(torch.cat([(p - q).flatten() for p, q in pairs]).norm())


def sliced(n_slices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recae.training.trainer.planned_slices", lambda *_: n_slices)


@KINDS
@pytest.mark.parametrize("n_slices", [1, 3])
def test_training_is_that_of_the_dense_equations(
    kind: str, n_slices: int, rows: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    sliced(n_slices, monkeypatch)
    trained = network(kind)
    Trainer(config()).fit(trained, rows)
    # Adam moves a weight by about the rate (.01) a step whatever its gradient's size, so rounding
    # of a gradient near 0 comes back as a share of the rate.
    assert largest_difference(trained, plainly_trained(kind, rows, config())) < 1e-3


def test_training_in_bfloat16_follows_the_dense_equations(rows: Histories) -> None:
    trained, start = network("vae"), network("vae")
    log = Trainer(config(precision="bfloat16")).fit(trained, rows)
    truth = plainly_trained("vae", rows, config())
    exact = Trainer(config()).fit(network("vae"), rows)
    # Products of 8 bits: losses agree to a percent, weights to a share of what they moved.
    np.testing.assert_allclose([r.loss for r in log], [r.loss for r in exact], rtol=0.01)
    assert distance(truth, trained) < 0.5 * distance(truth, start)


@KINDS
def test_slices_change_nothing_but_rounding(
    kind: str, rows: Histories, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = network(kind, torch.float64), network(kind, torch.float64)
    expected = Trainer(config()).fit(whole, rows)
    sliced(5, monkeypatch)
    found = Trainer(config()).fit(parts, rows)
    assert largest_difference(whole, parts) < 1e-10
    for a, b in zip(expected, found, strict=True):
        assert a.parts.keys() == b.parts.keys()
        np.testing.assert_allclose(a.loss, b.loss, rtol=1e-12)
        for name in a.parts:
            np.testing.assert_allclose(a.parts[name], b.parts[name], rtol=1e-12)


def test_slices_hold_the_rows_of_the_batch_and_its_draws(rows: Histories) -> None:
    batches = DeviceRows(rows, torch.device("cpu"))
    users = np.array([5, 69, 0, 31, 2, 9, 40])
    (whole,) = batches.batch(users)
    parts = batches.batch(users, 3)
    assert [len(x) for x in parts] == [3, 2, 2]
    for name in ("items", "lengths"):
        joined = torch.cat([getattr(x, name) for x in parts])
        assert torch.equal(joined, getattr(whole, name))

    def drawn(x: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        rng = torch.Generator().manual_seed(7)
        return x.uniform(rng), x.normal(4, rng)

    for found, expected in zip(zip(*map(drawn, parts), strict=True), drawn(whole), strict=True):
        assert torch.equal(torch.cat(found), expected)


def test_slices_are_chosen_by_the_size_of_the_scores() -> None:
    assert planned_slices(500, 20_000) == planned_slices(2048, 20_000) == 1
    assert planned_slices(500, 300_000) == 3
    assert planned_slices(2, 10**9) == 2  # never more than users


def test_a_rate_far_too_high_ends_the_training(rows: Histories) -> None:
    with pytest.raises(DivergedError, match=r"not finite at epoch \d+, step \d+, learning rate"):
        Trainer(config(learning_rate=1e18, epochs=30)).fit(network("vae"), rows)


def test_losses_are_summed_in_float32_under_autocast() -> None:
    """8 bits are too few for a sum over thousands of items: it would be off by a percent."""
    n_items = 4_000
    x = Batch.of(Histories.from_lists([range(n_items)], n_items=n_items))
    net = MultDAENetwork(
        n_items,
        hidden=(),
        latent_dim=4,
        dropout=0.0,
        weight_decay=0.0,
        rng=torch.Generator().manual_seed(0),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net.loss_given(x, keep=None)["nll"]
    assert found.item() == pytest.approx(n_items * np.log(n_items), rel=1e-3)


_COMPILED = """
from tests.test_training_step import Histories, Trainer, config, largest_difference, made, network
networks = []
for compiled in (True, False):
    networks.append(network("vae"))
    Trainer(config(compile=compiled)).fit(networks[-1], made())
print(largest_difference(*networks))
"""


@pytest.mark.slow
def test_a_compiled_loss_is_the_loss() -> None:
    """In a process of its own: torch cannot translate the checks of types at run time."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-W", "ignore", "-c", _COMPILED]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-3  # see the dense equations
