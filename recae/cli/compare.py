"""`recae compare`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recae.cli import progress
from recae.cli.output import NewFile, refuse_overwriting, show, write_text
from recae.cli.reading import model_names, read, reading_options, resolve, run_options
from recae.errors import ConfigError

if TYPE_CHECKING:
    from recae.experiment.splits import SplitsTable

_MODELS = "popular,ease,mult-dae,mult-vae"


@click.command("compare")
@click.argument("source", metavar="FILE")
@click.option(
    "--models",
    default=_MODELS,
    help=f"Names, comma-separated, of {model_names(f'{_MODELS} when not given')}",
)
@click.option("--seeds", type=click.IntRange(1), default=1, help="Training seeds of each model.")
@click.option(
    "--split-seeds",
    type=click.IntRange(1),
    default=1,
    help="Compare on so many draws of the split, and show their spread.",
)
@click.option(
    "--require-beat",
    metavar="NAME",
    help="Exit with 8 unless a model beats this one, with --split-seeds in every split.",
)
@click.option(
    "-o", "--out", type=NewFile(stdout=True, ending="json"), help="Also write the JSON here."
)
@click.option("--html", type=NewFile(ending="html"), help="Write a report, one HTML file.")
@click.option("--markdown", type=NewFile(ending="md"), help="Write the figures as Markdown.")
@reading_options
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    source: str,
    models: str,
    seeds: int,
    split_seeds: int,
    require_beat: str | None,
    out: Path | None,
    html: Path | None,
    markdown: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Fit several models on the training part of FILE and judge them on the same test users."""
    if split_seeds > 1 and (html or markdown):
        flag = "--html" if html else "--markdown"
        raise ConfigError(f"{flag} shows one split; it goes without --split-seeds")
    refuse_overwriting(
        [
            ("-o", out),
            ("--html", html),
            ("--markdown", markdown),
            ("--rejects", options["rejects"]),
        ],
        [("FILE", source), ("--items", options["items"]), ("--config", options["config"])],
    )
    names = [name.strip() for name in models.split(",") if name.strip()]
    config = resolve(options, names)

    from recae.experiment.compare import compare
    from recae.experiment.data import data_summary, make_split
    from recae.experiment.report import markdown as markdown_of
    from recae.experiment.report import ready_for_html, write_html
    from recae.experiment.run import run_summary
    from recae.experiment.splits import compare_splits
    from recae.experiment.table import ComparisonTable

    if html is not None:
        ready_for_html(html)
    data = read(source, config, options)
    summary = data_summary(data)
    table: ComparisonTable | SplitsTable
    with progress.shown():
        if split_seeds > 1:
            table = compare_splits(
                names,
                data,
                config,
                splits=split_seeds,
                seeds=seeds,
                about=summary,
                require_beat=require_beat,
            )
        else:
            table = compare(
                names,
                make_split(data, config),
                metrics=config.metrics,
                config=config,
                seeds=seeds,
                data=summary,
                require_beat=require_beat,
            )
    made_by = ["recae", *sys.argv[1:]]
    result = table.to_json() | {"command": made_by, "run": run_summary()}
    if out is not None:
        write_text(out, json.dumps(result, indent=1) + "\n")
    told: list[object] = [table]
    if isinstance(table, ComparisonTable):
        told += [table.differences(), table.parts()]
        if html is not None:
            write_html(table, html, command=made_by)
        if markdown is not None:
            write_text(markdown, markdown_of(table, command=made_by))
    text = "\n\n".join(filter(None, map(str, told)))
    show(result, text, as_json=as_json)
    if require_beat is not None:
        table.require_beat(require_beat)
