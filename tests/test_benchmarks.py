"""The parts of `benchmarks` that decide what a figure means."""

# ruff: noqa: E402 - without the repository there is nothing to import

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "benchmarks" / "peers"
if not PEERS.exists():
    pytest.skip("the benchmarks are not part of the package", allow_module_level=True)

from benchmarks.peers import orders as talk
from benchmarks.peers.crew import ratio, summary
from benchmarks.peers.goals import COLUMNS, GOALS, column, judged
from benchmarks.peers.orders import Done, Windows
from benchmarks.performance_page import page

pytestmark = pytest.mark.checkout

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Clock:
    """Stands for `time`: a second a unit of work."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    process_time = perf_counter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(talk, "time", clock)
    return clock


def told(*waiting: dict) -> tuple[SimpleNamespace, list[dict]]:
    """Orders that are known beforehand, and the answers to them."""
    left, answers = list(waiting), []
    orders = SimpleNamespace(
        peek=lambda: left[0] if left else None,
        take=lambda: left.pop(0),
        answer=lambda **figures: answers.append(figures),
    )
    return orders, answers


def train(steps: int, batch: int = 500) -> dict:
    return {"do": "train", "batch": batch, "steps": steps}


def test_a_window_holds_as_many_whole_steps_as_were_ordered(clock: Clock) -> None:
    orders, answers = told(train(3), train(2), train(1))
    windows = Windows(orders, 500)
    for work in (1, 10, 100, 1_000, 10_000, 100_000):
        windows.step(500)
        clock.now += work
    with pytest.raises(Done):
        windows.step(500)
    seconds = [(a["seconds"], a["cpu_seconds"], a["users"]) for a in answers]
    assert seconds == [(111, 111, 1_500), (11_000, 11_000, 1_000), (100_000, 100_000, 500)]


@pytest.mark.parametrize("other", [train(1, batch=2048), {"do": "evaluate"}])
def test_another_order_ends_a_training_and_is_left_for_others(clock: Clock, other: dict) -> None:
    orders, answers = told(train(1), other)
    windows = Windows(orders, 500)
    windows.step(500)
    clock.now += 2
    with pytest.raises(Done):
        windows.step(500)
    assert [a["users"] for a in answers] == [500]
    assert orders.peek() == other


def test_what_a_contender_prints_does_not_mix_with_its_answers() -> None:
    script = (
        "from orders import Orders; orders = Orders(); print('noise')\n"
        "while (order := orders.peek()) is not None: orders.take(); orders.answer(users=order['n'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PEERS,
        input='{"n": 3}\n{"n": 4}\n',
        capture_output=True,
        text=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["users"] for answer in answers] == [3, 4]
    assert all(0.005 < answer["peak_gb"] < 0.1 for answer in answers)  # of a bare interpreter
    assert done.stderr == "noise\n"


def test_every_figure_has_bounds_that_grow_with_the_processor() -> None:
    for key, goal in GOALS.items():
        assert 0 < (goal.without or 0.1) < goal.avx512 < goal.amx, key


def test_the_column_of_the_processor_counts() -> None:
    assert [column(s) for s in ([], ["avx512_bf16"], ["avx512_bf16", "amx_bf16"])] == [0, 1, 2]
    assert len(COLUMNS) == 3
    found = [judged("ratio_recbole_b500", 5.5, place)["met"] for place in range(3)]
    assert found == [True, True, False]
    assert judged("ratio_eval", 0.1, 0)["met"] is None  # only reported


def windows(*speeds: float) -> dict:
    answers = [{"users": s, "seconds": 1, "cpu_seconds": 2, "others_cores": 0} for s in speeds]
    return summary(answers, SimpleNamespace(peak_gb=1.0, loaded={}))  # type: ignore[arg-type]


def test_ratios_are_of_medians_and_their_range_is_of_turns() -> None:
    found = ratio(windows(30, 60, 90), windows(10, 10, 30))
    assert found["ratio"] == 60 / 10
    assert found["range"] == [3, 6]
    assert found["cpu_ratio"] == pytest.approx(60 / 10)


def test_the_page_is_what_its_program_writes_from_the_results() -> None:
    """Else run `python benchmarks/performance_page.py`."""
    assert (ROOT / "docs" / "performance.md").read_text() == page(ROOT / "benchmarks" / "results")


def test_the_gpu_benchmark_runs_dry() -> None:
    """Every part of it, on the CPU at tiny shapes."""
    command = [sys.executable, "gpu.py", "--dry-run"]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 5


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
def test_a_picture_of_a_page_is_as_high_as_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<!DOCTYPE html><body style='margin:0'><p style='margin:0;height:17001px'>")
    subprocess.run([ROOT / "benchmarks" / "screenshots.sh", CHROMIUM, page], check=True)
    sizes = {
        picture.stem: struct.unpack(">II", picture.read_bytes()[16:24])  # PNG: width, height
        for picture in tmp_path.glob("*.png")
    }
    shown = [(width, scheme) for width in (1200, 390) for scheme in ("dark", "light")]
    assert sizes == {f"page-{w}-{scheme}": (w, 17001) for w, scheme in shown}


def test_the_turns_of_the_load_are_read_and_failed_requests_are_no_figures():
    from benchmarks.serve.run import summary

    turn = "{} {:5} {:8.1f}/s p50   45.0 p95   65.1 p99   96.0 ms,"
    turn += "   {:.2f} CPU ms a request, {} failed"
    rates = {"ours": [1.0, 300.0, 100.0, 200.0], "plain": [9.0, 400.0, 400.0, 500.0]}
    lines = [
        turn.format(n, name, some[n], some[n] / 100, 0)
        for n in range(4)
        for name, some in rates.items()
    ]
    found = summary("\n".join([*lines, "ratio 0.50"]))
    assert [t["rate"] for t in found["turns"]["ours"]] == [
        300.0,
        100.0,
        200.0,
    ]  # the first warms up
    assert found["median"]["plain"]["rate"] == 400.0
    assert (found["ratio_rate"], found["ratio_cpu"]) == (0.5, 0.5)
    with pytest.raises(SystemExit, match="requests failed"):
        summary("\n".join([*lines, turn.format(4, "ours", 5.0, 1.0, 1)]))
