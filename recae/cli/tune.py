"""`recae tune`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recae.cli import progress
from recae.cli.output import NewDirectory, refuse_overwriting, show, write_text
from recae.cli.reading import model_names, read, reading_options, resolve, run_options
from recae.errors import ConfigError

if TYPE_CHECKING:
    from recae.data.interactions import Interactions
    from recae.evaluation.report import Report
    from recae.experiment.config import RunConfig
    from recae.experiment.run import Trained
    from recae.experiment.study import Trial

_MODELS = "mult-vae,ease,als,item-knn"


@click.command("tune")
@click.argument("source", metavar="FILE")
@click.option(
    "--models",
    default=_MODELS,
    help=f"Names, comma-separated, of {model_names(f'{_MODELS} when not given')}",
)
@click.option(
    "--trials", type=click.IntRange(1), default=20, show_default=True, help="Of each model, in all."
)
@click.option("--timeout", type=float, help="Start no further round after so many seconds.")
@click.option("--storage", help="sqlite:///PATH of the trials; study.db in -o when not given.")
@click.option(
    "--validation-draws",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Mean over so many hold-out draws of the same validation users.",
)
@click.option(
    "--validation-users",
    type=click.IntRange(1),
    help="Judge trials on so many of the validation users; all when not given.",
)
@click.option("--test", "judge", is_flag=True, help="Judge the winner once on the test part.")
@click.option(
    "-o",
    "--out",
    type=NewDirectory(),
    help="Directory for best.toml, tune.json, study.db, and the winner in model.",
)
@reading_options
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    source: str,
    models: str,
    trials: int,
    timeout: float | None,
    storage: str | None,
    validation_draws: int,
    validation_users: int | None,
    judge: bool,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Search the options of several models on the validation part of FILE, with equal budgets.

    The same storage goes on until each model has --trials in all. Options given by --set or
    --config are kept as they are. The winner is fitted again and, with -o, written to DIR/model;
    its run is DIR/best.toml, for `recae train --config`. No model is judged on the test part
    without --test; only counts of it are shown beside those of the validation part.
    """
    files = ("", "best.toml", "tune.json", "study.db", "model")
    refuse_overwriting(
        [("--rejects", options["rejects"]), *(("-o", out and out / name) for name in files)],
        [("FILE", source), ("--items", options["items"]), ("--config", options["config"])],
    )
    names = [name.strip() for name in models.split(",") if name.strip()]
    config = resolve(options, names)

    from recae.experiment.config_file import config_text
    from recae.experiment.data import data_summary
    from recae.experiment.run import run_summary, train
    from recae.experiment.study import optuna_package
    from recae.experiment.tune import prepare, tune

    optuna_package().logging.set_verbosity(optuna_package().logging.WARNING)
    data = read(source, config, options)
    material = prepare(data, config, validation_users=validation_users)
    if judge and not material.has_test:
        raise ConfigError(f"--test: protocol {config.protocol!r} has no test part")
    with _held(out):
        if out is not None and storage is None:
            storage = f"sqlite:///{out / 'study.db'}"
        with progress.shown(summaries=False) as say:
            tuning = tune(
                material,
                names,
                trials=trials,
                timeout_s=timeout,
                storage=storage,
                draws=validation_draws,
                on_trial=lambda trial: say(_line(trial, trials)),
            )
        result: dict[str, Any] = {
            **tuning.to_json(),
            "parts": material.parts.to_json(),
            "data": data_summary(data),
            "command": ["recae", *sys.argv[1:]],
            "run": run_summary(),
        }
        text = f"{tuning}\n\n{material.parts}"
        if judge or out is not None:
            with progress.shown(tuning.config.model):
                trained = train(data, tuning.config)
            if judge:
                report = _on_test(trained, tuning.config)
                result["test"] = report.to_json()
                text += f"\n\ntest, {report}"
            if out is not None:
                write_text(out / "best.toml", config_text(tuning.config))
                result["version"] = _saved(trained, tuning.config, data, out / "model", result)
                write_text(out / "tune.json", json.dumps(result, indent=1) + "\n")
                text += f"\n\nwrote {out}: best.toml, tune.json, model"
    show(result, text, as_json=as_json)


@contextmanager
def _held(out: Path | None) -> Iterator[None]:
    """Keep other processes out of the directory: two would make the same trials."""
    if out is None:
        yield
        return
    from recae.storage import directory_lock

    with directory_lock(out):
        yield


def _line(trial: "Trial", trials: int) -> str:
    score = trial.outcome if trial.score is None else f"{trial.score:.4f}"
    setting = " ".join(f"{name}={json.dumps(value)}" for name, value in trial.options.items())
    return f"{trial.model} {trial.number}/{trials} {score} ({trial.seconds:.1f} s) {setting}"


def _on_test(trained: "Trained", config: "RunConfig") -> "Report":
    from recae.evaluation.evaluator import evaluate

    assert trained.split.test is not None  # checked before the first trial
    return evaluate(trained.model, trained.split.test, metrics=config.metrics)


def _saved(
    trained: "Trained",
    config: "RunConfig",
    data: "Interactions",
    directory: Path,
    result: dict[str, Any],
) -> str:
    from recae.experiment.run import save

    metrics: dict[str, Any] = {}
    if trained.validation is not None:
        metrics["validation"] = trained.validation.to_json()
    if "test" in result:
        metrics["test"] = result["test"]
    return save(
        trained.model,
        directory,
        data=data,
        split=trained.split,
        metrics=metrics,
        provenance={
            "run": config.to_json(),
            "config": trained.model.config.to_json(),
            "command": result["command"],
            "fit_s": round(trained.seconds, 3),
        },
    )
