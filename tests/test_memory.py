"""What a training is said to need and to take, beside what it takes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from recae import machine
from recae.cli.main import cli
from recae.data.sample import sample_directory
from recae.data.split import Split
from recae.data.synthetic import Synthetic
from recae.errors import ConfigError, ResourceError
from recae.experiment import rehearsal as rehearsing
from recae.experiment.config import RunConfig
from recae.experiment.data import make_split
from recae.experiment.memory import Needs, needs, refuse_what_cannot_fit
from recae.experiment.rehearsal import Rehearsal, refuse_what_does_not_fit, rehearse
from recae.models.ease import EASE
from recae.models.registry import MODELS, model_class
from recae.ranking.recommender import TrainingShape

SHAPE = TrainingShape(n_users=1000, n_items=5000, n_interactions=50_000)


@pytest.fixture(scope="module")
def split() -> Split:
    data = Synthetic(n_users=300, n_items=200, mean_history=12.0).interactions()
    return make_split(data, config())


def narrow(name: str) -> dict[str, object]:
    """Options that make the network of a model small."""
    if not model_class(name).trained_in_steps:
        return {}
    return {"latent_dim": 8, **({"width": 16} if name == "recvae" else {"hidden": (16,)})}


def config(name: str = "mult-vae", **options: object) -> RunConfig:
    small = {n: list(v) if isinstance(v, tuple) else v for n, v in narrow(name).items()}
    return RunConfig(model=name, split={"held_out_users": 30}, models={name: {**small, **options}})


@pytest.mark.parametrize("name", [n for n in MODELS if model_class(n).trained_in_steps])
def test_a_parameter_takes_sixteen_bytes(name: str) -> None:
    model = model_class(name)(**narrow(name))
    network = model.build(77, 10, torch.Generator().manual_seed(0))  # type: ignore[attr-defined]
    n_parameters = sum(p.numel() for p in network.parameters())
    assert model.n_parameters(77) == n_parameters
    assert model.least_bytes(replace(SHAPE, n_items=77)) == 16 * n_parameters


def test_ease_is_solved_for_the_fewer_of_users_and_items() -> None:
    rows = 12 * SHAPE.n_interactions
    assert EASE().least_bytes(replace(SHAPE, n_users=9000)) == rows + 12 * 5000**2
    tables, blocks = 4 * 5000**2 + 8 * 1000**2 // 2, 6 * 8 * 1000 * 5000
    assert EASE().least_bytes(SHAPE) == rows + tables + blocks


@pytest.mark.parametrize("name", MODELS)
def test_every_model_says_what_it_needs_or_that_it_does_not_know(name: str, split: Split) -> None:
    found = needs(split, config(name))
    assert json.loads(json.dumps(found.to_json()))["model"] == name
    assert (found.parameters is not None) == model_class(name).trained_in_steps
    unknown = name in {"popular", "random", "item-knn", "gf-cf"}
    assert ("not known beforehand" in str(found)) == (found.least_bytes is None) == unknown


def short_of(found: Needs, n_bytes: int) -> Needs:
    return replace(found, available_bytes=n_bytes)


def test_what_cannot_fit_is_refused_with_an_option_that_does(split: Split) -> None:
    run = config()
    found = needs(split, run)
    least = found.least_bytes
    assert least is not None
    refuse_what_cannot_fit(short_of(found, least), split, run)
    with pytest.raises(ResourceError, match=r"least .* of memory and .* free; train with --min-"):
        refuse_what_cannot_fit(short_of(found, least - 1), split, run)
    with pytest.raises(ResourceError, match=r"a larger machine or less data$"):
        refuse_what_cannot_fit(short_of(found, 1), split, run)
    with pytest.raises(ResourceError, match=r"of disk .* and 0\.0 MB are free"):
        refuse_what_cannot_fit(replace(found, disk_available_bytes=9), split, run)


def test_the_option_named_makes_it_fit(split: Split) -> None:
    run = config()
    found = needs(split, run)
    free = int(0.7 * (found.least_bytes or 0))
    with pytest.raises(ResourceError) as raised:
        refuse_what_cannot_fit(short_of(found, free), split, run)
    fewest = int(str(raised.value).rsplit(" ", 1)[1])
    kept = int((np.bincount(split.train.matrix.indices) >= fewest).sum())
    smaller = model_class(run.model)(hidden=(16,), latent_dim=8)  # type: ignore[call-arg]  # options
    assert (smaller.n_parameters(kept) or 0) * 16 <= free


def test_a_rehearsal_runs_real_steps(split: Split) -> None:
    found = rehearse(split, config(epochs=7, batch_size=50))
    assert found is not None
    assert (found.epochs, found.steps) == (7, 7 * 5)  # 240 training users
    assert 0 < found.step_s < 30
    n_parameters = needs(split, config()).parameters
    assert n_parameters is not None
    assert found.checkpoint_bytes == pytest.approx(16 * n_parameters, rel=0.3)  # a header besides
    added = found.peak_bytes - found.baseline_bytes
    assert added > 16 * n_parameters
    assert found.checkpoints == 0  # of a training of less than a minute
    assert found.total_s == pytest.approx(35 * found.step_s + 7 * found.validation_s)
    assert "no checkpoint is written unless it is stopped" in str(found)
    long = replace(found, epochs=100, steps=10_000, step_s=0.02, validation_s=0.4)
    assert replace(long, checkpoint_s=2.0).checkpoints == 4  # of 240 s
    assert replace(long, checkpoint_s=5.0).total_s == pytest.approx(240 + 2 * 5.0)
    assert "2 checkpoints, 5.00 s each" in str(replace(long, checkpoint_s=5.0))
    assert rehearse(split, config("popular")) is None
    about = needs(split, config())
    refuse_what_does_not_fit(found, short_of(about, added))
    with pytest.raises(ResourceError, match=r"needs .* more of memory and .* are free"):
        refuse_what_does_not_fit(found, short_of(about, added - 1))


def test_a_rehearsal_refuses_what_the_training_would(split: Split) -> None:
    with pytest.raises(ResourceError, match="'cuda:77' is not available"):
        rehearse(split, config(device="cuda:77"))
    with pytest.raises(ConfigError, match="more of it is better"):
        rehearse(split, config(validation_metric="novelty@10"))


def test_a_rehearsal_that_the_system_ends_is_told(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsing, "_COMMAND", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ResourceError, match=r"ended by the system \(signal 9\)"):
        rehearse(split, config())


def test_a_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["--set", "mult-vae.hidden=[8]", "--set", "mult-vae.latent_dim=4"]
    source = str(sample_directory() / "interactions.csv")
    done = CliRunner().invoke(
        cli, ["train", source, "-o", "model", "--dry-run", "--json", *settings]
    )
    assert list(tmp_path.iterdir()) == []
    assert done.exit_code == 0
    value = json.loads(done.stdout)
    assert value["needs"]["shape"]["n_users"] == 3200
    assert value["data"]["users"] == 4000
    assert value["measured"]["peak_bytes"] > value["measured"]["baseline_bytes"]
    assert value["measured"]["total_s"] > 0
    found = Rehearsal(
        **{k: v for k, v in value["measured"].items() if k not in ("checkpoints", "total_s")}
    )
    for word in ("measured: ", "time at most", "steps of"):
        assert word in str(found)


def test_training_without_out_is_refused() -> None:
    done = CliRunner().invoke(cli, ["train", "x.csv"])
    assert done.exit_code == 2
    assert "Missing option '-o'" in done.stderr


def test_a_training_that_cannot_fit_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = machine.memory()
    monkeypatch.setattr(machine, "memory", lambda: replace(now, available_bytes=1 << 20))
    arguments = ["train", str(sample_directory() / "interactions.csv"), "-o", str(tmp_path / "m")]
    done = CliRunner().invoke(cli, arguments)
    assert isinstance(done.exception, ResourceError)
    assert done.exception.exit_code == 5
    assert "and 1.0 MB are free" in str(done.exception)
    assert not (tmp_path / "m").exists()


_LAUNCHER = """
import os, sys
_, status, usage = os.wait4(os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]), 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the peak of a child process")
def test_the_dry_run_is_within_15_percent_of_the_peak(tmp_path: Path) -> None:
    """The sizes of benchmarks/memory.py are tested there; this is one of them, smaller."""
    rng = np.random.default_rng(0)
    rows = {(int(u), int(i)) for u, i in rng.integers(0, (1500, 6000), (60_000, 2))}
    source = tmp_path / "x.csv"
    source.write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in sorted(rows)))

    def run(*arguments: str) -> tuple[dict[str, object], int]:
        """JSON that a training prints, and its peak in bytes."""
        command = [sys.executable, "-m", "recae", "train", str(source), "--json", *arguments]
        with (tmp_path / "out").open("w") as out:
            # from a small process: the system counts what a parent held when it started a child
            started = [sys.executable, "-c", _LAUNCHER, *command]
            launched = subprocess.run(started, stdout=out, stderr=subprocess.PIPE, text=True)
        code, peak = map(int, launched.stderr.splitlines()[-1].split())
        assert code == 0, launched.stderr
        return json.loads((tmp_path / "out").read_text()), peak * (
            1 if sys.platform == "darwin" else 1024
        )

    said: dict[str, object] = run("--dry-run")[0]["measured"]  # type: ignore[assignment]  # JSON
    _, peak = run("-o", str(tmp_path / "m"), "--epochs", "3")
    assert said["peak_bytes"] == pytest.approx(peak, rel=0.15)
