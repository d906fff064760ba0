"""Training: it learns, stops, keeps the best, and resumes to the same bytes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from recae.data.histories import Histories, canonical_csr
from recae.data.protocols import split
from recae.data.synthetic import Synthetic
from recae.errors import BusyError, ConfigError, DataError, DivergedError, ResourceError
from recae.models import autoencoder
from recae.models.mult_vae import MultDAENetwork, MultVAE, MultVAENetwork
from recae.networks.exact import exact
from recae.training.checkpoint import CheckpointStore
from recae.training.config import (
    TrainingConfig,
    planned_batch_size,
    planned_epochs,
    steps_per_epoch,
)
from recae.training.device import resolve_device, resolve_precision
from recae.training.rows import DeviceRows, stream
from recae.training.trainer import Trainer

N_USERS, N_ITEMS = 60, 30


def rows(seed: int = 0) -> Histories:
    """Two tastes: even users like the first half of the items, odd users the second."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((N_USERS, N_ITEMS), dtype=np.float32)
    for user in range(N_USERS):
        half = np.arange(N_ITEMS // 2) + (user % 2) * (N_ITEMS // 2)
        dense[user, rng.choice(half, size=6, replace=False)] = 1
    return Histories(canonical_csr(csr_array(dense)))


def vae(seed: int = 0) -> MultVAENetwork:
    return MultVAENetwork(
        N_ITEMS,
        hidden=(16,),
        latent_dim=4,
        dropout=0.3,
        weight_decay=0.0,
        beta_cap=0.2,
        anneal_steps=20,
        rng=torch.Generator().manual_seed(seed),
    )


def weights_hash(network: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in network.named_parameters():
        digest.update(name.encode())
        digest.update(value.detach().numpy().tobytes())
    return digest.hexdigest()


def config(**changes: object) -> TrainingConfig:
    return TrainingConfig(**{"epochs": 6, "batch_size": 16, "patience": None} | changes)  # type: ignore[arg-type]


def test_the_loss_falls_and_every_user_is_seen_once_an_epoch() -> None:
    network = vae()
    log = Trainer(config(epochs=30, learning_rate=0.01)).fit(network, rows())
    assert log[-1].parts["nll"] < log[0].parts["nll"] - 0.5
    assert [record.steps for record in log[:2]] == [4, 8]  # 16 + 16 + 16 + 12 users
    seen = np.concatenate(
        [x.lengths.numpy() for (x,) in DeviceRows(rows(), torch.device("cpu")).epoch(1, 0, 16)]
    )
    assert len(seen) == N_USERS


def test_a_batch_holds_the_rows_it_was_asked_for() -> None:
    matrix = rows()
    (x,) = DeviceRows(matrix, torch.device("cpu")).batch(np.array([5, 0, 59]))
    for place, user in enumerate((5, 0, 59)):
        start = x.offsets[place]
        items = x.items[start : start + x.lengths[place]].numpy()
        np.testing.assert_array_equal(items, matrix.matrix[[user]].indices)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not() -> None:
    hashes = []
    for seed in (1, 1, 2):
        network = vae()
        Trainer(config(rng=seed)).fit(network, rows())
        hashes.append(weights_hash(network))
    assert hashes[0] == hashes[1] != hashes[2]


def test_training_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    Trainer(config()).fit(vae(), rows())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_best_weights_come_back() -> None:
    scores = iter([0.1, 0.5, 0.3, 0.2, 0.4, 0.45])
    network = vae()
    hashes = []

    def validate() -> float:
        hashes.append(weights_hash(network))
        return next(scores)

    log = Trainer(config()).fit(network, rows(), validate=validate)
    assert [record.best for record in log] == [True, True, False, False, False, False]
    assert weights_hash(network) == hashes[1]


def test_patience_counts_epochs_without_a_better_score() -> None:
    scores = iter([0.5, 0.4, 0.3, 0.9, 0.1, 0.2, 0.3])
    log = Trainer(config(epochs=50, patience=3)).fit(vae(), rows(), validate=lambda: next(scores))
    assert len(log) == 7


def test_the_average_is_validated_and_kept() -> None:
    plain, averaged, seen = vae(), vae(), []
    Trainer(config()).fit(plain, rows())

    def validate() -> float:
        seen.append(weights_hash(averaged))
        return float(len(seen))

    Trainer(config(ema_decay=0.9)).fit(averaged, rows(), validate=validate)
    assert weights_hash(averaged) == seen[-1] != weights_hash(plain)


def test_a_validation_part_without_a_target_is_refused(tmp_path: Path) -> None:
    parts = split(Synthetic(n_users=60, n_items=30).interactions(), "strong", rng=0)
    assert parts.validation is not None
    nothing = canonical_csr(csr_array(parts.validation.target.shape, dtype=np.float32))
    aimless = replace(parts.validation, target=nothing)
    model = MultVAE(epochs=2, hidden=(), latent_dim=4)
    with pytest.raises(DataError, match="no validation user has a target to be judged on"):
        model.fit(parts.train, validation=aimless, checkpoint=tmp_path)
    assert not any(tmp_path.iterdir())


def test_empty_rows_are_not_trained_on() -> None:
    matrix = rows()
    with_empty = canonical_csr(
        csr_array(np.vstack([matrix.matrix.toarray(), np.zeros((5, N_ITEMS), dtype=np.float32)]))
    )
    log = Trainer(config()).fit(vae(), Histories(with_empty))
    assert log[0].steps == 4
    with pytest.raises(DataError, match="no training user has an interaction"):
        Trainer(config()).fit(vae(), Histories.from_lists([[], []], n_items=N_ITEMS))


def test_a_loss_that_is_not_finite_names_epoch_step_and_rate() -> None:
    network = vae()
    with torch.no_grad():
        network.output.weight[0, 0] = float("nan")
    with pytest.raises(DivergedError, match=r"not finite at epoch 1, step 0, learning rate 0\.001"):
        Trainer(config()).fit(network, rows())


def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, parts = vae(), vae()
    options = {"ema_decay": 0.9, "rng": 3}

    def scored(network: MultVAENetwork) -> float:
        return float(network.output.bias.detach().sum())

    Trainer(config(epochs=6, **options)).fit(whole, rows(), validate=lambda: scored(whole))

    def interrupted() -> float:
        if len(list(tmp_path.glob("epoch-*.json"))) == 2:
            raise KeyboardInterrupt
        return scored(parts)

    with pytest.raises(KeyboardInterrupt):
        Trainer(config(epochs=6, **options), directory=tmp_path).fit(
            parts, rows(), validate=interrupted
        )
    fresh = vae(seed=9)
    log = Trainer(config(epochs=6, **options), directory=tmp_path).fit(
        fresh, rows(), validate=lambda: scored(fresh), resume=True
    )
    assert weights_hash(fresh) == weights_hash(whole)
    lines = (tmp_path / "training.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [asdict(record) for record in log]
    assert len(log) == 6


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    trainer = Trainer(config(epochs=3), directory=tmp_path, identity={"data": "a"})
    network = vae()
    trainer.fit(network, rows())
    store = CheckpointStore(tmp_path)
    identity = json.loads((tmp_path / "epoch-000003.json").read_bytes())["identity"]
    newest = store.newest(identity)
    assert newest is not None
    assert newest.epoch == 3
    file = tmp_path / "epoch-000003.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    before = store.newest(identity)
    assert before is not None
    assert before.epoch == 2
    (tmp_path / "epoch-000002.json").write_text("{")
    assert store.newest(identity) is None


def test_a_device_that_emulates_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def emulated(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", emulated)
    assert resolve_precision("auto", torch.device("cuda")) == "float32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert resolve_precision("auto", torch.device("cuda")) == "bfloat16"
    for has_it, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("recae.training.device.multiplies_bfloat16", lambda it=has_it: it)
        assert resolve_precision("auto", torch.device("cpu")) == precision
    assert resolve_precision("auto", torch.device("meta")) == "float32"


@pytest.mark.parametrize(("has_it", "said"), [(True, 0), (False, 1)])
def test_bfloat16_that_the_processor_emulates_is_told(
    has_it: bool, said: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("recae.training.trainer.multiplies_bfloat16", lambda: has_it)
    for precision in ("float32", "bfloat16"):
        Trainer(config(epochs=1, precision=precision)).fit(vae(), rows())
    assert [r.levelname for r in caplog.records if "emulates" in r.message] == ["WARNING"] * said


def test_one_exact_copy_of_the_weights_is_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[torch.nn.Module]] = []

    def alone(network: MultVAENetwork) -> torch.nn.Module:
        assert not any(other() is not None for other in made)
        twin: torch.nn.Module = exact(network)
        made.append(weakref.ref(twin))
        return twin

    monkeypatch.setattr(autoencoder, "exact", alone)
    parts = split(Synthetic(n_users=60, n_items=30).interactions(), "strong", rng=0)
    config = {"epochs": 3, "hidden": (), "latent_dim": 4, "batch_size": 16}
    MultVAE(**config).fit(parts.train, validation=parts.validation)
    assert len(made) == 4  # after each epoch, and in the end


def test_another_run_is_not_resumed(tmp_path: Path) -> None:
    Trainer(config(), directory=tmp_path, identity={"data": "a"}).fit(vae(), rows())
    with pytest.raises(ConfigError, match="data was 'a' and is 'b'"):
        Trainer(config(), directory=tmp_path, identity={"data": "b"}).fit(
            vae(), rows(), resume=True
        )


def test_a_checkpoint_of_another_device_or_precision_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recae.training.device.multiplies_bfloat16", lambda: False)
    Trainer(config(epochs=2), directory=tmp_path).fit(vae(), rows())
    about = json.loads((tmp_path / "epoch-000002.json").read_bytes())
    step = {"device": "cpu", "precision": "float32"}
    assert about["identity"] == step | {"threads": torch.get_num_threads()}
    for name, value in (("device", "cuda"), ("precision", "bfloat16")):
        changed = about | {"identity": about["identity"] | {name: value}}
        (tmp_path / "epoch-000002.json").write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=f"{name} was '{value}' and is '{step[name]}'"):
            Trainer(config(epochs=2), directory=tmp_path).fit(vae(), rows(), resume=True)


def test_two_checkpoints_are_kept_and_a_fresh_run_forgets_them(tmp_path: Path) -> None:
    Trainer(config(epochs=4), directory=tmp_path).fit(vae(), rows())
    assert sorted(p.name for p in tmp_path.glob("epoch-*.json")) == [
        "epoch-000003.json",
        "epoch-000004.json",
    ]
    Trainer(config(epochs=1), directory=tmp_path).fit(vae(), rows())
    assert [p.name for p in tmp_path.glob("epoch-*.json")] == ["epoch-000001.json"]


def test_a_directory_that_cannot_be_made_is_a_resource_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="lock"):
        Trainer(config(), directory=tmp_path / "file" / "run").fit(vae(), rows())


def test_a_held_directory_is_busy(tmp_path: Path) -> None:
    with CheckpointStore(tmp_path).locked(), pytest.raises(BusyError, match=str(os.getpid())):
        Trainer(config(), directory=tmp_path).fit(vae(), rows())


def test_auto_gives_the_papers_values_at_the_papers_sizes() -> None:
    auto = TrainingConfig()
    assert (planned_epochs(auto, 116_677), planned_batch_size(auto, 116_677)) == (200, 500)
    assert planned_epochs(auto, 463_435) == 100
    assert (planned_epochs(auto, 4_034), planned_batch_size(auto, 4_034)) == (50, 100)
    assert planned_batch_size(auto, 10) == 25
    assert steps_per_epoch(auto, 116_677) == 234
    assert planned_batch_size(TrainingConfig(batch_size=500), 60) == 60


def test_a_missing_device_is_named() -> None:
    with pytest.raises(ResourceError, match="'cuda:77' is not available"):
        resolve_device("cuda:77")
    with pytest.raises(ConfigError, match="device is 'abacus'; auto, cpu, cuda or one such"):
        resolve_device("abacus")


def test_streams_differ_by_purpose_and_count() -> None:
    assert (
        len(
            {
                stream(seed, purpose, count)
                for seed in (0, 1)
                for purpose in (0, 1, 2)
                for count in range(50)
            }
        )
        == 300
    )


def test_dae_trains_with_weight_decay() -> None:
    network = MultDAENetwork(
        N_ITEMS,
        hidden=(),
        latent_dim=8,
        dropout=0.3,
        weight_decay=0.01,
        rng=torch.Generator().manual_seed(0),
    )
    log = Trainer(config(epochs=10, learning_rate=0.01)).fit(network, rows())
    assert log[-1].loss < log[0].loss
    assert log[0].loss > log[0].parts["nll"]  # the penalty is part of the loss


_SCRIPT = """
import sys, hashlib
from pathlib import Path
from tests.test_training import config, rows, vae, weights_hash
from recae.training.trainer import Trainer
network = vae(seed=int(sys.argv[2]))
Trainer(config(epochs=400, rng=5), directory=Path(sys.argv[1])).fit(
    network, rows(), validate=lambda: float(network.output.bias.detach().sum()), resume=True)
print(weights_hash(network))
"""


@pytest.mark.slow
def test_kill_9_at_any_time_changes_nothing(tmp_path: Path) -> None:
    """A run killed again and again, and resumed, ends with the bytes of one that was not."""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}

    def start(directory: str, seed: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", _SCRIPT, str(tmp_path / directory), seed],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    expected = start("whole", "0").communicate()[0]
    rng = np.random.default_rng(0)
    kills = 0
    for attempt in range(200):
        process = start("killed", str(attempt))
        described = tmp_path / "killed"
        before = max([p.name for p in described.glob("epoch-*.json")], default="")
        limit = time.monotonic() + 60
        while (
            process.poll() is None
            and time.monotonic() < limit
            and max([p.name for p in described.glob("epoch-*.json")], default="") == before
        ):
            time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.3)))  # a moment inside the training, not the imports
        if kills < 8 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        assert process.communicate()[0] == expected
        break
    assert kills >= 5
