"""`recae explain`."""

from pathlib import Path

import click

from recae.cli.output import one_line, show


@click.command("explain")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--user", help="A stored user.")
@click.option("--history", multiple=True, help="An item of a history given here; repeatable.")
@click.option("--item", required=True, help="The item to explain, listed or not.")
@click.option("-k", "k", type=click.IntRange(1), default=10, show_default=True, help="Reasons.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    directory: Path, user: str | None, history: tuple[str, ...], item: str, k: int, as_json: bool
) -> None:
    """Say which items of a history speak for an item, by the model in DIR.

    The weight of a reason is what the item's score loses, exactly, when the reason is taken out of
    the history; it is below 0 where the score gains.
    """
    if (user is None) != bool(history):
        raise click.UsageError("give either --user or --history")
    from recae.serving import RecommendationService

    answer = RecommendationService.open(directory).explain(
        item, user=user, history=list(history) if history else None
    )
    for warning in answer.warnings:
        click.echo(f"note: {warning}", err=True)
    reasons = answer.reasons[:k]
    value = {
        "item": answer.item,
        "title": answer.title,
        "score": answer.score,
        "reasons": [{"item": r.item, "weight": r.weight, "title": r.title} for r in reasons],
    }
    lines = [f"{answer.score:9.4f}  {one_line(item)}  {one_line(answer.title or '')}".rstrip()]
    lines += [
        f"{r.weight:+9.4f}  {one_line(r.item)}  {one_line(r.title or '')}".rstrip() for r in reasons
    ]
    show(value, "\n".join(lines), as_json=as_json)
