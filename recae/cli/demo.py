"""`recae demo`."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from recae.cli import progress
from recae.cli.output import NewDirectory

# Fewer epochs than by default: enough for the order of the models, in less time. EASE's l2 is
# rounded from `recae tune data/sample/interactions.csv --models ease --trials 10
# --validation-draws 4`, which looks at validation users only.
_MODELS: dict[str, dict[str, object]] = {
    "mult-vae": {"epochs": 15},
    "mult-dae": {"epochs": 15},
    "ease": {"l2": 100.0},
    "popular": {},
}
_TRAINED = ("mult-vae", "mult-dae")  # in epochs
_METRICS = ("ndcg@100", "recall@20")


@click.command("demo")
@click.option("-o", "--out", type=NewDirectory(), help="Keep the files here.")
def command(out: Path | None) -> None:
    """Run the whole chain on the sample data: train, compare, write a file, answer over HTTP."""
    started = time.monotonic()
    # Threads of torch, which is imported later, sleep while they wait for each other: awake, they
    # take several times the processor time on a machine that also has other work to do.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with tempfile.TemporaryDirectory(prefix="recae-demo-") as temporary:
        _run(out or Path(temporary))
    recae = _program()
    click.echo(f"\nDone in {time.monotonic() - started:.0f} s. Next:")
    if out is None:
        click.echo(f"  {recae} demo -o DIR    # the same, and keep the files")
    else:
        click.echo(f"  {recae} inspect {out / 'model'}")
        click.echo(f"  {recae} serve {out / 'model'}    # then open http://127.0.0.1:8000/")
    click.echo(f"  {recae} train YOUR.csv -o models/mine    # your own interactions")


def _program() -> str:
    """How this program is called from here."""
    if shutil.which("recae") is not None:
        return "recae"
    beside = Path(sys.executable).with_name("recae")
    return _near(beside) if beside.is_file() else f"{_near(Path(sys.executable))} -m recae"


def _near(path: Path) -> str:
    """`path`, from the current directory where it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _run(out: Path) -> None:
    from recae.data.protocols import split as split_data
    from recae.data.readers import read_interactions
    from recae.data.sample import sample_directory
    from recae.evaluation.aligned import aligned
    from recae.experiment.compare import compare
    from recae.experiment.run import save
    from recae.models.registry import create
    from recae.serving import load_bundle
    from recae.serving.batch import Asked, write_recommendations

    source = sample_directory() / "interactions.csv"
    data = read_interactions(source, items=source.with_name("items.csv"))
    split = split_data(data, "strong", rng=42)
    assert split.test is not None
    click.echo(f"1. Data: {_near(source)}")
    click.echo(
        f"   {data.n_users:,} users, {data.n_items:,} items, {data.matrix.nnz:,} interactions\n"
        f"   {split.train.n_users:,} users to train on; {len(split.test):,} others, whom no model"
        " has seen, are the test\n"
    )
    click.echo("2. Train and compare")
    models = {name: create(name, options) for name, options in _MODELS.items()}
    for name in _TRAINED:
        with progress.shown(f"   {name}"):
            models[name].fit(split.train, validation=split.validation)
    table = compare(models.values(), split, metrics=_METRICS)
    click.echo()
    _show(aligned([row[: 1 + len(_METRICS)] for row in table.rows()]))
    click.echo(f"   means of {len(split.test):,} test users ± standard errors\n")
    save(models["mult-vae"], out / "model", data=data, split=split)
    bundle = load_bundle(out / "model")
    assert bundle.users is not None
    assert bundle.histories is not None
    path = out / "recommendations.csv"
    asked = Asked(bundle.model, bundle.items, 10)
    everybody = [(bundle.histories, bundle.users)]
    done = write_recommendations(asked, everybody, path, file_format="csv")
    click.echo(f"3. Recommend: {done.rows:,} rows for {done.users:,} users in {path}")
    with path.open() as lines:
        _show([next(lines).rstrip() for _ in range(4)])
    user = bundle.users.ids_at([0])[0]
    click.echo(f"\n4. Serve: GET /recommend?user={user}&k=3")
    answer = _ask(out / "model", user)
    _show([f"user {answer['user']}, model {answer['model']['name']}, source {answer['source']}"])
    columns = ("rank", "item", "score", "title")
    items = [
        [str(item["rank"]), item["item"], f"{item['score']:.4f}", item["title"]]
        for item in answer["items"]
    ]
    _show(aligned([columns, *items], left=(1, 3)))


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(f"   {line}")


def _ask(directory: Path, user: str) -> dict[str, Any]:
    """One real request to a server of its own process, which is stopped afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "recae", "serve", str(directory), "--port", str(port)],
        stderr=subprocess.PIPE,
    )
    try:
        _until_ready(server, f"{base}/readyz")
        query = urllib.parse.urlencode({"user": user, "k": 3})
        with urllib.request.urlopen(f"{base}/recommend?{query}", timeout=30) as answer:
            document: dict[str, Any] = json.load(answer)
            return document
    finally:
        server.terminate()
        server.communicate(timeout=30)


def _until_ready(server: "subprocess.Popen[bytes]", url: str) -> None:
    for _ in range(600):
        if server.poll() is not None:
            assert server.stderr is not None
            raise click.ClickException(
                f"the server stopped: {server.stderr.read().decode()[-500:]}"
            )
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise click.ClickException("the server did not answer within a minute")
