"""`recae recommend`."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recae.cli.output import LISTS, NewDirectory, NewFile, refuse_overwriting, show
from recae.cli.reading import reading_options, refuse_unread
from recae.errors import ConfigError

if TYPE_CHECKING:
    from recae.serving import Bundle
    from recae.serving.batch import Asked, Done
    from recae.serving.lists import Format


@click.command("recommend")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--users", metavar="FILE|all", help="File with an id a line, or all stored users.")
@click.option("--user", "one", multiple=True, help="A stored user; repeatable.")
@click.option("--interactions", metavar="FILE", help="People, with their histories, from a file.")
@click.option(
    "--grouped", is_flag=True, help="The rows of each person stand together in that file."
)
@click.option("--history", multiple=True, help="An item of a history given here; repeatable.")
@click.option("-k", "k", type=click.IntRange(1), default=10, show_default=True)
@click.option("--candidates", type=click.Path(path_type=Path), help="List only items of this file.")
@click.option("--exclude", type=click.Path(path_type=Path), help="List no items of this file.")
@click.option("--exclude-seen/--include-seen", default=True, show_default=True)
@click.option("--format", "file_format", type=LISTS, help="csv when not told by -o.")
@click.option("-o", "--out", help="The file, with --shard the directory; - is stdout.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N parts of the people, from 1.")
@click.option("--resume", is_flag=True, help="Keep finished parts, and go on after them.")
@reading_options
@click.option(
    "--json", "as_json", is_flag=True, help="Print the counts, or without -o the lists, as JSON."
)
def command(
    directory: Path,
    users: str | None,
    one: tuple[str, ...],
    interactions: str | None,
    grouped: bool,
    history: tuple[str, ...],
    k: int,
    candidates: Path | None,
    exclude: Path | None,
    exclude_seen: bool,
    file_format: "Format | None",
    out: str | None,
    shard: str | None,
    resume: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Recommend items to stored users, to the people of a file, or for a history given here.

    Lists go to a file (-o), a row an item: user_id, item_id, score, rank and, where the model has
    titles, title. A list is shorter than k
    where fewer items are left, and never holds an item of the history unless --include-seen. With
    --json and no -o, the list of one --user or --history is printed as JSON, those of more people
    as JSON lines.
    --interactions reads FILE as the training data was read, where options do not say otherwise;
    people of whom the model knows no item, or no row counts, get no list and are named on stderr.
    With --grouped people are ranked while FILE is read, in memory that does not grow with its rows
    (but for some 8 bytes a person), and a person whose rows do not stand together is refused.
    """
    ways = {
        "--users": users, "--user": one, "--interactions": interactions, "--history": history,
    }  # fmt: skip
    _refuse_other_than_one([way for way, given in ways.items() if given])
    if interactions is None:
        refuse_unread({"grouped": grouped or None, **options})
    if grouped and (shard is not None or options["items"] is not None):
        raise click.UsageError(
            "--grouped goes with neither --shard, which counts the people first (cut the file"
            " instead), nor --items"
        )
    if history and (out is not None or file_format or shard or resume):
        raise click.UsageError(
            "--history prints one list; -o, --format, --shard and --resume do not go with it"
        )
    target = None if out is None or out == "-" else _place(out, shard)
    if target is None and resume:
        raise click.UsageError("--resume keeps its parts beside a file; name one with -o")
    from recae.cli.grouped_people import GroupedPeople
    from recae.cli.people import (
        People,
        ids_of,
        list_format,
        people_of,
        show_list,
        stored_people,
        wanted_users,
    )
    from recae.serving import RecommendationService, load_bundle
    from recae.serving.batch import (
        people_sha256,
        question,
        stream_recommendations,
        write_recommendations,
    )

    chosen = list_format(target, file_format, as_json=as_json)
    if target is not None and shard is not None:
        target = _part_path(target, shard, chosen)
    read = {
        "--users": None if users == "all" else users, "--interactions": interactions,
        "--candidates": candidates, "--exclude": exclude, "--items": options["items"],
    }  # fmt: skip
    refuse_overwriting(
        [*_written(target, shard), ("--rejects", options["rejects"])],
        read.items(),
        directory,
    )
    bundle = load_bundle(directory)
    if history or (as_json and len(one) == 1 and not (target or file_format or shard)):
        asked_for: dict[str, Any] = {"history": history} if history else {"user": one[0]}
        answer = RecommendationService(bundle).recommend(
            **asked_for,
            k=k,
            exclude_seen=exclude_seen,
            candidates=None if candidates is None else ids_of(bundle, candidates, "item"),
            exclude=[] if exclude is None else ids_of(bundle, exclude, "item"),
        )
        show_list(answer, as_json=as_json)
        return
    asked = _asked(bundle, k, candidates, exclude, exclude_seen=exclude_seen)
    asking = (
        stored_people(bundle, wanted_users(bundle, users, one), source=users)
        if interactions is None
        else (GroupedPeople if grouped else people_of)(bundle, interactions, options)
    )
    of_all: dict[str, object] = {}
    if shard is not None:
        assert isinstance(asking, People)
        everybody = (asking.histories, asking.ids)
        of_all = question(asked, chosen) | {
            "people_sha256": people_sha256(everybody, ordered=asked.model.ordered)
        }
        asking = asking.part(_shard(shard, len(asking.ids)))
    if target is None:
        stream_recommendations(asked, asking, sys.stdout.buffer, file_format=chosen)
        return
    if shard is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        for stale in _about_parts(target):  # first what says that the others are whole
            stale.unlink(missing_ok=True)
    done = write_recommendations(asked, asking, target, file_format=chosen, resume=resume)
    if shard is not None:
        _finish_shard(target, shard, done, of_all)
    result = {
        "file": str(target),
        "users": done.users,
        "rows": done.rows,
        "short_lists": done.short,
        **asking.left_out.to_json(),
    }
    text = (
        f"wrote {target}: {done.users} people, {done.rows} rows,"
        f" {done.short} lists shorter than {k}{asking.left_out}"
    )
    show(result, text, as_json=as_json)


def _refuse_other_than_one(given: Sequence[str]) -> None:
    if len(given) != 1:
        raise click.UsageError(
            "give one of --users, --user, --interactions and --history;"
            f" got {', '.join(given) or 'none'}"
        )


def _asked(
    bundle: "Bundle", k: int, candidates: Path | None, exclude: Path | None, *, exclude_seen: bool
) -> "Asked":
    from recae.cli.people import items_of
    from recae.serving.batch import Asked
    from recae.serving.snapshot import NO_CANDIDATE

    only = items_of(bundle, candidates)
    if only is not None and not len(only):
        click.echo(f"warning: {candidates}: {NO_CANDIDATE}, for everybody", err=True)
    refused = items_of(bundle, exclude)
    return Asked(
        bundle.model, bundle.items, k, exclude_seen, only, refused, bundle.version,
        titles=bundle.arrow_titles,
    )  # fmt: skip


def _place(out: str, shard: str | None) -> Path:
    """Where -o says: a file, or a directory of parts."""
    kind = NewFile(stdout=True) if shard is None else NewDirectory()
    place: Path = kind.convert(out, click.Option(["-o", "--out"]), click.get_current_context())
    return place


def _shard(shard: str, n: int) -> slice:
    number, parts = _shard_numbers(shard)
    return slice(n * (number - 1) // parts, n * number // parts)


def _shard_numbers(shard: str) -> tuple[int, int]:
    number, _, parts = shard.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise click.UsageError(f"--shard is {shard!r}; I/N with 1 <= I <= N is accepted")
    return int(number), int(parts)


def _part_path(directory: Path, shard: str, file_format: str) -> Path:
    number, parts = _shard_numbers(shard)
    ending = f"-of-{parts:05d}.{file_format}"
    for other in sorted(directory.glob("part-*-of-*")):
        if not other.name.removesuffix(".parts").endswith(ending):
            raise ConfigError(
                f"{other} is of another cut than {shard} in {file_format}, and who reads all parts"
                " would read both: remove those, or name another directory"
            )
    return directory / f"part-{number:05d}{ending}"


def _counts_path(part: Path) -> Path:
    return part.with_name(f".{part.name}.json")


def _written(target: Path | None, shard: str | None) -> "list[tuple[str, Path | None]]":
    beside = () if target is None or shard is None else _about_parts(target)
    return [("-o", path) for path in (target, *beside)]


def _about_parts(part: Path) -> tuple[Path, ...]:
    """What is written beside a part."""
    return part.with_name("_SUCCESS"), part.with_name("manifest.json"), _counts_path(part)


def _finish_shard(path: Path, shard: str, done: "Done", of_all: dict[str, object]) -> None:
    """Count the part; the last of all parts to end adds ``manifest.json`` and ``_SUCCESS``.

    Parts of another question than `of_all` beside this one end in no ``_SUCCESS`` but in an error.
    """
    from recae.storage import write_json

    _, parts = _shard_numbers(shard)
    write_json(_counts_path(path), {"users": done.users, "rows": done.rows, **of_all})
    counts = {}
    for i in range(1, parts + 1):
        name = f"part-{i:05d}{path.name[len('part-00000') :]}"
        about = _counts_path(path.with_name(name))
        if not (about.exists() and path.with_name(name).exists()):
            return
        counts[name] = json.loads(about.read_bytes())
        if any(counts[name].get(key) != value for key, value in of_all.items()):
            raise ConfigError(
                f"{path.with_name(name)} is of another model or question than {path.name}:"
                " write all parts again"
            )
    write_json(path.with_name("manifest.json"), {"parts": counts})
    path.with_name("_SUCCESS").touch()
