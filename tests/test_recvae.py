"""RecVAE against its equations in plain NumPy, and its alternating updates."""

import numpy as np
import pandas as pd
import pytest
import torch

import recae
from recae.data.histories import Histories
from recae.models.recvae import RecVAENetwork, composite_log_prior
from recae.networks.batch import Batch
from recae.training.config import TrainingConfig
from recae.training.rows import STEP, stream
from recae.training.trainer import Trainer
from tests.frames import interactions_from
from tests.reference.mult_vae_numpy import multinomial_nll

LISTS = [[0, 2, 5], [1], [0, 1, 2, 3, 4], [], [3, 4]]
N_ITEMS, LATENT, DROPOUT, GAMMA, EPS, PASSES = 6, 2, 0.5, 0.03, 0.1, 3
X = np.array([[float(item in row) for item in range(N_ITEMS)] for row in LISTS])


def network(dtype: torch.dtype = torch.float64, depth: int = 3) -> RecVAENetwork:
    rng = torch.Generator().manual_seed(3)
    shape = {"width": 4, "depth": depth, "norm_eps": EPS, "latent_dim": LATENT}
    options = {"dropout": DROPOUT, "gamma": GAMMA, "encoder_passes": PASSES}
    made = RecVAENetwork(N_ITEMS, **shape, **options, rng=rng)
    with torch.no_grad():  # so that no layer is the identity
        for p in made.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=rng))
    return made.to(dtype)


def arrays(net: RecVAENetwork) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}


def encoded(w: dict, x: np.ndarray, kept: np.ndarray | None, prefix: str = "encoder.") -> tuple:
    """Mean and log-variance; `prefix` chooses the encoder or, ``old_``, the one before."""

    def of(name: str) -> np.ndarray:
        return w[prefix + (name if prefix == "encoder." else name.replace(".", "_"))]

    def normed(h: np.ndarray, at: int) -> np.ndarray:
        h = h / (1 + np.exp(-h))
        h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + EPS)
        return h * of(f"norms.{at}.weight") + of(f"norms.{at}.bias")

    h0 = x / np.sqrt(np.maximum(x.sum(1, keepdims=True), 1))
    if kept is not None:
        h0 = h0 * kept / (1 - DROPOUT)
    outputs = [normed(h0 @ of("table.weight") + of("table.bias"), 0)]
    at = 0
    while f"encoder.layers.{at}.weight" in w:
        inner = outputs[-1] @ of(f"layers.{at}.weight").T + of(f"layers.{at}.bias")
        outputs.append(normed(inner + np.sum(outputs, axis=0), at + 1))
        at += 1
    h = outputs[-1]
    return (
        h @ of("mean.weight").T + of("mean.bias"),
        h @ of("log_var.weight").T + of("log_var.bias"),
    )


def density(z: np.ndarray, mu: np.ndarray, var: np.ndarray) -> np.ndarray:
    return np.exp(-((z - mu) ** 2) / (2 * var)) / np.sqrt(2 * np.pi * var)


def log_prior(z: np.ndarray, old: tuple) -> np.ndarray:
    return np.log(
        0.15 * density(z, 0, 1)
        + 0.75 * density(z, old[0], np.exp(old[1]))
        + 0.1 * density(z, 0, np.exp(10))
    )


def loss(
    w: dict, x: np.ndarray, kept: np.ndarray | None, noise: np.ndarray, decoding: bool
) -> float:
    mu, log_var = encoded(w, x, kept)
    z = mu + noise * np.exp(log_var / 2)
    nll = multinomial_nll(z @ w["output.weight"].T + w["output.bias"], x)
    if decoding:
        return float(nll.mean())
    kl = np.log(density(z, mu, np.exp(log_var))) - log_prior(z, encoded(w, x, None, "old_"))
    return float((nll + GAMMA * x.sum(1) * kl.sum(1)).mean())


def dense(x: Batch, of_entries: torch.Tensor) -> np.ndarray:
    out = np.zeros((len(x), N_ITEMS))
    out[x.rows().numpy(), x.items.numpy()] = of_entries.numpy()
    return out


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("decoding", [False, True])
def test_the_loss_is_that_of_the_equations(depth: int, decoding: bool) -> None:
    net = network(depth=depth)
    with torch.no_grad():
        for name, value in net.named_buffers():
            value.add_(0.1 * torch.arange(value.numel()).reshape(value.shape) / len(name))
    x = Batch.of(Histories.from_lists(LISTS, n_items=N_ITEMS))
    rng = torch.Generator().manual_seed(1)
    keep = torch.rand(len(x.items), generator=rng) >= DROPOUT
    noise = torch.randn(len(x), LATENT, generator=rng, dtype=torch.float64)
    found = net.loss_given(x, keep=keep, noise=noise, decoding=decoding)["loss"].detach()
    expected = loss(arrays(net), X, dense(x, keep), noise.numpy(), decoding)
    assert float(found) == pytest.approx(expected, abs=1e-12)
    mu, log_var = net.encoder(x)
    assert np.allclose(mu.detach(), encoded(arrays(net), X, None)[0], atol=1e-12, rtol=0)
    assert np.allclose(log_var.detach(), encoded(arrays(net), X, None)[1], atol=1e-12, rtol=0)
    old = net.old_posterior(x)
    z = noise * 3
    found_prior = composite_log_prior(z, old).numpy()
    assert np.allclose(found_prior, log_prior(z.numpy(), [o.numpy() for o in old]), atol=1e-12)


def test_one_epoch_of_alternating_updates_is_that_of_numpy() -> None:
    """Gradients by finite differences, Adam by its formula, the draws by the trainer's seeds."""
    net = network()
    w, rate = arrays(net), 0.01
    filled = [row for row in LISTS if row]
    histories = Histories.from_lists(LISTS, n_items=N_ITEMS)
    config = TrainingConfig(epochs=1, batch_size=10, learning_rate=rate, precision="float32")
    (record,) = Trainer(config).fit(net, histories)
    assert record.steps == PASSES + 1
    moments: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
    for step in range(PASSES + 1):
        decoding = step == PASSES
        order = batch_order(histories, step, config)
        x = Batch.of(Histories.from_lists([filled[at] for at in order], n_items=N_ITEMS))
        rng = torch.Generator().manual_seed(stream(config.rng, STEP, step))
        keep = None if decoding else dense(x, x.uniform(rng) >= DROPOUT)
        noise = x.normal(LATENT, rng, torch.float64).numpy()
        rows = dense(x, torch.ones(len(x.items)))
        if decoding:
            for name in [n for n in w if n.startswith("encoder.")]:
                w["old_" + name.removeprefix("encoder.").replace(".", "_")] = w[name].copy()
        moved = [n for n in w if n.startswith("output." if decoding else "encoder.")]
        gradients = {}
        for name in moved:
            gradient = np.zeros_like(w[name])
            for at in np.ndindex(gradient.shape):
                sides = []
                for sign in (1, -1):
                    moved_w = {**w, name: w[name].copy()}
                    moved_w[name][at] += sign * 1e-6
                    sides.append(loss(moved_w, rows, keep, noise, decoding))
                gradient[at] = (sides[0] - sides[1]) / 2e-6
            gradients[name] = np.where(np.abs(gradient) > 1e-8, gradient, 0)  # else rounding
        for name, gradient in gradients.items():
            first, second, n = moments.get(name, (np.zeros_like(gradient),) * 2 + (0,))
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            n += 1
            moments[name] = first, second, n
            step_size = rate * (first / (1 - 0.9**n)) / (np.sqrt(second / (1 - 0.999**n)) + 1e-8)
            w[name] = w[name] - step_size
    for name, value in arrays(net).items():
        assert np.allclose(value, w[name], atol=1e-6, rtol=0), name


def batch_order(histories: Histories, step: int, config: TrainingConfig) -> list[int]:
    """Rows of the batch of a pass, as the trainer draws them."""
    from recae.training.rows import DeviceRows

    filled = np.flatnonzero(np.diff(histories.matrix.indptr))
    rows = DeviceRows(histories.take(filled), torch.device("cpu"), ordered=False)
    ((batch,),) = list(rows.epoch(config.rng, step, 10, 1))
    lists = [sorted(row) for row in LISTS if row]
    ends = [*batch.offsets.tolist(), len(batch.items)]
    found = [sorted(batch.items[a:b].tolist()) for a, b in zip(ends, ends[1:], strict=False)]
    return [lists.index(row) for row in found]


def test_a_pass_moves_its_part_alone_and_the_old_encoder_is_refreshed() -> None:
    net = network(torch.float32)
    passes = net.passes(0)
    assert [one.options["decoding"] for one in passes] == [False] * PASSES + [True]
    assert {id(p) for p in passes[0].parameters} == {id(p) for p in net.encoder.parameters()}
    assert {id(p) for p in passes[-1].parameters} == {id(p) for p in net.output.parameters()}
    before = arrays(net)
    with torch.no_grad():
        net.encoder.mean.weight.add_(1.0)
    assert np.array_equal(arrays(net)["old_mean_weight"], before["old_mean_weight"])
    passes[-1].before()
    for name, value in net.encoder.named_parameters():
        old = net.get_buffer("old_" + name.replace(".", "_"))
        assert torch.equal(old, value), name
        assert not old.requires_grad


def test_a_stored_model_has_no_old_encoder_and_gives_the_same_lists(tmp_path) -> None:
    pairs = [(f"u{u}", f"i{i}") for u in range(30) for i in range(12) if (u + i) % 3 == 0]
    data = interactions_from(pd.DataFrame(pairs, columns=["user", "item"]))
    model = recae.RecVAE(width=8, depth=2, latent_dim=3, epochs=2).fit(data)
    assert not [name for name in model.arrays() if "old" in name]
    recae.save(model, tmp_path / "m", data=data)
    again = recae.load(tmp_path / "m").bundle.model
    histories = data.histories()
    lists = [one.recommend(histories, k=4).items.tolist() for one in (model, again)]
    assert lists[0] == lists[1]
