"""`recae protocols`."""

import click


@click.command("protocols")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List the split protocols and their options, or say of NAME what each option means."""
    from recae.cli.listing import show_options
    from recae.data.protocols import PROTOCOLS
    from recae.data.protocols.registry import protocol_class

    kinds = dict(PROTOCOLS) if name is None else {name: protocol_class(name)}
    show_options(
        {one: (kind, kind) for one, kind in kinds.items()},
        in_full=name is not None,
        as_json=as_json,
    )
