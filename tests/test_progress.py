"""What is seen of a training: a line that moves on a terminal, else a few lines."""

import fcntl
import logging
import os
import pty
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import recae
from recae.cli import demo, progress
from recae.cli.main import run as run_command
from recae.models import progress as models_progress
from recae.models.progress import About
from recae.training.trainer import EpochRecord

TRAINING = logging.getLogger("recae.training")
COMPARE = logging.getLogger("recae.compare")


def told(epoch: int, n_epochs: int, *, validation: float | None = 0.25, best: bool = False) -> None:
    """Log an epoch as the trainer does."""
    parts = {"nll": 1.0}
    record = EpochRecord(epoch, epoch, 100.0 - epoch, parts, validation, best, 2.0)
    TRAINING.info("epoch", extra={"record": record, "n_epochs": n_epochs})


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Stderr is a terminal of 80 columns inside; the value tells what was written to it so far."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.set_blocking(master, False)

    def written() -> str:
        sys.stderr.flush()
        return os.read(master, 1 << 16).decode()

    with os.fdopen(slave, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield written
    os.close(master)


def on_screen(written: str) -> list[str]:
    """Lines as a person sees them in the end: what follows a carriage return covers the line."""
    lines = []
    for line in written.replace("\r\n", "\n").split("\n"):
        seen = ""
        for text in line.split("\r"):
            seen = text + seen[len(text) :]
        lines.append(seen.rstrip())
    return lines


def test_on_a_terminal_epochs_are_one_line_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as written:
        with progress.shown("mult-vae"):
            TRAINING.info("training", extra={"about": About("mult-vae", "ndcg@100", 7)})
            for epoch in (1, 2, 3):
                told(epoch, 3, validation=epoch / 10 % 0.3, best=epoch < 3)
                time.sleep(0.15)  # more than the least time between two draws
            moving = written()
        after = written()
    assert "\n" not in moving
    for epoch, score in ((1, "0.1000"), (2, "0.2000"), (3, "0.0000, best 0.2000 at 2, stops at 9")):
        assert f"left, mult-vae, epoch {epoch}/3, ndcg@100 {score}" in moving
    assert max(map(len, moving.split("\r"))) <= 80
    assert on_screen(moving + after) == [
        "mult-vae: 3 epochs in 6.0 s, best ndcg@100 0.2000 after epoch 2",
        "",
    ]


def test_a_line_of_the_caller_stands_above_the_one_that_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with terminal(monkeypatch) as written:
        with progress.shown(summaries=False) as say:
            told(1, 3)
            say("trial 1/2")
            told(1, 3)
            moving = written()
        after = written()
    assert on_screen(moving)[0] == "trial 1/2"
    assert "left, epoch 1/3, validation 0.2500" in on_screen(moving)[1]
    assert on_screen(moving + after) == ["trial 1/2", ""]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the module sees, to be set."""
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.mark.parametrize(
    ("seconds", "epochs"),
    [
        (0.05, [1]),
        (1, [1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]),
        (0.3, [1, 20, 40, 60, 80, 100]),
    ],
)
def test_elsewhere_a_training_is_a_few_lines(
    capsys: pytest.CaptureFixture[str], clock: list[float], seconds: float, epochs: list[int]
) -> None:
    """The first epoch, tenths of the training at least five seconds apart, and how it went."""
    with progress.shown("mult-vae"):
        for epoch in range(1, 101):
            clock[0] += seconds
            told(epoch, 100, validation=None)
    *lines, last = capsys.readouterr().err.splitlines()
    assert [int(line.split("epoch ")[1].split("/")[0]) for line in lines] == epochs
    assert lines[0] == "mult-vae, epoch 1/100, loss 99.000 (2.0 s)"
    assert last == "mult-vae: 100 epochs in 200.0 s, loss 0.000"


def test_each_model_of_a_comparison_has_a_line_in_the_end(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with progress.shown():
        COMPARE.info("compared", extra={"entry": "ease"})
        for score in (0.5, 0.3):  # two seeds, the second stops early
            told(1, 2, validation=score)
        COMPARE.info("compared", extra={"entry": "mult-vae"})
        told(1, 2)
        COMPARE.info("compared", extra={"entry": "mult-dae"})
    assert capsys.readouterr().err.splitlines() == [
        "ease: done",
        "epoch 1/2, loss 99.000, validation 0.5000 (2.0 s)",
        "epoch 1/2, loss 99.000, validation 0.3000 (2.0 s)",
        "mult-vae: 2 trainings in 4.0 s, best validation 0.5000 after epoch 1",
        "epoch 1/2, loss 99.000, validation 0.2500 (2.0 s)",
        "mult-dae: 1 of 2 epochs in 2.0 s, best validation 0.2500 after epoch 1",
    ]


def test_a_warning_of_the_package_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown():
        TRAINING.warning("this processor emulates bfloat16: float32 is faster")
        TRAINING.info("of no interest")
    noted = "note: this processor emulates bfloat16: float32 is faster\n"
    assert capsys.readouterr().err == noted
    assert logging.getLogger("recae").handlers == []


@pytest.fixture(scope="module")
def split() -> recae.Split:
    return recae.split(recae.sample().take_users(np.arange(300)), rng=0)


def vae() -> recae.MultVAE:
    return recae.MultVAE(epochs=3, latent_dim=2, hidden=(4,), patience=2, device="cpu")


def test_fit_shows_a_line_where_somebody_looks(
    split: recae.Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal(monkeypatch) as written:
        vae().fit(split.train, validation=split.validation)
        recae.EASE().fit(split.train, progress=True)
        vae().fit(split.train, validation=split.validation, progress=False)
        with progress.shown(summaries=False):  # shows it already
            assert not models_progress.is_wanted(None)
        after = written()
    assert "left, mult-vae, epoch 1/3, ndcg@100 0." in after
    (went,) = [text for text in on_screen(after) if text]
    assert went.startswith("mult-vae: 3 epochs in ")
    assert ", best ndcg@100 0." in went
    assert logging.getLogger("recae").handlers == []


def test_fit_is_silent_elsewhere_unless_asked(
    split: recae.Split, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    vae().fit(split.train)
    assert capsys.readouterr().err == ""
    heard: list[int] = []
    vae().fit(split.train, progress=True, on_epoch=lambda record: heard.append(record.epoch))
    assert "mult-vae: 3 epochs in " in capsys.readouterr().err
    assert heard == [1, 2, 3]
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert models_progress.is_wanted(None)


def test_going_on_from_nothing_is_said(
    split: recae.Split, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vae().fit(split.train, checkpoint=tmp_path, resume=True)
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "there is no checkpoint; training starts anew"
    ]


def test_the_demo_prints_what_a_person_reads(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    tiny = {"epochs": 2, "hidden": [8], "latent_dim": 4}
    models = {"mult-vae": tiny, "mult-dae": tiny, "ease": {"l2": 100.0}, "popular": {}}
    monkeypatch.setattr(demo, "_MODELS", models)
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")  # else the command would set it, for all tests
    monkeypatch.chdir(tmp_path)
    assert run_command(["demo", "-o", "out"], debug=False) == 0
    out, err = capfd.readouterr()
    heads = [line for line in out.splitlines() if line[:1].strip()]
    assert heads[1:4] == [
        "2. Train and compare",
        "3. Recommend: 40,000 rows for 4,000 users in out/recommendations.csv",
        "4. Serve: GET /recommend?user=u3894&k=3",
    ]
    assert heads[0].startswith("1. Data: ")
    assert heads[4].startswith("Done in ")
    assert len(heads) == 5
    lines = out.splitlines()[1:]  # the first one names a file of the installation
    assert max(map(len, lines[:-3])) <= 80  # the last ones name the program
    assert lines[5].split() == ["model", "ndcg@100", "recall@20"]
    assert {line.split()[0] for line in lines[6:10]} == set(models)
    assert all(line.split()[2] == "±" for line in lines[6:10])
    written = (tmp_path / "out" / "recommendations.csv").read_text().splitlines()[:4]
    at = lines.index("   user_id,item_id,score,rank")
    assert lines[at : at + 4] == [f"   {line}" for line in written]
    answer = lines.index("   user u3894, model mult-vae, source model")
    assert lines[answer + 1].split() == ["rank", "item", "score", "title"]
    first = dict(zip(written[0].split(","), written[1].split(","), strict=True))
    rank, item, score, *title = lines[answer + 2].split()
    assert (rank, item) == ("1", first["item_id"])
    assert float(score) == pytest.approx(float(first["score"]), abs=1e-4)
    assert title
    assert lines[-3].endswith("recae inspect out/model")
    assert [line.split(",")[0].split(":")[0] for line in err.splitlines()] == [
        *2 * ["   mult-vae"],
        *2 * ["   mult-dae"],
    ]
