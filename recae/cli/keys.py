"""`recae keys`: create, list, revoke."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from recae.cli.output import one_line, show

_FILE = click.argument("path", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))


@click.group("keys")
def command() -> None:
    """Make, list and take back the API keys in FILE, for `recae serve --api-key-file FILE`."""


@command.command("create")
@_FILE
@click.option("--name", required=True, help="Whose key it is.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["recommend", "admin"]),
    default=("recommend",),
    show_default=True,
    help="What it allows; repeatable, one does not include the other.",
)
@click.option("--days", type=click.IntRange(1, 36_500), help="Valid for so long; always without.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(path: Path, name: str, scopes: tuple[str, ...], days: int | None, as_json: bool) -> None:
    """Add a key to FILE, made where it is missing, and print the key, which is not kept."""
    from recae_api import create_key

    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    key = create_key(path, name=name, scopes=scopes, expires=expires)  # type: ignore[arg-type]  # chosen from them
    click.echo(f"note: {path} keeps a hash; this is the only copy of the key", err=True)
    show({"id": key.split("_")[1], "key": key}, key, as_json=as_json)


@command.command("list")
@_FILE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(path: Path, as_json: bool) -> None:
    """List the keys of FILE: id, name, scopes, when they were made and when they end."""
    from recae_api import read_keys

    keys = read_keys(path)
    value = [{k: v for k, v in asdict(key).items() if k != "sha256"} for key in keys]
    lines = [
        f"{one_line(key.id)}  {one_line(key.name)}  {','.join(key.scopes)}  made {key.created}"
        + ("" if key.expires is None else f"  {'ended' if key.expired else 'ends'} {key.expires}")
        for key in keys
    ]
    show(value, "\n".join(lines) or f"{path} holds no key", as_json=as_json)


@command.command("revoke")
@_FILE
@click.argument("key_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def revoke(path: Path, key_id: str, as_json: bool) -> None:
    """Take the key with this ID out of FILE; a running server notices at once."""
    from recae_api import revoke_key

    revoke_key(path, key_id)
    show({"revoked": key_id}, f"revoked {key_id}", as_json=as_json)
