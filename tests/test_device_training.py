"""A trainer with the steps of a GPU, here on the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import nn

from recae.data.histories import canonical_csr
from recae.errors import DivergedError
from recae.networks.batch import SparseBatch
from recae.networks.losses import multinomial_nll
from recae.networks.mult_vae import Loss, MultVAENetwork
from recae.training import trainer
from recae.training.config import TrainingConfig
from recae.training.device_steps import DeviceSteps
from recae.training.optimiser import WideNetwork, resolve_path
from recae.training.trainer import Trainer

ITEMS = 120


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "recorded", lambda *_, **__: True)


def rows() -> csr_array:
    dense = np.random.default_rng(0).random((50, ITEMS)) < 0.05
    dense[1:, 3] = True  # the first user may have none
    return canonical_csr(csr_array(dense.astype(np.float32)))


def network() -> MultVAENetwork:
    rng = torch.Generator().manual_seed(0)
    return MultVAENetwork(
        ITEMS, hidden=(12,), latent_dim=6, dropout=0.5, weight_decay=0.0, beta_cap=0.2,
        anneal_steps=9, rng=rng,
    )  # fmt: skip


def config(**options: object) -> TrainingConfig:
    given = {"epochs": 4, "batch_size": 9, "device": "cpu", "learning_rate": 1e-2}
    return TrainingConfig(**(given | options))  # type: ignore[arg-type]


def same(mine: nn.Module, theirs: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True)
    )


def test_steps_are_those_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = []
    original = DeviceSteps.epoch
    monkeypatch.setattr(
        DeviceSteps, "epoch", lambda self, epoch: epochs.append(epoch) or original(self, epoch)
    )
    net = network()
    log = Trainer(config()).fit(net, rows())
    assert epochs == [0, 1, 2, 3]
    assert [record.steps for record in log] == [6, 12, 18, 24]
    assert log[-1].loss < log[0].loss
    assert log[-1].loss == pytest.approx(log[-1].nll + 0.2 * log[-1].kl, rel=1e-5)
    assert net.path is None


class OneLayer(nn.Module):
    """A network with two wide tables whose draws `DeviceSteps` does not know: it has none."""

    path = None
    weight_decay = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(ITEMS, 4, mode="sum")
        self.output = nn.Linear(4, ITEMS)

    def loss(self, x: SparseBatch, *, step: int, rng: torch.Generator) -> Loss:
        nll = x.mean(multinomial_nll(self.output(self.table(x.items, x.offsets)), x))
        return Loss(nll, nll, torch.zeros_like(nll))


def test_another_network_takes_the_steps_of_any_device() -> None:
    net = OneLayer()
    assert isinstance(net, WideNetwork)
    assert resolve_path("auto", net, torch.device("cuda")) == "gathered"
    log = Trainer(config()).fit(net, rows())
    assert log[-1].loss < log[0].loss


def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, parts, fresh = network(), network(), network()
    Trainer(config()).fit(whole, rows(), validate=lambda: 0.0)

    def interrupted() -> float:
        if len(list(tmp_path.glob("epoch-*.json"))) == 2:
            raise KeyboardInterrupt
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        Trainer(config(), directory=tmp_path).fit(parts, rows(), validate=interrupted)
    assert parts.path is None
    Trainer(config(), directory=tmp_path).fit(fresh, rows(), validate=lambda: 0.0, resume=True)
    assert same(fresh, whole)
    assert not same(fresh, parts)


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    net = network()
    with pytest.raises(
        DivergedError, match=r"the loss is (nan|inf) in epoch 1, learning rate 1e\+30"
    ):
        Trainer(config(learning_rate=1e30)).fit(net, rows())
    assert net.path is None
