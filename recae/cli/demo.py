"""`recae demo`."""

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import click

from recae.cli import progress
from recae.cli.output import NewDirectory

# Fewer epochs than by default: enough for the order of the models, in half the time. EASE's l2 is
# rounded from `recae tune data/sample/interactions.csv --models ease --trials 10
# --validation-draws 4`, which looks at validation users only.
_MODELS: dict[str, dict[str, object]] = {
    "mult-vae": {"epochs": 25},
    "mult-dae": {"epochs": 25},
    "ease": {"l2": 100.0},
    "popular": {},
}


@click.command("demo")
@click.option("-o", "--out", type=NewDirectory(), help="Keep the files here.")
def command(out: Path | None) -> None:
    """Run the whole chain on the sample data: train, compare, write a file, answer over HTTP."""
    with tempfile.TemporaryDirectory(prefix="recae-demo-") as temporary:
        _run(out or Path(temporary))
    if out is not None:
        click.echo(f"\nThe files are in {out}. Next:")
        click.echo(f"  recae inspect {out / 'model'}")
        click.echo(f"  recae serve {out / 'model'}      # then open http://127.0.0.1:8000/")
    click.echo("  recae train YOUR.csv -o models/mine    # your own interactions")


def _run(out: Path) -> None:
    from recae.data.protocols import split as split_data
    from recae.data.readers import read_interactions
    from recae.data.sample import sample_directory
    from recae.experiment.compare import compare
    from recae.experiment.run import save
    from recae.models.registry import create
    from recae.serving import load_bundle
    from recae.serving.batch import Asked, write_recommendations

    started = time.monotonic()
    sample = sample_directory()
    click.echo(f"1. Read {sample / 'interactions.csv'}")
    data = read_interactions(sample / "interactions.csv", items=sample / "items.csv")
    click.echo(f"   {data!r}")
    split = split_data(data, "strong", rng=42)
    assert split.test is not None
    click.echo(
        f"2. Train on {split.train.n_users} users; {len(split.test)} others, whom no model has"
        " seen, are the test"
    )
    models = [create(name, options) for name, options in _MODELS.items()]
    with progress.shown():
        table = compare(models, split)
    click.echo("\n" + "\n".join(f"   {line}" for line in str(table).splitlines()) + "\n")
    served = next(m for m in models if m.name in ("mult-vae", "mult-dae"))
    save(served, out / "model", data=data, split=split)
    bundle = load_bundle(out / "model")
    assert bundle.users is not None
    assert bundle.histories is not None
    path = out / "recommendations.csv"
    asked = Asked(bundle.model, bundle.items, 10)
    everybody = [(bundle.histories, bundle.users)]
    done = write_recommendations(asked, everybody, path, file_format="csv")
    click.echo(f"3. Wrote {done.rows} recommendations for {done.users} users to {path}:")
    with path.open() as lines:
        for _ in range(4):
            click.echo(f"   {next(lines).rstrip()}")
    user = bundle.users.ids_at([0])[0]
    click.echo(f"4. Serve it and ask: GET /recommend?user={user}&k=3")
    answer = _ask(out / "model", user)
    click.echo("   " + json.dumps(answer, indent=2).replace("\n", "\n   "))
    click.echo(f"\nDone in {time.monotonic() - started:.0f} s.")


def _ask(directory: Path, user: str) -> object:
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
            document: object = json.load(answer)
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
