"""recae beside its peers on the same data: training, evaluation, batch recommendation.

    make bench-peers
    python benchmarks/train_peers.py --peers build/peers [--quick]

Every contender is a process that loads once; the processes are asked in turn, a window of steps
each, so that only one works at a time and all see the same machine. What each of them does stands
in its file in `benchmarks/peers`. Widths are items - 600 - 200 - 600 - items everywhere, the data
is a made-up matrix of the shape of ML-20M. Figures are medians over the windows, ratios are ratios
of medians. recae multiplies in bfloat16 where the processor has such products, as by default;
the others have no such option. `--quick` is small, for trying whether all contenders run: its
figures mean nothing.

Writes `benchmarks/results/train_peers.json`: the figures of `peers/goals.py` at the top, then
whether they are what they should be, and all they were made from.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peers.crew import Contender, Worker, crew, in_turns, ratio, say, summary
from peers.data import Written, write_data
from peers.goals import COLUMNS, GOALS, column, judged
from rates import machine

from recae.data.synthetic import ML_20M, MatrixShape

HERE = Path(__file__).parent
OURS = ("recae", "textbook")  # what with_recae.py trains
PEERS = {  # each has an environment; packages whose versions are told
    "recbole": ("recbole", "torch", "numpy"),
    "cornac": ("cornac", "torch", "numpy"),
    "implicit": ("implicit", "numpy", "scipy"),
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes
    ----------
    shape
        Of the matrix.
    steps
        Of a window, by batch size.
    repeats
        Windows of each contender.
    people
        Who are evaluated.
    asked
        Who get lists.
    """

    shape: MatrixShape
    steps: dict[int, int]
    repeats: int
    people: int
    asked: int


FULL = Size(ML_20M, {500: 8, 2048: 3}, 7, 10_000, 20_000)
QUICK = Size(
    MatrixShape(n_users=5_000, n_items=3_000, n_interactions=250_000),
    {500: 2, 2048: 1},
    3,
    1_000,
    2_000,
)


class Run:
    """One run: what it found, phase after phase."""

    def __init__(self, size: Size, peers: Path, folder: Path) -> None:
        self.size, self.folder = size, folder
        self._python = {name: peers / name / "bin" / "python" for name in PEERS}
        self.found: dict[str, dict[str, dict]] = {}

    def peer(self, name: str, *arguments: str) -> Contender:
        environment = {"OPENBLAS_NUM_THREADS": "1"} if name == "implicit" else {}  # it asks for it
        script = f"with_{name}.py"
        return Contender(self._python[name], script, (str(self.folder), *arguments), environment)

    def ours(self, kind: str, *arguments: str) -> Contender:
        python = Path(sys.executable)
        return Contender(python, "with_recae.py", (kind, str(self.folder), *arguments), {})

    def train(self, recbole: Worker, batch: int, others: dict[str, Contender]) -> None:
        """Windows of training of `recbole` and the `others`."""
        with crew(others, self.folder) as workers:
            everybody = {**workers, "recbole": recbole}
            in_turns(everybody, 1, do="train", batch=batch, steps=2)  # warm
            answers = in_turns(
                everybody,
                self.size.repeats,
                do="train",
                batch=batch,
                steps=self.size.steps[batch],
            )
            self.found[f"train_b{batch}"] = {
                name: summary(answers[name], worker) for name, worker in everybody.items()
            }

    def evaluate(self, recbole: Worker, model: Worker) -> dict[str, dict]:
        """Windows of evaluation; the figures of both for the same weights."""
        recbole.ask(do="weights")
        everybody = {"recae": model, "recbole": recbole}
        warm = in_turns(everybody, 1, do="evaluate")
        figures = {name: answers[0]["figures"] for name, answers in warm.items()}
        answers = in_turns(everybody, self.size.repeats, do="evaluate")
        self.found["evaluate"] = {n: summary(answers[n], w) for n, w in everybody.items()}
        return figures

    def recommend(self, model: Worker) -> None:
        """Windows of batch recommendation."""
        with crew({"implicit": self.peer("implicit")}, self.folder) as workers:
            everybody = {"recae": model, **workers}
            in_turns(everybody, 1, do="recommend", users=self.size.asked)  # warm
            answers = in_turns(everybody, self.size.repeats, do="recommend", users=self.size.asked)
            self.found["recommend"] = {n: summary(answers[n], w) for n, w in everybody.items()}

    def versions(self) -> dict[str, dict[str, str]]:
        """Versions of everything that was measured."""
        ask = (
            "import json, sys; from importlib.metadata import version;"
            "print(json.dumps({n: version(n) for n in sys.argv[1:]}))"
        )
        packages = {"recae": ("recae", "torch", "numpy", "scipy", "pandas", "pyarrow"), **PEERS}
        found = {}
        for name, names in packages.items():
            python = self._python.get(name, Path(sys.executable))
            found[name] = json.loads(self._output(python, "-c", ask, *names))
        return found

    def _output(self, *command: str | Path) -> str:
        """What a command printed."""
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout


def everything(run: Run) -> dict[str, object]:
    """All phases, and what they give."""
    size, started = run.size, time.perf_counter()
    load_before = os.getloadavg()
    say("writing the data")
    written: Written = write_data(run.folder, size.shape, size.people)
    about = machine()
    place = column(about["instruction_sets"] or ())  # type: ignore[arg-type]
    precision = "bfloat16" if place else "float32"
    with crew({"recbole": run.peer("recbole")}, run.folder) as first:
        recbole = first["recbole"]
        for batch in size.steps:
            others = {name: run.ours("train", name, precision, str(batch)) for name in OURS}
            if batch == 500:
                others["cornac"] = run.peer("cornac", "500")
            run.train(recbole, batch, others)
        with crew({"recae": run.ours("model")}, run.folder) as second:
            figures = run.evaluate(recbole, second["recae"])
            recbole.close()
            run.recommend(second["recae"])
    ratios = _ratios(run.found)
    return {
        **{key: ratios[key]["ratio"] for key in GOALS},
        "goals": {key: judged(key, float(str(ratios[key]["ratio"])), place) for key in GOALS},
        "column": COLUMNS[place],
        "precision": precision,
        "machine": about,
        "versions": run.versions(),
        "data": asdict(written),
        "size": asdict(size),
        "ratios": ratios,
        "same_weights_figures": figures,
        "found": run.found,
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "minutes": (time.perf_counter() - started) / 60,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _ratios(found: dict[str, dict[str, dict]]) -> dict[str, dict]:
    small, large = found["train_b500"], found["train_b2048"]
    return {
        "ratio_recbole_b500": ratio(small["recae"], small["recbole"]),
        "ratio_recbole_b2048": ratio(large["recae"], large["recbole"]),
        "ratio_cornac_b500": ratio(small["recae"], small["cornac"]),
        "ratio_textbook_b500": ratio(small["recae"], small["textbook"]),
        "ratio_textbook_b2048": ratio(large["recae"], large["textbook"]),
        "ratio_eval": ratio(found["evaluate"]["recae"], found["evaluate"]["recbole"]),
        "ratio_batch": ratio(found["recommend"]["recae"], found["recommend"]["implicit"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--peers", type=Path, required=True, help="built by peers/build.sh")
    parser.add_argument("--threads", type=int, default=int(str(machine()["cores"])))
    parser.add_argument("--quick", action="store_true", help="small data, to see that all run")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of every process started from here
    torch.set_num_threads(args.threads)
    missing = [name for name in PEERS if not (args.peers / name / "bin" / "python").exists()]
    if missing:
        raise SystemExit(f"{args.peers} has no environment of {', '.join(missing)}; peers/build.sh")
    out = args.out or (
        Path("out/train_peers_quick.json") if args.quick else HERE / "results/train_peers.json"
    )
    with tempfile.TemporaryDirectory() as folder:
        size = QUICK if args.quick else FULL
        result = everything(Run(size, args.peers.absolute(), Path(folder)))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    for key, about in result["goals"].items():  # type: ignore[attr-defined]
        met = {True: "met", False: "MISSED", None: "reported only"}[about["met"]]
        print(f"{key:24} {about['value']:7.2f}  at least {about['least'] or '-':<5} {met}")
    print(f"{result['minutes']:.1f} minutes, written to {out}")


if __name__ == "__main__":
    main()
