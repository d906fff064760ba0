"""What a training is said to take, beside what it takes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from recae.cli.main import cli
from recae.data.sample import sample_directory
from recae.data.synthetic import Synthetic
from recae.errors import ResourceError
from recae.experiment import RunConfig, make_split
from recae.experiment import estimate as module
from recae.experiment.estimate import (
    Estimate,
    estimate,
    refuse_what_does_not_fit,
    time_steps,
)
from recae.experiment.needs import Term, TrainingShape, needs, peak_bytes
from recae.models.ease import EASEConfig
from recae.models.mult_vae import MultDAE, MultVAE, MultVAEConfig
from recae.models.registry import MODELS
from recae.training.config import WIDE_ITEMS, TrainingConfig

SHAPE = TrainingShape(n_users=1000, n_items=5000, n_interactions=50_000, n_validation=100)
SMALL = {"hidden": (16,), "latent_dim": 8}


@pytest.fixture(scope="module")
def data():
    return Synthetic(n_users=300, n_items=200, mean_history=12.0).interactions()


def config(name: str = "mult-vae", **options: object) -> RunConfig:
    table = {**(SMALL if name.startswith("mult") else {}), **options}
    return RunConfig(model=name, split={"held_out_users": 30}, models={name: table})


def named(terms: tuple[Term, ...]) -> dict[str, int]:
    return {f"{term.name}/{term.phase}": term.n_bytes for term in terms}


@pytest.mark.parametrize(
    "model",
    [
        MultVAE(**SMALL),
        MultVAE(hidden=(), latent_dim=8),
        MultVAE(hidden=(20, 10), latent_dim=4),
        MultDAE(**SMALL),
        MultDAE(),
    ],
)
def test_the_parameters_are_those_of_the_network(model: MultVAE | MultDAE) -> None:
    network = model._build(77, 10, torch.Generator().manual_seed(0))
    shape = replace(SHAPE, n_items=77)
    assert needs(model.config, shape).parameters == sum(p.numel() for p in network.parameters())


def test_the_peak_is_what_is_always_held_and_the_largest_phase() -> None:
    terms = [Term("a", 1, ""), Term("b", 10, "", "step"), Term("c", 7, "", "validation")]
    assert peak_bytes(terms) == 11
    assert peak_bytes([*terms, Term("d", 5, "", "validation")]) == 13


def test_terms_follow_the_config() -> None:
    config = partial(MultVAEConfig, precision="float32")
    weights = 4 * (needs(config(), SHAPE).parameters or 0)
    fast = named(needs(config(path="fast"), SHAPE).memory)
    gathered = named(needs(config(path="gathered"), SHAPE).memory)
    plain = named(needs(config(path="plain"), SHAPE).memory)
    assert fast["weights/always"] == weights
    assert fast["Adam moments/always"] == 2 * weights
    assert gathered["gradients/always"] == weights > 10 * fast["gradients/always"]
    assert gathered["batch scores/step"] == 3 * fast["batch scores/always"] == 3 * 4 * 25 * 5000
    assert plain["batch scores/step"] == 5 * fast["batch scores/always"]
    assert named(needs(config(), SHAPE).memory) == gathered
    wide = replace(SHAPE, n_items=WIDE_ITEMS)
    assert needs(config(), wide) == needs(config(path="fast"), wide)
    averaged = named(needs(config(ema_decay=0.9), SHAPE).memory)
    assert averaged["moving average/always"] == averaged["weights aside/validation"] == weights
    unjudged = named(needs(config(), replace(SHAPE, n_validation=0)).memory)
    assert "best weights/always" in fast
    assert "best weights/always" not in unjudged
    assert not [name for name in unjudged if name.endswith(("validation", "evaluation"))]


def test_a_million_items_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and moments 12 bytes each, copies 2, one gradient of 2, exponentials of 2 a score."""
    monkeypatch.setattr("recae.experiment.needs.resolve_device", lambda name: torch.device("cuda"))
    shape = TrainingShape(n_users=50_000, n_items=10**6, n_interactions=10**6, n_validation=0)
    options = {"hidden": (600,), "latent_dim": 200, "batch_size": 2048, "precision": "bfloat16"}
    found = {t.name: t.n_bytes for t in needs(MultVAEConfig(**options), shape).device}
    assert found["weights"] + found["Adam moments"] == pytest.approx(14.4e9, rel=0.01)
    assert found["copies of the tables"] == pytest.approx(2.4e9, rel=0.02)
    assert found["gradient of the output table"] == pytest.approx(1.2e9, rel=0.02)
    assert found["batch scores"] == pytest.approx(4.1e9, rel=0.01)
    assert sum(found.values()) < 24e9
    plain = needs(MultVAEConfig(path="plain", **options), shape).device
    assert sum(t.n_bytes for t in plain) > 2 * sum(found.values())


def test_ease_is_solved_for_the_fewer_of_users_and_items() -> None:
    by_items = named(needs(EASEConfig(), replace(SHAPE, n_users=9000)).memory)
    assert by_items["item table/always"] == 8 * 5000**2
    assert by_items["rounding/step"] == 4 * 5000**2
    by_users = named(needs(EASEConfig(), SHAPE).memory)
    assert by_users["item table/always"] == 4 * 5000**2
    assert by_users["user table/step"] == 8 * 1000**2 // 2


def test_every_model_has_an_estimate(data) -> None:
    for name in MODELS:
        found = estimate(make_split(data, config(name)), config(name))
        assert found.memory_bytes >= found.baseline_bytes > 0
        assert json.loads(json.dumps(found.to_json()))["model"] == name
        assert found.needs.complete == name.startswith(("mult", "ease"))
        assert ("not known beforehand" in found.line()) is not found.needs.complete


def short_of(found: Estimate, n_bytes: int) -> Estimate:
    return replace(found, available_bytes=n_bytes)


def test_what_does_not_fit_is_refused_with_an_option_that_does(data) -> None:
    run = config(hidden=(512,), path="plain", batch_size=200)
    split = make_split(data, run)
    found = estimate(split, run)
    wanted = peak_bytes(found.needs.memory)
    refuse_what_does_not_fit(short_of(found, wanted), split, run)
    with pytest.raises(ResourceError, match=r"needs .* of memory and .* free; train with --set m"):
        refuse_what_does_not_fit(short_of(found, wanted - 1), split, run)
    with pytest.raises(ResourceError, match=r"use a larger machine or less data$"):
        refuse_what_does_not_fit(short_of(found, 1), split, run)
    with pytest.raises(ResourceError, match=r"of disk and 0\.0 MB are free"):
        refuse_what_does_not_fit(replace(found, disk_available_bytes=9), split, run)


@pytest.mark.parametrize("free_share", [0.999, 0.9, 0.75])
def test_the_option_named_makes_it_fit(data, free_share: float) -> None:
    run = config(hidden=(2000,), path="plain", batch_size=200)
    split = make_split(data, run)
    found = estimate(split, run)
    free = int(free_share * peak_bytes(found.needs.memory))
    with pytest.raises(ResourceError) as raised:
        refuse_what_does_not_fit(short_of(found, free), split, run)
    option = str(raised.value).rsplit(" train with ", 1)[1].split(" ", 1)
    assert option[0] in {"--set", "--min-item"}
    fitting = [tried for text, tried in module._smaller(split, run) if text == " ".join(option)]
    assert peak_bytes(fitting[0].memory) <= free


def test_the_time_is_that_of_real_steps(data, monkeypatch: pytest.MonkeyPatch) -> None:
    run = config(epochs=7, batch_size=50)
    split = make_split(data, run)
    fitted: list[TrainingConfig] = []
    real = MultVAE._build

    def build(self: MultVAE, n_items: int, n_users: int, rng: torch.Generator) -> torch.nn.Module:
        fitted.append(self.config)
        assert n_items == split.train.n_items
        assert n_users == 4 * 50
        return real(self, n_items, n_users, rng)

    monkeypatch.setattr(MultVAE, "_build", build)
    timing = time_steps(split, run)
    assert timing is not None
    assert [(c.batch_size, c.epochs) for c in fitted] == [(50, 3)]
    assert (timing.epochs, timing.steps) == (7, 7 * 5)  # 240 training users
    assert 0 < timing.step_s < 5
    assert timing.total_s == pytest.approx(
        35 * timing.step_s + 7 * (timing.validation_s + timing.between_s)
    )
    assert time_steps(split, config("popular")) is None


def test_a_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["--set", "mult-vae.hidden=[8]", "--set", "mult-vae.latent_dim=4"]
    source = str(sample_directory() / "interactions.csv")
    arguments = ["train", source, "-o", "model", "--dry-run", "--json", *settings]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    text = CliRunner().invoke(cli, ["train", source, "--dry-run", *settings]).stdout
    assert list(tmp_path.iterdir()) == []
    assert done.exit_code == 0
    value = json.loads(done.stdout)
    assert value["shape"]["n_users"] == 3200
    assert value["data"]["users"] == 4000
    assert value["memory"]["peak_bytes"] > value["memory"]["baseline_bytes"]
    assert value["time"]["total_s"] > 0
    for word in ("parameters", "Adam moments", "this process now", "time at most"):
        assert word in text


def test_training_without_out_is_refused() -> None:
    done = CliRunner().invoke(cli, ["train", "x.csv"])
    assert done.exit_code == 2
    assert "Missing option '-o'" in done.stderr


def test_a_training_that_cannot_fit_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = module.machine.memory()
    monkeypatch.setattr(module.machine, "memory", lambda: replace(now, available_bytes=20 << 20))
    arguments = ["train", str(sample_directory() / "interactions.csv"), "-o", str(tmp_path / "m")]
    done = CliRunner().invoke(cli, arguments)
    assert isinstance(done.exception, ResourceError)
    assert done.exception.exit_code == 5
    assert "and 21.0 MB are free" in str(done.exception)
    assert not (tmp_path / "m").exists()


_LAUNCHER = """
import os, sys
_, status, usage = os.wait4(os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:]), 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the peak of a child process")
def test_the_estimate_is_within_15_percent_of_the_peak(tmp_path: Path) -> None:
    """The three sizes of benchmarks/memory.py are tested there; this is one of them, smaller."""
    rng = np.random.default_rng(0)
    rows = {(int(u), int(i)) for u, i in rng.integers(0, (1500, 6000), (60_000, 2))}
    source = tmp_path / "x.csv"
    source.write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in sorted(rows)))
    arguments = ["train", str(source), "-o", str(tmp_path / "m"), "--epochs", "3", "--json"]
    with (tmp_path / "out").open("w") as out:
        # from a small process: the system counts what a parent held when it started a child
        command = [sys.executable, "-c", _LAUNCHER, sys.executable, "-m", "recae", *arguments]
        launched = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True)
    code, peak = map(int, launched.stderr.splitlines()[-1].split())
    assert code == 0, launched.stderr
    said = json.loads((tmp_path / "out").read_text())["estimate"]["memory"]["peak_bytes"]
    unit = 1 if sys.platform == "darwin" else 1024
    assert said == pytest.approx(peak * unit, rel=0.15)
