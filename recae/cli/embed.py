"""`recae embed`."""

from pathlib import Path
from typing import Any

import click

from recae.cli.output import NewFile, refuse_overwriting, show
from recae.cli.reading import column_options, refuse_unread


@click.command("embed")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--users", metavar="FILE|all", help="File with an id a line, or all stored users.")
@click.option("--interactions", metavar="FILE", help="People, with their histories, from a file.")
@click.option("--items", is_flag=True, help="Vectors of all items instead of people.")
@click.option(
    "-o", "--out", type=NewFile(ending="parquet"), required=True, help="Parquet file to write."
)
@column_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    directory: Path,
    users: str | None,
    interactions: str | None,
    items: bool,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Write codes of people, or vectors of items, to a Parquet file.

    A row a person, user_id and code, or with --items a row an item, item_id and vector: lists of
    float32 of one length. A code depends on the history alone, so people may be known or not.
    --interactions reads FILE as the training data was read, where options do not say otherwise;
    people of whom the model knows no item, or no row counts, get no code and are named on stderr.
    """
    given = [
        name
        for name, value in {
            "--users": users,
            "--interactions": interactions,
            "--items": items,
        }.items()
        if value
    ]
    if len(given) != 1:
        raise click.UsageError(
            f"give one of --users, --interactions and --items; got {', '.join(given) or 'none'}"
        )
    if interactions is None:
        refuse_unread(options)
    read = {"--users": None if users == "all" else users, "--interactions": interactions}
    refuse_overwriting([("-o", out)], read.items(), directory)
    from recae.cli.people import people_of, stored_people, wanted_users
    from recae.serving import load_bundle
    from recae.serving.embed import write_codes, write_item_vectors

    bundle = load_bundle(directory)
    if items:
        width = write_item_vectors(bundle, out)
        value = {"file": str(out), "items": len(bundle.items), "width": width}
        show(value, f"wrote {out}: {value['items']} items, {width} numbers each", as_json=as_json)
        return
    people = (
        stored_people(bundle, wanted_users(bundle, users), source=users)
        if interactions is None
        else people_of(bundle, interactions, options)
    )
    width = write_codes(bundle, people.histories, people.ids, out)
    value = {
        "file": str(out),
        "people": len(people.ids),
        "width": width,
        **people.left_out.to_json(),
    }
    text = f"wrote {out}: {value['people']} people, {width} numbers each{people.left_out}"
    show(value, text, as_json=as_json)
