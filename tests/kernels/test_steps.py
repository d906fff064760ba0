"""Steps on padded, device-resident batches against the plain equations and torch's own Adam."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch.utils._python_dispatch import TorchDispatchMode

from recae.networks import device_path
from recae.networks.batch import SparseBatch
from recae.networks.kernels.entries import philox, uniform
from recae.networks.kernels.in_torch import TorchKernels
from recae.networks.kernels.in_triton import TritonKernels
from recae.networks.kernels.language import triton
from recae.networks.mult_vae import MultDAENetwork, MultVAENetwork
from recae.training.device_steps import DeviceSteps
from recae.training.rows import STEP, epoch_order, stream
from recae.training.step_graph import StepGraph

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
RUNS_TRITON = triton is not None and (CUDA or triton.knobs.runtime.interpret)
NEEDS_TRITON = pytest.mark.skipif(
    not RUNS_TRITON, reason="needs Triton and a GPU, or its interpreter: make kernel-test"
)
ITEMS, BATCH, SEED, RATE = 150, 8, 3, 1e-2


def histories(users: int, mean: float = 6.0) -> csr_array:
    """Random rows over a long tail, each with an item."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, ITEMS + 1)
    dense = rng.random((users, ITEMS)) < (popularity * mean / popularity.sum()).clip(max=0.9)
    dense[np.arange(users), rng.integers(0, ITEMS, users)] = True
    return csr_array(dense.astype(np.float32))


def network(kind: str, dtype: torch.dtype, *, decay: float = 0.0) -> Any:
    shape: dict[str, Any] = {"hidden": (12,), "latent_dim": 5, "dropout": 0.5}
    shape |= {"weight_decay": decay, "rng": torch.Generator().manual_seed(1)}
    if kind == "dae":
        return MultDAENetwork(ITEMS, **shape).to(DEVICE, dtype)
    return MultVAENetwork(ITEMS, **shape, beta_cap=0.2, anneal_steps=7).to(DEVICE, dtype)


def steps_of(net: Any, rows: csr_array, kernels: Any, **options: Any) -> DeviceSteps:
    return DeviceSteps(
        net, rows, batch_size=BATCH, n_epochs=3, learning_rate=RATE, seed=SEED, kernels=kernels,
        **{"precision": "float32", **options},
    )  # fmt: skip


def plain(net: Any, rows: csr_array, epochs: int) -> list[list[float]]:
    """Train by the equations as written, with the draws that the steps make; sums of each epoch."""
    adam = torch.optim.Adam(net.parameters(), lr=RATE)
    key = torch.tensor([stream(SEED, STEP, 0)])
    sums, step = [], 0
    for epoch in range(epochs):
        sums.append([0.0, 0.0, 0.0])
        order = epoch_order(SEED, epoch, rows.shape[0])
        for start in range(0, len(order), BATCH):
            x = SparseBatch.from_csr(rows[order[start : start + BATCH]], device=DEVICE)
            now = torch.tensor([step])
            bits, _ = philox(key, torch.arange(len(x.items)), now, 0)
            draws: dict[str, Any] = {"keep": (uniform(bits) >= net.dropout).to(DEVICE)}
            if isinstance(net, MultVAENetwork):
                one, two = philox(key, torch.arange(len(x) * net.latent_dim), now, 1)
                noise = (-2 * (1 - uniform(one)).log()).sqrt() * (2 * math.pi * uniform(two)).cos()
                noise = noise.view(len(x), -1).to(DEVICE, net.dtype)
                draws |= {"noise": noise, "beta": net.beta(step)}
            loss = net.loss_given(x, **draws)
            adam.zero_grad()
            loss.total.backward()
            adam.step()
            for i, part in enumerate((loss.total, loss.nll, loss.kl)):
                sums[-1][i] += part.item() * len(x)
            step += 1
    return sums


def distance(found: torch.Tensor, truth: torch.Tensor) -> float:
    found, truth = found.detach().double(), truth.detach().double()
    return float((found - truth).norm() / truth.norm())


@pytest.mark.parametrize("kind", ["vae", "dae"])
@pytest.mark.parametrize("decay", [0.0, 1e-3])
@pytest.mark.parametrize("blocks", [1, 2])
def test_padded_steps_equal_the_plain_ones(kind: str, decay: float, blocks: int) -> None:
    """In float64, where both differ by roundings only; the last batch of an epoch is short."""
    rows = histories(3 * BATCH + 5)
    truth, net = (network(kind, torch.float64, decay=decay) for _ in range(2))
    steps = steps_of(net, rows, TorchKernels())
    if blocks == 2:
        steps._path.stored_bytes = 128 * 8 * BATCH  # `e` of one tile
        assert steps._path.block(BATCH) == 128
    expected = plain(truth, rows, 3)
    for epoch in range(3):
        np.testing.assert_allclose(steps.epoch(epoch).numpy(), expected[epoch], rtol=1e-10)
    steps.close()
    assert net.path is None
    for (name, mine), true in zip(net.named_parameters(), truth.parameters(), strict=True):
        assert distance(mine, true) < 1e-10, name


@pytest.mark.parametrize("kind", ["vae", "dae"])
@pytest.mark.parametrize("kernels", ["torch", pytest.param("triton", marks=NEEDS_TRITON)])
def test_float32_steps_follow_the_plain_ones(kind: str, kernels: str) -> None:
    rows = histories(2 * BATCH + 3)
    truth, net = network(kind, torch.float64), network(kind, torch.float32)
    chosen = TorchKernels() if kernels == "torch" else TritonKernels(users=16, inner=32, warps=4)
    steps = steps_of(net, rows, chosen)
    assert steps._path.deferred == (kernels == "triton")
    expected = plain(truth, rows, 2)
    for epoch in range(2):
        found = steps.epoch(epoch).cpu().numpy()
        np.testing.assert_allclose(found, expected[epoch], rtol=1e-4)
    steps.close()
    # Adam divides by the size of a gradient, so a rounding of a small one grows.
    for (name, mine), true in zip(net.named_parameters(), truth.parameters(), strict=True):
        assert distance(mine, true) < 2e-3, name


@pytest.mark.parametrize("kernels", ["torch", pytest.param("triton", marks=NEEDS_TRITON)])
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "recomputed"])
def test_gradients_in_bfloat16_agree_with_float64(kernels: str, stored: bool) -> None:
    """Of the likelihood, by the first moments after one step: a tenth of the gradients."""
    rows = histories(BATCH)
    truth, net = network("vae", torch.float64), network("vae", torch.float32)
    chosen = TorchKernels() if kernels == "torch" else TritonKernels(users=16, inner=32, warps=4)
    steps = steps_of(net, rows, chosen, precision="bfloat16")
    if not stored:
        steps._path.stored_bytes = 0
    steps.epoch(0)
    plain(truth, rows, 1)
    gradients = {name: p.grad for name, p in truth.named_parameters()}
    for name, table in steps._tables.items():
        assert distance(table.exp_avg, 0.1 * gradients[name]) < 1e-2, name  # type: ignore[operator]  # tensors


class Recorded(TorchDispatchMode):
    """Names of the operations of torch inside, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.masks = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.__name__.split(".")[0])
        if func.__name__.startswith("index"):
            leaves = [a for a in torch.utils._pytree.tree_leaves(args) if torch.is_tensor(a)]
            self.masks += any(leaf.dtype == torch.bool for leaf in leaves)
        return func(*args, **(kwargs or {}))


@pytest.mark.skipif(CUDA, reason="backward runs in another thread; benchmarks/gpu.py asks CUDA")
@pytest.mark.parametrize("kind", ["vae", "dae"])
def test_a_step_waits_for_nothing(kind: str) -> None:
    """No operation whose result the host must know, so that a step can be recorded in a graph."""
    net = network(kind, torch.float32)
    steps = steps_of(net, histories(2 * BATCH), TorchKernels())
    steps.epoch(0)
    with Recorded() as recorded:
        steps._graph()
    assert {"mm", "sort", "index_select", "_fused_adam_"} <= recorded.names
    waiting = {
        "_local_scalar_dense", "equal", "is_nonzero", "item", "masked_select", "nonzero",
        "repeat_interleave", "unique", "_unique2", "unique_consecutive", "unique_dim",
    }  # fmt: skip
    assert not recorded.names & waiting
    assert not recorded.masks  # an index by a mask asks how many places it has
    # Whoever asks is seen.
    with Recorded() as recorded:
        torch.ones(2)[torch.tensor([True, False])].sum().item()
    assert recorded.masks
    assert recorded.names & waiting


def test_capacity_grows_with_the_batches_of_an_epoch() -> None:
    steps = steps_of(network("dae", torch.float32), histories(20), TorchKernels())
    steps._make_room(900)
    assert steps._capacity == 1024
    steps._make_room(1000)
    assert steps._capacity == 1024
    steps._make_room(1025)
    assert steps._capacity == 2048


@pytest.mark.parametrize("kernels", ["torch", pytest.param("triton", marks=NEEDS_TRITON)])
def test_a_restored_run_goes_on_to_the_same_bytes(kernels: str) -> None:
    rows = histories(2 * BATCH + 3)
    make = TorchKernels if kernels == "torch" else TritonKernels
    whole, first, second = (network("vae", torch.float32) for _ in range(3))
    straight = steps_of(whole, rows, make())
    straight.epoch(0), straight.settle(), straight.epoch(1)
    straight.close()
    begun = steps_of(first, rows, make())
    begun.epoch(0), begun.settle()
    state = {name: value.detach().clone() for name, value in begun.state().items()}
    with torch.no_grad():
        for mine, theirs in zip(second.parameters(), first.parameters(), strict=True):
            mine.copy_(theirs)
    resumed = steps_of(second, rows, make())
    resumed.restore(state)
    resumed.epoch(1)
    resumed.close()
    for mine, theirs in zip(second.parameters(), whole.parameters(), strict=True):
        # The same bytes are promised on the CPU; on a GPU torch adds in any order.
        torch.testing.assert_close(mine, theirs, rtol=1e-3 * CUDA, atol=1e-5 * CUDA)


def test_a_shift_that_is_too_low_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """No popular item among those asked: logits of 90 above the shift, float64 alone is right."""
    monkeypatch.setattr(device_path, "_FEW", 1)
    rows = histories(BATCH)
    truth, net = network("dae", torch.float64), network("dae", torch.float32)
    for each in (truth, net):
        with torch.no_grad():
            each.output.bias[140:] += 120
    steps = steps_of(net, rows, TorchKernels())
    expected = plain(truth, rows, 1)
    np.testing.assert_allclose(steps.epoch(0).numpy(), expected[0], rtol=1e-5)
    steps.close()
    for (name, mine), true in zip(net.named_parameters(), truth.parameters(), strict=True):
        assert distance(mine, true) < 1e-3, name


@pytest.mark.skipif(not CUDA, reason="needs a GPU")
def test_replayed_steps_equal_single_ones() -> None:
    rows = histories(6 * BATCH + 3)
    nets = [network("vae", torch.float32) for _ in range(2)]
    for net, alone in zip(nets, (False, True), strict=True):
        steps = steps_of(net, rows, None)
        if alone:
            steps._graph = StepGraph(steps._step, torch.device("meta"))
        for epoch in range(3):
            steps.epoch(epoch)
        steps.close()
    for mine, theirs in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
