"""`recae metrics`."""

import click

from recae.cli.output import show


@click.command("metrics")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, as_json: bool) -> None:
    """List the metrics and their definitions, or define NAME, such as ndcg@100."""
    from recae.evaluation.aligned import aligned
    from recae.evaluation.names import DEFINITIONS, parse_metric

    found = dict(DEFINITIONS)
    if name is not None:
        found = {name: DEFINITIONS.get(name) or parse_metric(name).definition}
    show(found, "\n".join(aligned(list(found.items()), left=(0, 1))), as_json=as_json)
