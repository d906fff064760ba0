"""Options of every command that reads interactions, and the reading itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from recae.cli.output import NewFile
from recae.errors import ConfigError

if TYPE_CHECKING:
    from recae.data.interactions import Interactions
    from recae.data.report import ReadReport
    from recae.experiment.config import RunConfig

Command = TypeVar("Command", bound=Callable[..., Any])

_READ = (
    ("--user-col", str, "Column of the user ids: a name, or a position, from 1."),
    ("--item-col", str, "Column of the item ids."),
    ("--rating-col", str, "Column of the ratings."),
    ("--time-col", str, "Column of the times."),
    ("--split-col", str, "Column with train, validation or test, for --protocol column."),
    ("--sep", str, r"Separator, of any length, \t for a tab; found out when not given."),
    ("--min-rating", float, "Keep rows rated at least this."),
    (
        "--min-user",
        int,
        "Keep users with at least this many interactions, those of dropped items not counted; one"
        " pass, after --min-item.",
    ),
    (
        "--min-item",
        int,
        "Keep items with at least this many interactions; one pass, so dropped users may leave them"
        " fewer.",
    ),
    ("--items-id-col", str, "Column of the item ids in the items file."),
    ("--items-title-col", str, "Column of the titles in the items file."),
    ("--items-encoding", str, "Encoding of the items file; utf-8 when not given."),
    ("--max-bad-rows", float, "Refuse the file above this share (below 1) or count of bad rows."),
)
_PROTOCOLS = "strong (when not given), mult-vae, random, leave-last, temporal, column or all"
METRICS_HELP = (
    "Names, comma-separated: recall@K, recall-all@K, ndcg@K, ndcg-graded@K, precision@K, map@K,"
    " mrr@K, hit@K, r-precision, novelty@K, popularity-bias@K, diversity@K, coverage@K, gini@K,"
    " with a whole number for K; see recae metrics."
)
"""What the option ``--metrics`` takes; the module of metrics would be loaded for it."""


def model_names(default: str) -> str:
    """Names of the models, for a help text that says what is chosen when none is given."""
    from recae.models.registry import MODELS

    return f"{', '.join(MODELS)}, or one of yours (--import); {default}; see recae models."


_READ_NAMES = [flag[2:].replace("-", "_") for flag, _, _ in _READ]
_READ_NAMES += ["header", "ids_as_written", "keep_ratings"]


def column_options(command: Command) -> Command:
    """Add the options that say where things are in a file of interactions."""
    for flag, kind, text in reversed(_READ):
        command = click.option(flag, type=kind, help=text)(command)
    command = click.option(
        "--ids-as-written",
        is_flag=True,
        default=None,
        help="Keep ids such as 12.0, nan and null as they are.",
    )(command)
    return click.option(
        "--header/--no-header", default=None, help="Whether the first line names the columns."
    )(command)


def reading_options(command: Command) -> Command:
    """Add the options that say how interactions are read, and what is read and written beside."""
    command = column_options(command)
    command = click.option(
        "--items", type=click.Path(path_type=Path), help="File with item_id, title, ..."
    )(command)
    return click.option(
        "--rejects", type=NewFile(ending="csv"), help="Write refused rows to this file."
    )(command)


def run_options(command: Command) -> Command:
    """Add the options that decide a run: config file, settings, protocol, seed."""
    for option in reversed(
        (
            click.option(
                "--config", type=click.Path(path_type=Path), help="TOML file of settings."
            ),
            click.option(
                "--set", "settings", multiple=True, metavar="TABLE.KEY=VALUE", help="One setting."
            ),
            click.option(
                "--keep-ratings", is_flag=True, default=None, help="Keep ratings as target values."
            ),
            click.option(
                "--protocol",
                help=f"How the data is split: {_PROTOCOLS}; see recae protocols.",
            ),
            click.option("--held-out-users", type=int, help="Users held out, for each part."),
            click.option("--split-seed", type=int, help="Seed of the split."),
            click.option("--seed", type=int, help="Seed of training."),
            click.option("--metrics", help=METRICS_HELP),
        )
    ):
        command = option(command)
    return command


def refuse_unread(options: Mapping[str, Any]) -> None:
    """Refuse options that say how a file is read where none is.

    Raises
    ------
    UsageError
        If one is given.
    """
    for name, value in options.items():
        if value is not None:
            flag = f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} says how a file is read; it goes with --interactions")


def resolve(options: Mapping[str, Any], models: Sequence[str] | None = None) -> "RunConfig":
    """The run that the options of a command ask for.

    Parameters
    ----------
    options
        Values by the names of the options.
    models
        Names of the models of the run, where not one alone is trained.

    Raises
    ------
    ConfigError
        If a name or value is not accepted, or ``--set`` is about a model that has no part in it.
    """
    from recae.experiment.config import load_config
    from recae.models.registry import MODELS, config_class, refuse_unknown

    for name in models or ():
        refuse_unknown(name)
    flags: dict[str, Any] = {f"read.{name}": options.get(name) for name in _READ_NAMES}
    for name in ("model", "protocol", "seed", "metrics"):
        flags[name] = options.get(name)
    config = load_config(options.get("config"), options.get("settings") or (), flags)
    from recae.data.protocols import PROTOCOLS

    of_protocol = {"held_out_users": ("held_out_users",), "split_seed": ("rng", "seed")}
    for name, known_as in of_protocol.items():
        if options.get(name) is not None:
            option = _option(name, known_as, "protocol", config.protocol, PROTOCOLS)
            flags[f"split.{option}"] = options[name]
    for name in ("epochs", "device", "precision"):
        if options.get(name) is not None:
            kinds = {model: config_class(model) for model in MODELS}
            _option(name, (name,), "model", config.model, kinds)
            flags[f"{config.model}.{name}"] = options[name]
    settings = options.get("settings") or ()
    for setting in settings:  # a config file may be about more models than this run
        table = setting.partition("=")[0].partition(".")[0].strip()
        asked = (config.model,) if models is None else models
        if table in MODELS and table not in asked:
            raise ConfigError(
                f"--set {setting!r} is about a model that has no part in this; asked for:"
                f" {', '.join(asked) or 'none'}"
            )
    return load_config(options.get("config"), settings, flags)


def _option(
    flag: str, known_as: Sequence[str], what: str, chosen: str, kinds: Mapping[str, type[Any]]
) -> str:
    """Which of its names the option of `flag` has in the chosen protocol or model."""
    found = {
        kind: field.name
        for kind, options in kinds.items()
        for field in fields(options)
        if field.name in known_as
    }
    if chosen not in found:
        raise ConfigError(
            f"--{flag.replace('_', '-')} does not go with {what} {chosen!r}, which has no such"
            f" option; it goes with {', '.join(found)}"
        )
    return found[chosen]


def read(source: str, config: "RunConfig", options: Mapping[str, Any]) -> "Interactions":
    """Read `source`, and say on stderr what happened to its rows."""
    from recae.data.readers import read_interactions

    data = read_interactions(
        source, items=options.get("items"), rejects=options.get("rejects"), **dict(config.read)
    )
    if data.report is not None:
        tell(data.report)
    click.echo(f"{data!r}", err=True)
    return data


def tell_notices(report: "ReadReport") -> None:
    """Say on stderr what people should know of an input."""
    for notice in report.notices:
        click.echo(f"note: {notice}", err=True)


def tell(report: "ReadReport") -> None:
    """Say on stderr what happened to the rows of an input."""
    tell_notices(report)
    dropped = {reason: d.rows for reason, d in report.rows_dropped.items() if d.rows}
    left_out = ", ".join(f"{rows} {reason}" for reason, rows in dropped.items())
    click.echo(
        f"read {report.rows_read} rows: {report.rows_kept} kept,"
        f" {report.rows_merged} merged{', dropped: ' + left_out if left_out else ''}"
        + (f" ({report.pairs_seen} pairs kept as seen)" if report.pairs_seen else ""),
        err=True,
    )
