"""What beginners do, and the text that each attempt gets: `docs/first-mistakes.md` shows it."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from scipy.sparse import csr_array

import recae

ROWS = [(user, item) for user in range(1, 31) for item in range(1, 13) if user * item % 7 % 3]


def texts(folder: Path) -> dict[str, str]:
    """Text that each attempt gets, its paths shortened; `folder` is empty."""
    frame = pd.DataFrame(ROWS, columns=["user_id", "item_id"])
    frame.to_csv(folder / "plays.csv", index=False)
    frame.assign(timestamp="20.03.2024").to_csv(folder / "dates.csv", index=False)
    (folder / "users.txt").write_text("1\n99\n")
    model = folder / "model"
    assert command("train", folder / "plays.csv", "--model", "ease", "-o", model)[0] == 0
    data = recae.read_interactions(folder / "plays.csv")
    split = recae.split(data, "strong")
    service = recae.load(model)
    plays = folder / "plays.csv"
    attempts: dict[str, Callable[[], object]] = {
        "`service.recommend(user=3, k=2)`": lambda: service.recommend(user=3, k=2),
        "`service.recommend(history=[3, 4], k=2)`": lambda: service.recommend(history=[3, 4], k=2),
        "`EASE().fit(csr_array(...))`": lambda: recae.EASE(l2=9.0).fit(
            csr_array([[1, 0, 1.0], [1, 1, 0]])
        ),
        "`evaluate(..., metrics=[first_hit])`, a function": lambda: recae.evaluate(
            recae.Popularity().fit(split.train), split.test, metrics=[first_hit]
        ).to_json()["metrics"],
        "`compare(..., seeds=[1, 2, 3])`": lambda: recae.compare(
            [recae.Popularity()], split, seeds=[1, 2, 3], metrics=["ndcg@5"]
        ),
        "`recae`": lambda: command()[1],
        "`recae train plays.csv --model mult_vae -o m`": lambda: command(
            "train", plays, "--model", "mult_vae", "-o", folder / "m"
        )[1],
        "`recae similar model -5`": lambda: command("similar", model, "-5")[1],
        "`recae recommend model --users users.txt`, 99 is not known": lambda: command(
            "recommend", model, "--users", folder / "users.txt", "-k", 1, "-o", folder / "lists.csv"
        )[1],
        "`recae recommend model --interactions plays.csv -o plays.csv`": lambda: command(
            "recommend", model, "--interactions", plays, "-o", plays
        )[1],
        "`recae recommend model --users all -o lists.xlsx`": lambda: command(
            "recommend", model, "--users", "all", "-o", folder / "lists.xlsx"
        )[1],
        "`recae train dates.csv -o m`, dates as 20.03.2024": lambda: command(
            "train", folder / "dates.csv", "--model", "ease", "-o", folder / "m"
        )[1],
    }
    return {name: told(attempt, folder) for name, attempt in attempts.items()}


def first_hit(ranked: object, targets: object) -> float:
    return float(list(ranked)[0] in set(targets))  # type: ignore[call-overload]


def command(*words: object) -> tuple[int, str]:
    """Exit code, and the first line of stderr that is more than a note, else of stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "recae", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if re.match("recae: error|warning", line)]
    said = lines[0] if lines else done.stdout.strip().partition("\n")[0]
    return done.returncode, f"{said} (exit {done.returncode})"


def told(attempt: Callable[[], object], folder: Path) -> str:
    try:
        text = str(attempt())
    except Exception as error:  # noqa: BLE001  # whatever it is
        text = f"{type(error).__name__}: {error}"
    text = " ".join(text.replace(f"{folder}/", "").split()).replace("|", "\\|")
    return text if len(text) <= 240 else f"{text[:240]} ..."
