"""`recae models`."""

import click


@click.command("models")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List the models and their options, or say of the model NAME what each option means."""
    from recae.models.registry import MODELS, find_installed, refuse_unknown

    if name is None:
        find_installed()
    else:
        refuse_unknown(name)

    from recae.cli.listing import show_options
    from recae.models.registry import model_class

    names = list(MODELS) if name is None else [name]
    kinds = {one: model_class(one) for one in names}
    show_options(
        {one: (kind, kind.Config) for one, kind in kinds.items()},
        in_full=name is not None,
        as_json=as_json,
    )
