"""`recae data`: check, split, fetch."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recae.cli.output import NewDirectory, refuse_overwriting, show
from recae.cli.reading import read, reading_options, resolve, run_options, tell_notices
from recae.data.fetch import GROUPLENS, MOVIELENS, fetch

if TYPE_CHECKING:
    import pyarrow as pa

    from recae.data.histories import Histories
    from recae.data.ids import IdMap
    from recae.data.interactions import Interactions
    from recae.data.split import HeldOut, Split

_HELD_OUT = ("validation", "test")
_ABOUT = "split.json"
_PARTS = (
    "train.parquet",
    *(f"{name}_{kind}.parquet" for name in _HELD_OUT for kind in ("fold_in", "target")),
    *(f"{name}_seen.parquet" for name in ("train", *_HELD_OUT)),
)
_POPULAR = 5


@click.group("data")
def command() -> None:
    """Check, split and fetch interactions."""


@command.command("check")
@click.argument("source", metavar="FILE")
@reading_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(source: str, as_json: bool, **options: Any) -> None:
    """Account for every row of FILE, and say what a model would see."""
    from recae.data.readers import read_interactions
    from recae.experiment.data import data_summary

    data = read_interactions(
        source,
        items=options["items"],
        rejects=options["rejects"],
        **dict(resolve(options).read),
    )
    assert data.report is not None
    tell_notices(data.report)
    summary = {**data.report.to_json(), **data_summary(data), **_statistics(data)}
    summary.pop("report")
    lines = [
        f"rows read {data.report.rows_read}, kept {data.report.rows_kept},"
        f" merged {data.report.rows_merged}",
    ]
    for reason, dropped in data.report.rows_dropped.items():
        where = f" (first lines {', '.join(map(str, dropped.lines[:5]))})" if dropped.lines else ""
        lines.append(f"dropped {dropped.rows}: {reason}{where}")
    if data.report.pairs_seen:
        lines.append(f"kept as seen, never listed: {data.report.pairs_seen} of these pairs")
    lines += _lines_about(summary)
    show(summary, "\n".join(lines), as_json=as_json)


def _statistics(data: "Interactions") -> dict[str, Any]:
    """Return what people ask first about data: how much of a user, of an item, when, what most."""
    import numpy as np

    of_users = np.diff(data.matrix.indptr)
    of_items = np.bincount(data.matrix.indices, minlength=data.n_items)
    most = np.argsort(-of_items, kind="stable")[:_POPULAR]
    titles = data.titles()
    days = None
    if data.times is not None:
        ends = (data.times.min(), data.times.max())
        days = [str(np.datetime64(int(time), "us").astype("M8[D]")) for time in ends]
    return {
        "density": data.matrix.nnz / max(1, data.n_users * data.n_items),
        **{
            f"per_{of}": {
                "min": int(counts.min()),
                "median": float(np.median(counts)),
                "max": int(counts.max()),
            }
            for of, counts in (("user", of_users), ("item", of_items))
        },
        "days": days,
        "popular": [
            {
                "item_id": item_id,
                "title": None if titles is None else titles[item],
                "users": int(of_items[item]),
            }
            for item, item_id in zip(most.tolist(), data.items.ids_at(most), strict=True)
        ],
    }


def _lines_about(summary: Mapping[str, Any]) -> Iterator[str]:
    """Statistics for people."""
    yield (
        f"{summary['users']} users, {summary['items']} items,"
        f" {summary['interactions']} interactions, density {summary['density']:.2%}"
    )
    for of in ("user", "item"):
        n = summary[f"per_{of}"]
        yield f"interactions per {of}: median {n['median']:g}, {n['min']} to {n['max']}"
    if summary["days"] is not None:
        yield f"times: {summary['days'][0]} to {summary['days'][1]} (UTC)"
    yield "most popular items (users):"
    for one in summary["popular"]:
        title = "" if one["title"] is None else f"  {one['title']}"
        yield f"{one['users']:>8}  {one['item_id']}{title}"


@command.command("split")
@click.argument("source", metavar="FILE")
@click.argument("out", type=NewDirectory())
@reading_options
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def split(source: str, out: Path, as_json: bool, **options: Any) -> None:
    """Split FILE and write the parts to the directory OUT as Parquet.

    Writes train.parquet, {validation,test}_{fold_in,target}.parquet and, at last, split.json. What
    people rated below the minimum, which lists leave out, is in
    {train,validation,test}_seen.parquet, where there is any. An earlier split in OUT is replaced.
    """
    from recae.data.protocols.fixtures import fixture_hashes
    from recae.experiment.data import make_split
    from recae.storage import write_json

    files = ("", _ABOUT, *_PARTS)
    refuse_overwriting(
        [("--rejects", options["rejects"]), *(("OUT", out / name) for name in files)],
        [("FILE", source), ("--items", options["items"]), ("--config", options["config"])],
    )
    config = resolve(options, models=())
    data = read(source, config, options)
    made = make_split(data, config)
    about = made.to_json()
    if made.protocol == "mult-vae":
        about["authors_files_sha256"] = fixture_hashes(made, data)
    with _emptied(out):
        _write_parts(made, out)
        write_json(out / _ABOUT, about)
    show(about, "\n".join(_lines(about)), as_json=as_json)


@contextmanager
def _emptied(out: Path) -> Iterator[None]:
    """Directory without an earlier split: this one may lack parts of it, or end half written."""
    new = not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    if (out / _ABOUT).exists():
        click.echo(f"note: {out} holds an earlier split, which is replaced", err=True)
    for name in (_ABOUT, *_PARTS):  # first what says that the others are whole
        (out / name).unlink(missing_ok=True)
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                out.rmdir()  # only where nothing was written
        raise


def _lines(values: Mapping[str, object], indent: str = "") -> Iterator[str]:
    """Values for people, those of a table below its name."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:{'' if value else ' none'}"
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{key}: {'none' if value is None else value}"


def _write_parts(made: "Split", out: Path) -> None:
    from recae.data.histories import Histories
    from recae.storage import write_parquet

    def write(name: str, histories: Histories, users: "IdMap") -> None:
        write_parquet(out / f"{name}.parquet", _pairs(histories, users, made))
        if histories.seen is not None and histories.seen.nnz:
            seen = f"{name.removesuffix('_fold_in')}_seen.parquet"
            write_parquet(out / seen, _pairs(Histories(histories.seen), users, made))

    write("train", made.train.histories(), made.train.users)
    for name in _HELD_OUT:
        part: HeldOut | None = getattr(made, name)
        if part is not None:
            write(f"{name}_fold_in", part.fold_in, part.users)
            write(f"{name}_target", Histories(part.target), part.users)


@command.command("fetch")
@click.argument("name", type=click.Choice(list(MOVIELENS)))
@click.option(
    "-o",
    "--out",
    type=NewDirectory(),
    default=Path(),
    help="Make the directory NAME in here; in the current directory when not given.",
)
@click.option("--base-url", default=GROUPLENS, show_default=True, help="Where NAME.zip is.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fetch_command(name: str, out: Path, base_url: str, as_json: bool) -> None:
    """Download a MovieLens data set from GroupLens, verify and unpack it.

    A data set that is there is only verified.
    """
    from tqdm import tqdm

    with tqdm(desc=name, unit="B", unit_scale=True, disable=None, leave=False) as bar:

        def progress(done: int, size: int | None) -> None:
            bar.total = size
            bar.update(done - bar.n)

        found = fetch(name, out, base_url=base_url, progress=progress)
    published = found.published
    click.echo(f"note: {published.terms}", err=True)
    files = {
        "ratings": str(found.directory / published.ratings),
        "items": str(found.directory / published.items),
    }
    train = ["recae", "train", files["ratings"], "-o", f"models/{name}"]
    train += ["--items", files["items"], *published.options]
    value = {
        "name": name,
        "directory": str(found.directory),
        "url": found.url,
        "md5": found.md5,
        "already_there": found.already_there,
        **files,
        "terms": published.terms,
        "train": train,
    }
    said = "is there already, every file verified" if found.already_there else "fetched, verified"
    show(value, f"{found.directory}: {said}. Next:\n  {shlex.join(train)}", as_json=as_json)


def _pairs(histories: "Histories", users: "IdMap", made: "Split") -> "pa.Table":
    """Table of ``user_id, item_id``, a row per stored entry."""
    import pyarrow as pa

    matrix = histories.matrix
    rows = matrix.tocoo().coords[0]
    return pa.table(
        {
            "user_id": users.to_arrow().take(pa.array(rows)),
            "item_id": made.train.items.to_arrow().take(pa.array(matrix.indices)),
        }
    )
