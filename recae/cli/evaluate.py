"""`recae evaluate`."""

import sys
from pathlib import Path
from typing import Any, Literal

import click

from recae.cli.output import NewFile, refuse_overwriting, show, write_text
from recae.cli.reading import METRICS_HELP


@click.command("evaluate")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("source", metavar="FILE")
@click.option("--metrics", help=f"{METRICS_HELP} Those of the training when not given.")
@click.option("--part", type=click.Choice(["test", "validation"]), default="test")
@click.option(
    "--by", multiple=True, help="Also by segment: history, popularity, a column of --user-table."
)
@click.option("--user-table", help="File with a row a user: user_id, country, ...")
@click.option("--per-user", type=NewFile(ending="parquet"), help="Write each user's figures.")
@click.option("--html", type=NewFile(ending="html"), help="Write a report, one HTML file.")
@click.option("--markdown", type=NewFile(ending="md"), help="Write the figures as Markdown.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    directory: Path,
    source: str,
    metrics: str | None,
    part: Literal["test", "validation"],
    by: tuple[str, ...],
    user_table: str | None,
    per_user: Path | None,
    html: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """Judge the model in DIR on the users of FILE that were held out from its training.

    FILE must be the data the model was trained on; the stored split is made again.
    """
    refuse_overwriting(
        [("--per-user", per_user), ("--html", html), ("--markdown", markdown)],
        [("FILE", source), ("--user-table", user_table)],
        directory,
    )
    from recae.evaluation.report import write_per_user
    from recae.experiment.report import markdown as markdown_of
    from recae.experiment.report import ready_for_html, write_html
    from recae.experiment.run import evaluate_stored
    from recae.experiment.stored import stored_table
    from recae.serving import load_bundle

    if html is not None:
        ready_for_html(html)
    names = (
        None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
    )
    bundle = load_bundle(directory)  # once: a save meanwhile must not mix two versions
    table = None
    if html is None and markdown is None:
        report, split, _ = evaluate_stored(
            bundle, source, metrics=names, part=part, by=by, user_table=user_table
        )
    else:
        table, report = stored_table(
            bundle,
            source,
            directory=directory,
            metrics=names,
            part=part,
            by=by,
            user_table=user_table,
        )
        split = table.split
    if per_user is not None:
        write_per_user(report, per_user)
    value: dict[str, Any] = {**report.to_json(), "part": part, "protocol": split.to_json()}
    text = f"{part} part, protocol {split.protocol}\n{report}"
    if table is not None:
        made_by = ["recae", *sys.argv[1:]]
        if html is not None:
            write_html(table, html, command=made_by)
        if markdown is not None:
            write_text(markdown, markdown_of(table, command=made_by))
    show(value, text, as_json=as_json)
