"""`recae inspect`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from recae.cli.output import show


@click.command("inspect")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--verify", "check", is_flag=True, help="Check every stored version, every byte.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(directory: Path, check: bool, as_json: bool) -> None:
    """Say what is in the model directory DIR; what is loaded is always checked."""
    from recae.serving import list_versions, load_bundle, verify

    bundle = load_bundle(directory)
    stored = list_versions(directory)
    if check:
        for found in stored:
            verify(directory, version=found.version)
    value: dict[str, Any] = {
        "directory": str(directory),
        "version": bundle.version,
        "versions": [asdict(found) for found in stored],
        "model": bundle.model.name,
        "items": len(bundle.items),
        "users": None if bundle.users is None else len(bundle.users),
        "split": bundle.split,
        "metrics": bundle.metrics,
        "provenance": bundle.provenance,
        "verified": check,
    }
    lines = [
        f"{directory}: {bundle.model.name}, version {bundle.version} of {len(stored)} stored",
        f"{len(bundle.items)} items, "
        + ("no users stored" if bundle.users is None else f"{len(bundle.users)} users stored"),
    ]
    if bundle.split is not None:
        lines.append(
            f"protocol {bundle.split['protocol']}, {bundle.split['train_users']} training users"
        )
    for part, report in (bundle.metrics or {}).items():
        figures = ", ".join(
            f"{name} {'-' if figure['mean'] is None else format(figure['mean'], '.4f')}"
            for name, figure in report.get("metrics", {}).items()
        )
        lines.append(f"{part}: {figures}")
    if check:
        lines.append("every file of every version agrees with its hash")
    show(value, "\n".join(lines), as_json=as_json)
