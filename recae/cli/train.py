"""`recae train`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recae.cli import progress
from recae.cli.output import NewDirectory, refuse_overwriting, show
from recae.cli.reading import model_names, read, reading_options, resolve, run_options
from recae.errors import RecaeError

if TYPE_CHECKING:
    from recae.experiment.memory import Needs


@click.command("train")
@click.argument("source", metavar="FILE")
@click.option("-o", "--out", type=NewDirectory(), help="Model directory.")
@click.option("--model", help=f"One of {model_names('mult-vae when not given')}")
@click.option("--epochs", type=int, help="Passes over the training users.")
@click.option("--device", help="auto, cpu, cuda, cuda:1, ...")
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]))
@click.option("--threads", type=click.IntRange(1), help="Threads of the CPU.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from the checkpoint in -o of a training that was stopped; where there is none, or"
    " one of other data, say so and start anew.",
)
@click.option("--user-history/--no-user-history", default=True, help="Store users and histories.")
@click.option("--dry-run", is_flag=True, help="Say what it will take, and write nothing.")
@reading_options
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    source: str,
    out: Path | None,
    threads: int | None,
    resume: bool,
    user_history: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a model on FILE and write it, as a new version, to the model directory.

    With the default protocol, strong, users are held out to decide when to stop and to be judged
    by `recae evaluate`. --protocol all trains on everybody.
    """
    config = resolve(options)

    import torch

    from recae.experiment.data import data_summary, make_split
    from recae.experiment.memory import needs, refuse_what_cannot_fit
    from recae.experiment.rehearsal import refuse_what_does_not_fit, rehearse
    from recae.experiment.run import forget_checkpoints, save, train
    from recae.models.registry import model_class
    from recae.serving.bundle import files_of, ready_to_save

    if threads is not None:
        torch.set_num_threads(threads)
    if out is not None:
        ready_to_save(out)
    elif not dry_run:
        raise click.UsageError("Missing option '-o' / '--out'.", click.get_current_context())
    inputs = [("FILE", source), ("--items", options["items"]), ("--config", options["config"])]
    files = [] if out is None else files_of(out)
    refuse_overwriting([("-o", out), *(("-o", path) for path in files)], inputs)
    refuse_overwriting([("--rejects", options["rejects"])], inputs, out)
    data = read(source, config, options)
    split = make_split(data, config)
    expected = needs(split, config, directory=out or Path())
    click.echo(str(expected), err=True)
    refuse_what_cannot_fit(expected, split, config)
    if out is None or dry_run:
        measured = rehearse(split, config)
        value = {
            "needs": expected.to_json(),
            "measured": None if measured is None else measured.to_json(),
            "data": data_summary(data),
        }
        said = measured or f"time not known beforehand: {config.model} is not trained in steps"
        show(value, f"{_shape(expected)}\n{said}", as_json=as_json)
        if measured is not None:
            refuse_what_does_not_fit(measured, expected)
        return
    if resume and not model_class(config.model).trained_in_steps:
        click.echo(f"note: {config.model} writes no checkpoints and starts anew", err=True)
    started = time.monotonic()
    run_files = out / "run"
    try:
        with progress.shown(config.model):
            trained = train(
                data,
                config,
                split=split,
                checkpoint=run_files,
                keep_checkpoint=True,
                resume=resume,
            )
    except BaseException as error:
        if not isinstance(error, RecaeError) and any(run_files.glob("step-*.json")):
            click.echo("note: give --resume to go on from where it stopped", err=True)
        raise
    metrics: dict[str, Any] = {}
    if trained.validation is not None:
        metrics["validation"] = trained.validation.to_json()
    version = save(
        trained.model,
        out,
        data=data,
        split=trained.split,
        user_history=user_history,
        metrics=metrics,
        provenance={
            "run": config.to_json(),
            "config": trained.model.config.to_json(),
            "command": ["recae", *sys.argv[1:]],
            "fit_s": round(trained.seconds, 3),
        },
    )
    if model_class(config.model).trained_in_steps:
        forget_checkpoints(run_files)
    result = {
        "directory": str(out),
        "version": version,
        "model": trained.model.name,
        "fit_s": round(trained.seconds, 3),
        "seconds": round(time.monotonic() - started, 3),
        "data": data_summary(data),
        "split": trained.split.to_json(),
        "needs": expected.to_json(),
        **metrics,
    }
    report = "" if trained.validation is None else f"\nvalidation, {trained.validation}"
    show(result, f"wrote {out}, version {version}{report}", as_json=as_json)


def _shape(expected: "Needs") -> str:
    shape, n = expected.shape, expected.parameters
    return (
        f"{expected.model} on {shape.n_users:,} users x {shape.n_items:,} items,"
        f" {shape.n_interactions:,} interactions; {expected.n_validation:,} validation users"
        + ("" if n is None else f"; {n:,} parameters")
    )
