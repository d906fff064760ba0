"""`recae`: the group of all commands, and what an error looks like from outside."""

import importlib
import io
import os
import resource
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn, final

import click

from recae.errors import RecaeError, ResourceError
from recae.version import VERSION

# command -> module and attribute; loaded when the command runs, so that `recae --help` is quick
_COMMANDS = {
    "data": ("recae.cli.data", "Check, split and fetch interactions."),
    "train": ("recae.cli.train", "Train a model and write its directory."),
    "evaluate": ("recae.cli.evaluate", "Judge a stored model on the users held out from it."),
    "compare": ("recae.cli.compare", "Fit and judge several models on one split."),
    "tune": ("recae.cli.tune", "Search the options of models, with equal budgets."),
    "recommend": ("recae.cli.recommend", "Write recommendations to a file."),
    "similar": ("recae.cli.similar", "List the items nearest to an item."),
    "explain": ("recae.cli.explain", "Say what of a history speaks for an item."),
    "embed": ("recae.cli.embed", "Write codes of people or vectors of items to a file."),
    "serve": ("recae.cli.serve", "Answer recommendations over HTTP."),
    "keys": ("recae.cli.keys", "Make, list and take back API keys."),
    "inspect": ("recae.cli.inspect", "Say what is in a model directory, and whether it is whole."),
    "models": ("recae.cli.models", "List the models, their options and what they mean."),
    "protocols": ("recae.cli.protocols", "List the ways to split data, and their options."),
    "metrics": ("recae.cli.metrics", "List the metrics and their definitions."),
    "doctor": ("recae.cli.doctor", "What this machine has, and what could be better."),
    "demo": ("recae.cli.demo", "The whole chain on the sample data."),
}

_WITHOUT_TORCH = ("data", "keys", "models", "protocols", "metrics")
_ADDRESSES = 3 << 29  # bytes of address space that torch, scipy and Arrow take, and some to work in


class _Group(click.Group):
    """Commands by name, imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # click's signature
        return list(_COMMANDS)

    def get_command(
        self, ctx: click.Context, cmd_name: str
    ) -> click.Command | None:  # click's signature
        if cmd_name not in _COMMANDS:
            return None
        _limit_addresses(cmd_name)
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        command: click.Command = module.command
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:  # click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])


@click.command(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "RECAE"},
)
@click.version_option(VERSION, prog_name="recae", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--import",
    "modules",
    multiple=True,
    metavar="MODULE",
    help="Import a module that registers models of yours; repeatable.",
)
def cli(debug: bool, modules: tuple[str, ...]) -> None:  # noqa: ARG001  # `main` reads debug
    """Autoencoder recommenders: from a CSV of interactions to recommendations over HTTP.

    Results go to stdout, everything else to stderr. Every option can be given as an environment
    variable, RECAE_TRAIN_EPOCHS for `recae train --epochs`.
    """
    if modules and "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: modules of the current directory
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise click.UsageError(f"there is no module {module!r} to import") from error


def _limit_addresses(command: str) -> None:
    """Start no threads of OpenBLAS where they do nothing, or where addresses are limited.

    Each takes megabytes of them, and where one does not start, OpenBLAS tries for ever.

    Raises
    ------
    ResourceError
        If fewer addresses are allowed than the libraries of `command` take.
    """
    if "numpy" in sys.modules:  # OpenBLAS has started
        return
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    limited = allowed != resource.RLIM_INFINITY
    if limited or command in _WITHOUT_TORCH:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if limited and allowed < _ADDRESSES and command not in _WITHOUT_TORCH:
        raise ResourceError(
            f"{allowed / 1e9:.2f} GB of address space are allowed (ulimit -v);"
            f" recae {command} needs {_ADDRESSES / 1e9:.2f} GB"
        )


class _Terminated(BaseException):
    """SIGTERM, raised in the main thread so that files are closed and locks released."""


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated


@final
class _Lossy(io.FileIO):
    """A file that loses what cannot be written: work does not end for want of words about it."""

    def write(self, data: Any) -> int:  # any buffer
        """Write `data`, or nothing."""
        try:
            written = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


def _stderr() -> io.TextIOWrapper:
    """Standard error, whether it is full, closed or nobody reads it."""
    try:
        os.fstat(2)
    except OSError:  # closed: the next file that is opened would get its number, and its lines
        os.dup2(nowhere := os.open(os.devnull, os.O_WRONLY), 2)
        if nowhere != 2:
            os.close(nowhere)
    encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
    raw = io.BufferedWriter(_Lossy(2, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit with the code of the outcome."""
    sys.stderr = _stderr()
    signal.signal(signal.SIGTERM, _terminate)
    given = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in given or _is_true(os.environ.get("RECAE_DEBUG", ""))
    sys.exit(run(given, debug=debug))


def _is_true(text: str) -> bool:
    """Whether a variable turns a flag on; click refuses later what is neither yes nor no."""
    try:
        return bool(click.BOOL.convert(text, None, None))
    except click.BadParameter:
        return False


def run(arguments: list[str], *, debug: bool) -> int:
    """Run a command of `recae` in this process, and return its exit code.

    What goes wrong is said on stderr, and does not leave as an exception.

    Parameters
    ----------
    arguments
        As on the command line, without the name of the program.
    debug
        Whether to print tracebacks of errors as well.
    """
    try:
        outcome = cli.main(arguments, prog_name="recae", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            click.echo(error.format_message())  # a group without a command: help is no error
            return 0
        hint = f"; see '{error.ctx.command_path} --help'" if error.ctx is not None else ""
        if isinstance(error, click.NoSuchOption):
            hint = f"; an id that begins with - stands after --{hint}"
        return _fail(f"{_one_line(error.format_message()).removesuffix('.')}{hint}", 2)
    except click.ClickException as error:
        return _fail(_one_line(error.format_message()), 2)
    except (KeyboardInterrupt, click.Abort):
        return _fail("stopped", 130)
    except _Terminated:
        return _fail("terminated", 143)
    except RecaeError as error:
        return _fail(_one_line(str(error)), error.exit_code, debug=debug)
    except MemoryError:
        return _fail(
            "out of memory; use fewer rows, a smaller model or a smaller batch",
            ResourceError.exit_code,
            debug=debug,
        )
    except (BrokenPipeError, SystemExit):
        # the reader of our stdout is gone (click turns that into SystemExit): stop without a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _fail(f"{error.strerror or error}{where}", ResourceError.exit_code, debug=debug)
    except Exception as error:  # noqa: BLE001  # the last resort: a bug, said as such
        what = f"internal error: {type(error).__name__}: {_one_line(str(error))}"
        return _fail(f"{what}; this is a bug, --debug shows where", 1, debug=debug)
    return outcome if isinstance(outcome, int) else 0


def _fail(message: str, code: int, *, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"recae: error: {message}", err=True)
    return code


def _one_line(text: str) -> str:
    """`text` without line breaks and control characters, which may come from the input."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
