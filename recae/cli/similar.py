"""`recae similar`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recae.cli.output import LISTS, NewFile, refuse_overwriting, show

if TYPE_CHECKING:
    from recae.serving.lists import Format


@click.command("similar")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("item", required=False)
@click.option("--all", "everything", is_flag=True, help="Neighbours of every item, to a file.")
@click.option("-k", "k", type=click.IntRange(1), default=10, show_default=True)
@click.option("--candidates", type=click.Path(path_type=Path), help="List only items of this file.")
@click.option("--exclude", type=click.Path(path_type=Path), help="List no items of this file.")
@click.option("--format", "file_format", type=LISTS, help="csv when not told by -o.")
@click.option("-o", "--out", type=NewFile(stdout=True), help="The file; - is stdout.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the list, with -o the counts, as JSON."
)
def command(
    directory: Path,
    item: str | None,
    everything: bool,
    k: int,
    candidates: Path | None,
    exclude: Path | None,
    file_format: "Format | None",
    out: Path | None,
    as_json: bool,
) -> None:
    """List the items nearest to ITEM, or with --all to each of the model in DIR.

    Items are compared by the cosine of their vectors, or by the weights between items where the
    model has those. --all writes a row a neighbour: target_item_id, item_id, score, rank and,
    where the model has titles, title.
    """
    if (item is None) != everything:
        raise click.UsageError("give either ITEM or --all")
    if item is not None:
        if out is not None or file_format is not None:
            raise click.UsageError("-o and --format belong to --all; one list goes to stdout")
        _one(directory, item, k, candidates, exclude, as_json)
        return
    if candidates is not None or exclude is not None:
        raise click.UsageError("--candidates and --exclude belong to one ITEM")
    from recae.cli.people import list_format
    from recae.serving import load_bundle
    from recae.serving.similar import stream_similar, write_similar

    target = None if str(out) == "-" else out
    chosen = list_format(target, file_format, as_json=as_json)
    refuse_overwriting([("-o", target)], (), directory)
    bundle = load_bundle(directory)
    if target is None:
        stream_similar(bundle, sys.stdout.buffer, k=k, file_format=chosen)
        return
    done = write_similar(bundle, target, k=k, file_format=chosen)
    result = {"file": str(out), "items": done.users, "rows": done.rows, "short_lists": done.short}
    text = f"wrote {out}: {done.users} items, {done.rows} rows, {done.short} lists shorter than {k}"
    show(result, text, as_json=as_json)


def _one(
    directory: Path,
    item: str,
    k: int,
    candidates: Path | None,
    exclude: Path | None,
    as_json: bool,
) -> None:
    from recae.cli.people import ids_of, show_list
    from recae.serving import RecommendationService, load_bundle

    bundle = load_bundle(directory)
    answer = RecommendationService(bundle).similar(
        item,
        k=k,
        candidates=None if candidates is None else ids_of(bundle, candidates, "item"),
        exclude=[] if exclude is None else ids_of(bundle, exclude, "item"),
    )
    show_list(answer, as_json=as_json)
