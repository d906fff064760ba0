"""`recae serve`."""

import logging
from pathlib import Path
from typing import Literal

import click


@click.command("serve")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--threads", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option(
    "--max-batch",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Most requests in one batch.",
)
@click.option(
    "--max-history",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Most ids in one list of a request.",
)
@click.option(
    "--max-k",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Longest list that may be asked for.",
)
@click.option(
    "--max-body-bytes",
    type=click.IntRange(1),
    default=64 * 1024,
    show_default=True,
    help="Longest request body; a long history needs more.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path),
    help="File of API keys, made by `recae keys create`.",
)
@click.option(
    "--unknown-user", type=click.Choice(["error", "popular"]), default="error", show_default=True
)
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="Without keys: a host name to answer to beside localhost, of a proxy here; repeatable.",
)
@click.option("--insecure-no-auth", is_flag=True, help="Listen beyond this machine without keys.")
def command(
    directory: Path,
    host: str,
    port: int,
    threads: int,
    max_batch: int,
    max_history: int,
    max_k: int,
    max_body_bytes: int,
    api_key_file: Path | None,
    unknown_user: Literal["error", "popular"],
    allow_hosts: tuple[str, ...],
    insecure_no_auth: bool,
) -> None:
    """Answer GET /recommend?user=ID from the model directory DIR until stopped."""
    import torch

    from recae.serving import RecommendationService
    from recae_api import Settings, create_app
    from recae_api.server import serve

    if allow_hosts and api_key_file is not None:
        raise click.UsageError(
            "--allow-host does not go with --api-key-file: with keys any name is answered to"
        )
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    service = RecommendationService.open(directory)
    torch.set_num_threads(1)  # requests run side by side; each alone is small
    settings = Settings(
        max_k=max_k,
        max_batch=max_batch,
        max_history=max_history,
        max_body_bytes=max_body_bytes,
        unknown_user=unknown_user,
        key_file=api_key_file,
        allow_hosts=tuple(name.lower() for name in allow_hosts),
    )
    serve(
        create_app(service, settings),
        host=host,
        port=port,
        threads=threads,
        insecure=insecure_no_auth,
        on_listening=lambda host, port: click.echo(
            f"listening on http://{host}:{port}/, documentation at /docs", err=True
        ),
    )
