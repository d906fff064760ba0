"""Training: it learns, stops, keeps the best, and resumes to the same bytes."""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

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
from recae.training.checkpoint import Checkpoint, CheckpointStore
from recae.training.config import (
    TrainingConfig,
    planned_batch_size,
    planned_epochs,
    steps_per_epoch,
)
from recae.training.device import resolve_device, resolve_precision
from recae.training.rows import DeviceRows, stream
from recae.training.trainer import EpochRecord, Trainer

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


@pytest.fixture
def after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is written after each epoch."""
    monkeypatch.setattr(CheckpointStore, "pause_s", 0.0)
    monkeypatch.setattr(CheckpointStore, "spacing", 0.0)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Stopped(Exception):
    pass


def stopped_after(epochs: int) -> Callable[[EpochRecord], None]:
    def on_epoch(record: EpochRecord) -> None:
        if record.epoch == epochs:
            raise Stopped

    return on_epoch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("where", [*range(1, 9), "validation"])
def test_a_training_that_is_stopped_anywhere_ends_with_the_same_bytes(
    where: int | str,
    ema_decay: float | None,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also inside an epoch, and with one checkpoint, which the stop has written."""
    of = config(epochs=3, ema_decay=ema_decay, rng=3)
    whole, parts, fresh = vae(), vae(), vae(seed=9)

    def scored(network: MultVAENetwork) -> float:
        return float(network.output.bias.detach().sum())

    expected = Trainer(of).fit(whole, rows(), validate=lambda: scored(whole))
    updates, judged = itertools.count(1), itertools.count(1)
    loss = MultVAENetwork.loss

    def stop_in_the_middle(*given: Any, **options: Any) -> dict[str, torch.Tensor]:
        if next(updates) == where:
            signal.raise_signal(number)
        return loss(*given, **options)

    def validate() -> float:
        if where == "validation" and next(judged) == 3:
            signal.raise_signal(number)
        return scored(parts)

    def terminate(*_: object) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(MultVAENetwork, "loss", stop_in_the_middle)
            with pytest.raises((KeyboardInterrupt, Stopped)):
                Trainer(of, directory=tmp_path).fit(parts, rows(), validate=validate)
        assert signal.getsignal(signal.SIGTERM) is terminate
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    done = 12 if where == "validation" else where
    assert names(tmp_path) == [
        "lock",
        f"step-{done:09d}.json",
        f"step-{done:09d}.safetensors",
    ]
    log = Trainer(of, directory=tmp_path).fit(
        fresh, rows(), validate=lambda: scored(fresh), resume=True
    )
    assert weights_hash(fresh) == weights_hash(whole)
    assert [(r.loss, r.parts, r.validation, r.steps) for r in log] == [
        (r.loss, r.parts, r.validation, r.steps) for r in expected
    ]
    assert names(tmp_path) == ["lock", "training.json"]


def test_a_second_signal_is_answered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second one did not end the update")

    monkeypatch.setattr(MultVAENetwork, "loss", stop)
    with pytest.raises(KeyboardInterrupt):
        Trainer(config(), directory=tmp_path).fit(vae(), rows())
    assert names(tmp_path) == ["lock"]  # half an update is no checkpoint


def test_a_short_training_writes_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointStore, "write", Mock(side_effect=AssertionError))
    log = Trainer(config(), directory=tmp_path, identity={"data": "a"}).fit(vae(), rows())
    assert names(tmp_path) == ["lock", "training.json"]
    found = CheckpointStore(tmp_path).log()
    assert found is not None
    assert found[0]["data"] == "a"
    assert found[1] == json.loads(json.dumps([asdict(record) for record in log]))


def test_checkpoints_are_written_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    written: list[tuple[int, float]] = []
    monkeypatch.setattr("recae.training.trainer.time.monotonic", lambda: now[0])

    def write(self: CheckpointStore, checkpoint: Checkpoint) -> None:
        now[0] += 5.0  # so 100 s must pass before the next one
        written.append((len(checkpoint.log), now[0]))

    def validate() -> float:
        now[0] += 25.0
        return now[0]

    monkeypatch.setattr(CheckpointStore, "write", write)
    Trainer(config(epochs=12), directory=tmp_path).fit(vae(), rows(), validate=validate)
    assert written == [(3, 1080.0), (7, 1185.0), (11, 1290.0)]
    assert CheckpointStore.pause() == 60
    assert CheckpointStore.pause(5.0) == 100


@pytest.mark.parametrize("resume", [False, True])
def test_pieces_that_a_kill_left_are_cleared(tmp_path: Path, resume: bool) -> None:
    with pytest.raises(Stopped):
        Trainer(config(), directory=tmp_path).fit(vae(), rows(), on_epoch=stopped_after(2))
    whole = ["step-000000008.json", "step-000000008.safetensors"]
    assert names(tmp_path) == ["lock", *whole]
    for name in (
        ".step-000000012.safetensors.partial",
        ".step-000000008.json.partial",
        "step-000000007.safetensors",
        "step-000000004.json",
        ".epoch-000001.safetensors.partial",
        "epoch-000001.json",
        "epoch-000001.safetensors",
    ):
        (tmp_path / name).write_text("")
    found: list[list[str]] = []
    Trainer(config(), directory=tmp_path).fit(
        vae(), rows(), resume=resume, on_epoch=lambda _: found.append(names(tmp_path))
    )
    assert found == [["lock", *whole]] * 4 if resume else [["lock"]] * 6


def test_a_finished_training_leaves_its_checkpoint_to_who_has_yet_to_save_it(
    tmp_path: Path, after_each_epoch: None
) -> None:
    whole, again = vae(), vae(seed=9)
    Trainer(config(), directory=tmp_path).fit(whole, rows(), keep=True)
    assert "step-000000024.json" in names(tmp_path)
    Trainer(config(), directory=tmp_path).fit(
        again, rows(), resume=True, on_epoch=lambda record: pytest.fail(f"{record}")
    )
    assert weights_hash(again) == weights_hash(whole)
    assert names(tmp_path) == ["lock", "training.json"]


@pytest.mark.usefixtures("after_each_epoch")
def test_an_interrupted_run_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, parts = vae(), vae()
    options = {"ema_decay": 0.9, "rng": 3}

    def scored(network: MultVAENetwork) -> float:
        return float(network.output.bias.detach().sum())

    Trainer(config(epochs=6, **options)).fit(whole, rows(), validate=lambda: scored(whole))

    def interrupted() -> float:
        if len(list(tmp_path.glob("step-*.json"))) == 2:
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
    found = CheckpointStore(tmp_path).log()
    assert found is not None
    assert found[1] == [asdict(record) for record in log]
    assert len(log) == 6


@pytest.mark.usefixtures("after_each_epoch")
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    trainer = Trainer(config(epochs=3), directory=tmp_path, identity={"data": "a"})
    network = vae()
    trainer.fit(network, rows(), keep=True)
    store = CheckpointStore(tmp_path)
    identity = json.loads((tmp_path / "step-000000012.json").read_bytes())["identity"]
    newest = store.newest(identity)
    assert newest is not None
    assert newest.step == 12
    file = tmp_path / "step-000000012.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    before = store.newest(identity)
    assert before is not None
    assert before.step == 8
    (tmp_path / "step-000000008.json").write_text("{")
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


def test_another_run_is_not_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Refused with other options, which may be a slip; on other data it cannot be meant."""
    with pytest.raises(Stopped):
        Trainer(config(), directory=tmp_path, identity={"data": "a", "model": "x"}).fit(
            vae(), rows(), on_epoch=stopped_after(2)
        )
    there = names(tmp_path)
    with pytest.raises(ConfigError, match="model was 'x' and is 'y'"):
        Trainer(config(), directory=tmp_path, identity={"data": "a", "model": "y"}).fit(
            vae(), rows(), resume=True
        )
    assert names(tmp_path) == there
    log = Trainer(config(), directory=tmp_path, identity={"data": "b", "model": "x"}).fit(
        vae(), rows(), resume=True
    )
    assert len(log) == 6
    assert "the checkpoint is of other data; training starts anew" in caplog.text


def test_a_daily_job_may_always_resume(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for day in "abc":
        Trainer(config(), directory=tmp_path, identity={"data": day}).fit(
            vae(), rows(), resume=day != "a"
        )
    assert caplog.text.count("there is no checkpoint; training starts anew") == 2


def test_a_checkpoint_of_another_device_or_precision_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recae.training.device.multiplies_bfloat16", lambda: False)
    with pytest.raises(Stopped):
        Trainer(config(epochs=2), directory=tmp_path).fit(vae(), rows(), on_epoch=stopped_after(1))
    about = json.loads((tmp_path / "step-000000004.json").read_bytes())
    step = {"device": "cpu", "precision": "float32"}
    assert about["identity"] == step | {"threads": torch.get_num_threads()}
    for name, value in (("device", "cuda"), ("precision", "bfloat16")):
        changed = about | {"identity": about["identity"] | {name: value}}
        (tmp_path / "step-000000004.json").write_text(json.dumps(changed))
        with pytest.raises(ConfigError, match=f"{name} was '{value}' and is '{step[name]}'"):
            Trainer(config(epochs=2), directory=tmp_path).fit(vae(), rows(), resume=True)


@pytest.mark.usefixtures("after_each_epoch")
def test_two_checkpoints_are_kept_and_a_fresh_run_forgets_them(tmp_path: Path) -> None:
    Trainer(config(epochs=4), directory=tmp_path).fit(vae(), rows(), keep=True)
    assert sorted(p.name for p in tmp_path.glob("step-*.json")) == [
        "step-000000012.json",
        "step-000000016.json",
    ]
    Trainer(config(epochs=1), directory=tmp_path).fit(vae(), rows(), keep=True)
    assert [p.name for p in tmp_path.glob("step-*.json")] == ["step-000000004.json"]


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
from recae.training.checkpoint import CheckpointStore
from recae.training.trainer import Trainer
CheckpointStore.pause_s = CheckpointStore.spacing = 0
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
        before = max([p.name for p in described.glob("step-*.json")], default="")
        limit = time.monotonic() + 60
        while (
            process.poll() is None
            and time.monotonic() < limit
            and max([p.name for p in described.glob("step-*.json")], default="") == before
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
