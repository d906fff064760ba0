"""The fast training step: the numbers of the plain equations, by blocks."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from recae.data.histories import canonical_csr
from recae.errors import ConfigError, DivergedError
from recae.networks import fused_softmax
from recae.networks.batch import SparseBatch
from recae.networks.fused_softmax import FusedSoftmax
from recae.networks.item_bags import item_bags
from recae.networks.losses import multinomial_nll
from recae.networks.mult_vae import MultDAENetwork, MultVAENetwork
from recae.training.config import TrainingConfig
from recae.training.optimiser import Optimiser, resolve_path
from recae.training.table_adam import TableAdam
from recae.training.trainer import Trainer

PRECISIONS = pytest.mark.parametrize("precision", ["float32", "bfloat16"])
# Relative error of a gradient, as a norm, against float64: a rounding of bfloat16 is 2e-3.
BOUND = {"float32": 1e-5, "bfloat16": 1e-2}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks, the last one short, at the sizes of a test."""
    monkeypatch.setattr(fused_softmax, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(fused_softmax, "_LEAST_ITEMS", 70)
    monkeypatch.setattr(fused_softmax, "_BLOCK_ITEMS", 100)
    monkeypatch.setattr(fused_softmax, "_SHIFT_ITEMS", 8)
    monkeypatch.setattr("recae.networks.item_bags._ROWS", 50)
    monkeypatch.setattr("recae.training.table_adam._CHUNK", 16)


def histories(users: int, items: int, *, seed: int = 0, mean: float = 8.0) -> csr_array:
    """Random rows over a long tail, the first one empty."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, items + 1)
    popularity = rng.permutation(popularity * mean / popularity.sum()).clip(max=0.9)
    dense = rng.random((users, items)) < popularity
    dense[0] = False
    dense[1:, 0] = True
    return canonical_csr(csr_array(dense.astype(np.float32)))


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradients(nll: object, *leaves: Tensor, weights: Tensor) -> list[Tensor]:
    """Value and gradients of the weighted sum of ``nll(*leaves)``."""
    leaves = tuple(leaf.detach().clone().requires_grad_() for leaf in leaves)
    value = nll(*leaves)  # type: ignore[operator]  # a function
    (value * weights.to(value.dtype)).sum().backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]


def distance(found: Tensor, truth: Tensor) -> float:
    return float((found.double() - truth).norm() / truth.norm())


def plain(x: SparseBatch):  # type: ignore[no-untyped-def]
    return lambda h, weight, bias: multinomial_nll(h @ weight.T + bias, x)


def output_layer(users: int, items: int, width: int, *, scale: float) -> tuple[Tensor, ...]:
    h = torch.tanh(normal(users, width, seed=1))
    weight = normal(items, width, seed=2) * scale / width**0.5
    return h, weight, normal(items, seed=3) * 0.5 - 1


@PRECISIONS
@pytest.mark.parametrize("stored_bytes", [0, 1 << 30], ids=["recomputed", "stored"])
@pytest.mark.parametrize(("users", "items", "width"), [(33, 517, 24), (1, 3, 2), (60, 100, 8)])
def test_likelihood_and_gradients(
    precision: str, stored_bytes: int, users: int, items: int, width: int
) -> None:
    matrix = histories(users, items) if users > 1 else csr_array(np.eye(1, items, dtype=np.float32))
    x = SparseBatch.from_csr(matrix)
    leaves = output_layer(users, items, width, scale=2.0)
    weights = normal(users, seed=4)  # each user's part of the gradient has its own factor
    fast = FusedSoftmax(precision, stored_bytes=stored_bytes)  # type: ignore[arg-type]
    truth = gradients(plain(x), *(leaf.double() for leaf in leaves), weights=weights.double())
    found = gradients(lambda h, w, b: fast(h, w, b, x), *leaves, weights=weights)
    assert [f.dtype for f in found] == [torch.float32] * 4
    for mine, true in zip(found, truth, strict=True):
        assert distance(mine, true) < BOUND[precision]


@PRECISIONS
@pytest.mark.parametrize("strength", [48.0, 384.0], ids=["above", "overflowing"])
def test_logits_far_above_the_reference_shift(precision: str, strength: float) -> None:
    """Twenty items of low bias, so not among those asked for the shift, have the largest logits.

    Their differences are what counts: at such logits bfloat16 alone is too coarse for them.
    """
    x = SparseBatch.from_csr(histories(40, 300))
    h, weight, bias = output_layer(40, 300, 16, scale=1.0)
    h[5] = h[5].sign()
    weight[230:250] = strength * h[5] / 16
    bias[230:250] = torch.linspace(-3.0, -4.0, 20)
    truth = gradients(
        plain(x), h.double(), weight.double(), bias.double(), weights=torch.ones(40).double()
    )
    assert (h @ weight.T).max() == strength
    fast = FusedSoftmax(precision)  # type: ignore[arg-type]
    found = gradients(lambda *a: fast(*a, x), h, weight, bias, weights=torch.ones(40))
    for mine, true in zip(found, truth, strict=True):
        assert distance(mine, true) < BOUND[precision]


@pytest.fixture
def few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search for the shift that goes on and on is an error here, not a test without an end."""
    passes, sums = itertools.count(1), fused_softmax._sums

    def counted(*arguments: Any) -> Any:
        assert next(passes) <= 1000, "no end in sight"
        return sums(*arguments)

    monkeypatch.setattr(fused_softmax, "_sums", counted)


@pytest.mark.usefixtures("few_passes")
@PRECISIONS
@pytest.mark.parametrize("stored_bytes", [0, 1 << 30], ids=["recomputed", "stored"])
@pytest.mark.parametrize("size", [1e3, 5e4, 1e6, 1e9])
def test_logits_of_any_size_end_in_a_right_number_or_in_none(
    precision: str, stored_bytes: int, size: float
) -> None:
    x = SparseBatch.from_csr(histories(40, 300))
    h, weight, bias = output_layer(40, 300, 16, scale=1.0)
    weight *= size / (h @ weight.T).max()
    leaves = h.double(), weight.double(), bias.double()
    truth = gradients(plain(x), *leaves, weights=torch.ones(40).double())
    fast = FusedSoftmax(precision, stored_bytes=stored_bytes)  # type: ignore[arg-type]
    found = gradients(lambda *a: fast(*a, x), h, weight, bias, weights=torch.ones(40))
    if precision == "bfloat16" and size == 1e9:  # a rounded shift alone is off by thousands
        assert not torch.isfinite(found[0]).all()
        return
    # The factors of each product are rounded once, the float32 sums as often as they have terms.
    rounding = {"float32": 2.0**-20, "bfloat16": 2.0**-8}[precision]
    largest = (leaves[0].abs() @ leaves[1].T.abs()).amax(1) + leaves[2].abs().max()
    assert ((found[0] - truth[0]).abs() <= x.lengths * rounding * largest + 1e-3).all()
    assert all(torch.isfinite(part).all() for part in found)


@pytest.mark.usefixtures("few_passes")
@pytest.mark.parametrize("stored_bytes", [0, 1 << 30], ids=["recomputed", "stored"])
def test_a_shift_rounded_far_above_all_logits_is_replaced(stored_bytes: int) -> None:
    """Logits of 17.56 / 16 of 2 ** 16 are rounded up by 224: every exponential would be 0."""
    x = SparseBatch.from_csr(csr_array(np.eye(3, 300, dtype=np.float32)))
    leaves = torch.full((3, 1), 1 + 9 / 128), torch.full((300, 1), 2.0**16 * (1 + 8 / 128))
    fast = FusedSoftmax("bfloat16", stored_bytes=stored_bytes)
    found = gradients(lambda *a: fast(*a, x), *leaves, torch.zeros(300), weights=torch.ones(3))
    # The two parts of a shift are 2 ** -18 of it apart from it.
    torch.testing.assert_close(found[0], torch.full((3,), 300.0).log(), rtol=0, atol=0.3)
    each = torch.full((300,), 3 / 300)
    each[:3] -= 1
    torch.testing.assert_close(found[3], each, rtol=1e-2, atol=1e-4)


@pytest.mark.usefixtures("few_passes")
def test_a_rate_far_too_high_ends_the_training() -> None:
    """It goes on with right numbers, or says that it diverged."""
    losses = {}
    for precision, rate in (("float32", 1e3), ("bfloat16", 1e3), ("bfloat16", 1e6)):
        options = TrainingConfig(
            epochs=10, batch_size=20, learning_rate=rate, patience=None, path="fast",
            device="cpu", precision=precision,  # type: ignore[arg-type]
        )  # fmt: skip
        trainer, net = Trainer(options), network("dae", 300)
        if rate == 1e6:
            with pytest.raises(DivergedError, match=r"the loss is (nan|inf|-inf) at epoch 1"):
                trainer.fit(net, histories(100, 300))
            continue
        losses[precision] = [record.loss for record in trainer.fit(net, histories(100, 300))]
    assert losses["float32"][-1] > 1e5
    # So far away each rounded step leads elsewhere, as badly.
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.1)


@PRECISIONS
def test_a_large_common_bias_costs_no_precision(precision: str) -> None:
    x = SparseBatch.from_csr(histories(30, 200))
    h, weight, bias = output_layer(30, 200, 16, scale=1.0)
    leaves = (h, weight, bias + 60)
    fast = FusedSoftmax(precision)  # type: ignore[arg-type]
    found = gradients(lambda *a: fast(*a, x), *leaves, weights=torch.ones(30))
    double = [leaf.double() for leaf in leaves]
    truth = gradients(plain(x), *double, weights=torch.ones(30).double())
    for mine, true in zip(found, truth, strict=True):
        assert distance(mine, true) < BOUND[precision]


@PRECISIONS
def test_each_users_gradient_sums_to_zero(precision: str) -> None:
    x = SparseBatch.from_csr(histories(50, 400))
    leaves = output_layer(50, 400, 16, scale=3.0)
    fast = FusedSoftmax(precision)  # type: ignore[arg-type]
    _, _, _, bias = gradients(lambda *a: fast(*a, x), *leaves, weights=torch.ones(50))
    # The parts of the bias gradient are rounded once; `e` and its sum agree before that.
    assert abs(float(bias.sum())) < BOUND[precision] * float(bias.abs().sum()) / 10


@pytest.mark.usefixtures("few_passes")
@PRECISIONS
def test_numbers_that_are_not_finite_stay_so(precision: str) -> None:
    x = SparseBatch.from_csr(histories(5, 30))
    fast = FusedSoftmax(precision)  # type: ignore[arg-type]
    for place, value in itertools.product(range(3), (math.nan, math.inf, -math.inf)):
        leaves = output_layer(5, 30, 4, scale=1.0)
        leaves[place].view(-1)[0] = value
        assert not torch.isfinite(fast(*leaves, x)).all()


def test_the_plain_loss_is_summed_in_float32_under_autocast() -> None:
    x = SparseBatch.from_csr(histories(20, 400, mean=80.0))
    h, weight, bias = output_layer(20, 400, 8, scale=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = multinomial_nll(nn.functional.linear(h, weight, bias), x)
    truth = plain(x)(h.double(), weight.double(), bias.double())
    assert found.dtype == torch.float32
    assert distance(found, truth) < 1e-3


def test_two_steps_between_one_zeroing_add_up() -> None:
    x = SparseBatch.from_csr(histories(20, 150))
    h, weight, bias = output_layer(20, 150, 8, scale=1.0)
    fast = FusedSoftmax("float32")
    table = weight.clone().requires_grad_()
    first, second = fast(h, table, bias, x).sum(), fast(2 * h, table, bias, x).sum()
    first.backward()
    once = table.grad.clone()  # type: ignore[union-attr]  # just made
    second.backward()
    torch.testing.assert_close(
        table.grad - once,  # type: ignore[operator]  # a tensor
        gradients(plain(x), 2 * h, weight, bias, weights=torch.ones(20))[2],
    )


@pytest.mark.parametrize("touched_only", [False, True])
def test_item_bags(touched_only: bool) -> None:
    x = SparseBatch.from_csr(histories(40, 230))
    values = normal(len(x.items), seed=1) * (normal(len(x.items), seed=2) > 0)
    weights, table = normal(40, 12, seed=3), normal(230, 12, seed=4)

    def truth(table: Tensor) -> Tensor:
        return nn.functional.embedding_bag(
            x.items, table, x.offsets, mode="sum", per_sample_weights=values.to(table.dtype)
        )

    expected = gradients(truth, table.double(), weights=weights.double())
    found = gradients(
        lambda t: item_bags(t, x, values, touched_only=touched_only), table, weights=weights
    )
    for mine, true in zip(found, expected, strict=True):
        assert distance(mine, true) < 1e-6


def network(kind: str, n_items: int, *, weight_decay: float = 0.0) -> nn.Module:
    shape = {"hidden": (12,), "latent_dim": 6, "dropout": 0.5, "weight_decay": weight_decay}
    rng = torch.Generator().manual_seed(5)
    if kind == "dae":
        return MultDAENetwork(n_items, **shape, rng=rng)  # type: ignore[arg-type]
    return MultVAENetwork(n_items, **shape, beta_cap=0.2, anneal_steps=9, rng=rng)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("widths", [range(1, 71), (100, 200, 300, 600)], ids=["small", "usual"])
def test_deferred_rows_end_where_dense_adam_ends(
    widths: Sequence[int], weight_decay: float
) -> None:
    """To the bit where the width is a multiple of 8, else but for roundings."""
    for width in widths:
        start = normal(71, width, seed=0)
        dense, table = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        adam = torch.optim.Adam([dense], lr=1e-2, weight_decay=weight_decay, fused=True)
        mine = TableAdam(table, learning_rate=1e-2, weight_decay=weight_decay)
        rng = np.random.default_rng(0)
        exact = width % 8 == 0
        for step in range(40):
            rows = torch.from_numpy(np.flatnonzero(rng.random(71) < (np.arange(71) / 300)))
            mine.ready(rows)
            assert not exact or torch.equal(table[rows], dense[rows])
            gradient = normal(len(rows), width, seed=step)
            dense.grad = torch.zeros(71, width).index_copy(0, rows, gradient)
            adam.step()
            mine.add(rows, gradient)
            mine.finish()
            if step == 20:
                assert not torch.equal(table, dense)
                mine.settle()
                stopped = mine
                mine = TableAdam(table, learning_rate=1e-2, weight_decay=weight_decay)
                mine.restore(stopped.exp_avg, stopped.exp_avg_sq, stopped.steps)
        mine.settle()
        state = adam.state[dense]
        pairs = [(table, dense)] + [(getattr(mine, n), state[n]) for n in ("exp_avg", "exp_avg_sq")]
        for found, truth in pairs:
            if exact:
                assert torch.equal(found, truth), width
            else:
                # Adam divides by the size of a gradient, so a rounding of a small one grows: 8e-7
                # of the largest weight was found, an update left out is 1e-3.
                bound = 1e-5 * float(truth.detach().abs().max())
                torch.testing.assert_close(found, truth, rtol=0, atol=bound)


def test_moments_that_vanished_are_cleared() -> None:
    table = nn.Parameter(torch.ones(2, 16))
    adam = TableAdam(table, learning_rate=1e-2)
    adam.add(slice(0, 2), torch.full((2, 16), 1e-4))
    adam.finish()
    for _ in range(1500):  # long enough for 0.9 ** n to leave the normal numbers
        adam.add(slice(0, 2), torch.zeros(2, 16))
        adam.finish()
    assert (adam.exp_avg != 0).all()
    weights = table.detach().clone()
    adam.settle()
    assert (adam.exp_avg == 0).all()
    assert torch.equal(table, weights)


def trained(path: str, kind: str, *, precision: str = "float32", weight_decay: float = 0.0,
            entries: float, steps: int = 25) -> tuple[nn.Module, list[float]]:  # fmt: skip
    """A network after some steps, and its losses."""
    net = network(kind, 300, weight_decay=weight_decay)
    optimiser = Optimiser(
        net,
        path=path,  # type: ignore[arg-type]
        learning_rate=1e-2,
        precision=precision,  # type: ignore[arg-type]
        entries=entries,
        every_step=False,
    )
    losses = []
    for step in range(steps):
        x = SparseBatch.from_csr(histories(20, 300, seed=step))
        loss = net.loss(x, step=step, rng=torch.Generator().manual_seed(step))  # type: ignore[operator]
        optimiser.minimise(loss.total)
        losses.append(loss.total.item())
    optimiser.close()
    assert net.path is None
    if path == "fast":
        assert net.table.weight.grad is None  # type: ignore[union-attr]  # a Linear
        assert net.output.weight.grad is None  # type: ignore[union-attr]  # a Linear
    return net, losses


@pytest.mark.parametrize("kind", ["vae", "dae"])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
@pytest.mark.parametrize(
    ("path", "entries"),
    [("fast", 0.0), ("fast", 1e9), ("gathered", 1e9)],
    ids=["fast, touched rows", "fast, all rows", "gathered"],
)
def test_training_steps_equal_the_plain_ones(
    kind: str, weight_decay: float, path: str, entries: float
) -> None:
    truth, expected = trained("plain", kind, weight_decay=weight_decay, entries=entries)
    found, losses = trained(path, kind, weight_decay=weight_decay, entries=entries)
    # Adam divides by the size of a gradient, so a rounding of a small one grows: 25 steps of .01.
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for (name, mine), theirs in zip(found.named_parameters(), truth.parameters(), strict=True):
        assert distance(mine.detach(), theirs.detach().double()) < 1e-3, name


def test_training_steps_in_bfloat16_follow_the_plain_ones() -> None:
    _, expected = trained("plain", "vae", entries=0.0)
    _, losses = trained("fast", "vae", precision="bfloat16", entries=0.0)
    np.testing.assert_allclose(losses, expected, rtol=3e-3)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_trainer_on_both_paths(ema_decay: float | None) -> None:
    rows = histories(200, 300, seed=7, mean=1.0)  # few enough that rows are put off
    logs = {}
    for path in ("plain", "gathered", "fast"):
        config = TrainingConfig(
            epochs=3,
            batch_size=13,
            learning_rate=1e-2,
            path=path,  # type: ignore[arg-type]
            ema_decay=ema_decay,
            device="cpu",
            precision="float32",
        )
        net = network("vae", 300)

        def validate(net: nn.Module = net) -> float:
            return -net.table.weight.norm().item()  # type: ignore[union-attr]  # a Linear

        log = Trainer(config).fit(net, rows, validate=validate)
        logs[path] = [(r.loss, r.kl, float(r.validation)) for r in log]  # type: ignore[arg-type]
        assert net.path is None
    np.testing.assert_allclose(logs["fast"], logs["plain"], rtol=1e-4)
    np.testing.assert_allclose(logs["gathered"], logs["plain"], rtol=1e-4)


def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    rows = histories(100, 300, seed=1, mean=2.0)  # few enough that late rows are replayed
    config = TrainingConfig(epochs=4, batch_size=9, path="fast", device="cpu", learning_rate=1e-2)
    whole, parts, fresh = (network("vae", 300) for _ in range(3))
    Trainer(config).fit(whole, rows, validate=lambda: 0.0)

    def interrupted() -> float:
        if len(list(tmp_path.glob("epoch-*.json"))) == 2:
            assert parts.path.touched_only  # type: ignore[union-attr]  # set by the trainer
            raise KeyboardInterrupt
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        Trainer(config, directory=tmp_path).fit(parts, rows, validate=interrupted)
    assert parts.path is None
    Trainer(config, directory=tmp_path).fit(fresh, rows, validate=lambda: 0.0, resume=True)
    for mine, theirs in zip(fresh.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("n_items", "path"), [(9_999, "gathered"), (10_000, "fast")])
def test_auto_is_fast_from_ten_thousand_items(n_items: int, path: str) -> None:
    net = network("vae", n_items)
    assert resolve_path("auto", net, torch.device("cpu")) == path
    assert resolve_path("auto", net, torch.device("cuda")) == "fast"
    assert resolve_path("auto", net, torch.device("cuda"), every_step=True) == "gathered"
    assert resolve_path("auto", net.double(), torch.device("cpu")) == "gathered"


def test_same_seed_same_bytes() -> None:
    runs = [trained("fast", "vae", precision="bfloat16", entries=0.0, steps=6) for _ in range(2)]
    for mine, theirs in zip(*(net.parameters() for net, _ in runs), strict=True):
        assert torch.equal(mine, theirs)


def test_a_network_without_tables_has_no_fast_path() -> None:
    class Narrow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def loss(self, x: SparseBatch, *, step: int, rng: torch.Generator) -> object:
            raise AssertionError

    config = TrainingConfig(epochs=1, path="fast", device="cpu")
    with pytest.raises(ConfigError, match="path is fast; this network has none"):
        Trainer(config).fit(Narrow(), histories(4, 3))
