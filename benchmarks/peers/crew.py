"""The runner's side: contenders as processes, asked in turn, so that only one works at a time."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
Answer = dict[str, object]


@dataclass(frozen=True, slots=True)
class Contender:
    """A script of this directory, the Python that runs it, its arguments and its environment."""

    python: Path
    script: str
    arguments: tuple[str, ...]
    environment: dict[str, str]


class Worker:
    """A contender that is running and has loaded what it needs."""

    def __init__(self, name: str, contender: Contender, folder: Path) -> None:
        self.name = name
        environment = (
            os.environ
            | contender.environment
            | {
                "PYTHONPATH": os.pathsep.join(
                    [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
                ),
            }
        )
        self._log = (folder / f"{name}.log").open("w")
        self._process = subprocess.Popen(
            [contender.python, HERE / contender.script, *contender.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=folder,
            env=environment,
            text=True,
        )
        started = time.perf_counter()
        self.loaded = self._answer() | {"start_seconds": time.perf_counter() - started}
        self.peak_gb = float(str(self.loaded["peak_gb"]))
        say(f"{name} is ready after {self.loaded['start_seconds']:.0f} s")

    def ask(self, **order: object) -> Answer:
        """Figures of an order; the share of the machine that others used meanwhile beside them."""
        assert self._process.stdin is not None
        busy, started = _busy_seconds(), time.perf_counter()
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        elapsed = time.perf_counter() - started
        if "cpu_seconds" in answer:
            others = _busy_seconds() - busy - float(str(answer["cpu_seconds"]))
            answer["others_cores"] = max(0.0, others / elapsed)
        self.peak_gb = float(str(answer.pop("peak_gb")))
        return answer

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.flush()
            tail = Path(self._log.name).read_text()[-3000:]
            raise SystemExit(f"{self.name} ended with {self._process.returncode}:\n{tail}")
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


@contextmanager
def crew(contenders: Mapping[str, Contender], folder: Path) -> Iterator[dict[str, Worker]]:
    """All `contenders`, loaded one after the other, ended on leaving."""
    with ExitStack() as stack:
        workers = {}
        for name, contender in contenders.items():
            workers[name] = Worker(name, contender, folder)
            stack.callback(workers[name].close)
        yield workers


def in_turns(
    workers: Mapping[str, Worker],
    repeats: int,
    *,
    before_each: Callable[[], object] = lambda: None,
    **order: object,
) -> dict[str, list[Answer]]:
    """Answers of all workers to the same order, asked `repeats` times, in a turning sequence.

    `before_each` is called before each turn.
    """
    names = list(workers)
    found: dict[str, list[Answer]] = {name: [] for name in names}
    for turn in range(repeats):
        before_each()
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(workers[name].ask(**order))
        speeds = ", ".join(f"{name} {_speed(found[name][-1]):,.0f}" for name in names)
        say(f"{order}: {speeds} users/s")
    return found


def summary(answers: list[Answer], worker: Worker) -> dict[str, object]:
    """Median and quartiles of the speed, processor time a thousand users, and each answer."""
    speeds = [_speed(answer) for answer in answers]
    low, middle, high = statistics.quantiles(speeds, n=4, method="inclusive")
    return {
        "users_s": middle,
        "users_s_quartiles": [low, high],
        "cpu_ms_user": statistics.median(
            1e3 * float(str(a["cpu_seconds"])) / float(str(a["users"])) for a in answers
        ),
        "others_cores": statistics.median(float(str(a["others_cores"])) for a in answers),
        "peak_gb": worker.peak_gb,
        "loaded": worker.loaded,
        "windows": answers,
    }


def ratio(ours: dict, theirs: dict) -> dict[str, float | list[float]]:
    """How many times faster ours is: by medians; the range over the turns; by processor time."""
    pairs = zip(ours["windows"], theirs["windows"], strict=True)
    by_turn = [_speed(a) / _speed(b) for a, b in pairs]
    return {
        "ratio": ours["users_s"] / theirs["users_s"],
        "range": [min(by_turn), max(by_turn)],
        "cpu_ratio": theirs["cpu_ms_user"] / ours["cpu_ms_user"],
    }


def say(text: str) -> None:
    """Tell the person in front of it what happens."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def _speed(answer: Answer) -> float:
    return float(str(answer["users"])) / float(str(answer["seconds"]))


def _busy_seconds() -> float:
    """Processor seconds of all processes of the machine so far; 0 where the system hides it."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system = (int(x) for x in stat.read_text().split(maxsplit=4)[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")
