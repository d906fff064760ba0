"""`recae models`, `protocols` and `metrics`: what there is, and what its options mean."""

import json
import re
from collections.abc import Callable
from dataclasses import fields

import click
import pytest

from recae.cli.main import cli
from recae.cli.main import run as run_command
from recae.data.protocols import PROTOCOLS
from recae.evaluation.names import ACCEPTED, parse_metric
from recae.models.registry import MODELS, config_class
from recae.options import details


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def _call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run_command(list(arguments), debug=False)
        return code, *capfd.readouterr()

    return _call


KINDS = {
    "models": {name: config_class(name) for name in MODELS},
    "protocols": dict(PROTOCOLS),
}


@pytest.mark.parametrize("command", KINDS)
def test_all_are_listed_with_options_defaults_and_bounds(run, command: str) -> None:
    code, text, err = run(command, "--json")
    assert (code, err) == (0, "")
    found = json.loads(text)
    assert list(found) == list(KINDS[command])
    code, text, err = run(command)
    blocks = dict(block.split(": ", 1) for block in text.split("\n\n"))
    assert list(blocks) == list(found)
    for name, kind in KINDS[command].items():
        assert found[name]["about"].endswith(".")
        assert "`" not in blocks[name]
        rows = [line.split() for line in blocks[name].splitlines()[2:]]
        for one, told, row in zip(fields(kind), found[name]["options"], rows, strict=True):
            default = list(one.default) if isinstance(one.default, tuple) else one.default
            assert (told["name"], told["default"]) == (one.name, default)
            assert told["accepted"] == details(one).accepted
            assert row[:2] == [one.name, "none" if default is None else str(default)]


def test_one_model_is_shown_with_what_its_options_mean(run) -> None:
    code, text, err = run("models", "ease")
    assert (code, err) == (0, "")
    assert text.splitlines()[1:] == [
        "  option  default  accepted",
        "  l2      500.0    float, above 0",
        "      Weight of the squared entries of the item-item table; grows with the number of"
        " users.",
        "      recae tune tries 1 to 20000 (real, log).",
    ]
    assert run("models", "popular")[1].splitlines()[1:] == ["  it has no options"]
    assert list(json.loads(run("protocols", "temporal", "--json")[1])) == ["temporal"]


def test_metrics_are_listed_with_their_definitions(run) -> None:
    code, text, err = run("metrics", "--json")
    assert (code, err) == (0, "")
    found = json.loads(text)
    assert tuple(found) == ACCEPTED
    for name, definition in found.items():
        seventh = parse_metric(name.replace("@K", "@7"))
        assert definition.replace("K", "7") == seventh.definition.replace("K", "7")
    assert run("metrics", "hit@7")[1] == "hit@7  1 with a hit in the first 7, else 0\n"
    assert run("metrics", "hit@K")[1] == "hit@K  1 with a hit in the first K, else 0\n"
    assert len(run("metrics")[1].splitlines()) == len(ACCEPTED)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("models", "there is no model 'nope'; there are popular, random, "),
        ("protocols", "unknown protocol 'nope'; known are strong, mult-vae, "),
        ("metrics", "metric 'nope' is unknown; accepted are recall@K, "),
    ],
)
def test_a_wrong_name_is_told_those_there_are(run, command: str, said: str) -> None:
    code, out, err = run(command, "nope")
    assert (code, out) == (2, "")
    assert err.startswith(f"recae: error: {said}")


@pytest.mark.parametrize(
    ("command", "option", "names"),
    [
        ("train", "--model", list(MODELS)),
        ("compare", "--models", list(MODELS)),
        ("tune", "--models", list(MODELS)),
        ("train", "--protocol", list(PROTOCOLS)),
        ("data split", "--protocol", list(PROTOCOLS)),
        ("compare", "--metrics", list(ACCEPTED)),
        ("evaluate", "--metrics", list(ACCEPTED)),
    ],
)
def test_help_names_what_can_be_chosen(command: str, option: str, names: list[str]) -> None:
    found: click.Command = cli
    for word in command.split():
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None
        found = inner
    (text,) = [one.help for one in found.params if option in one.opts]
    words = re.findall(r"[a-z][a-z-]*(?:@K)?", text)
    assert list(dict.fromkeys(word for word in words if word in names)) == names


@pytest.mark.parametrize("words", [(), ("data",), ("keys",)])
def test_a_group_without_a_command_shows_its_help(run, words: tuple[str, ...]) -> None:
    code, text, err = run(*words)
    assert (code, err) == (0, "")
    assert text.startswith(" ".join(("Usage: recae", *words)))
    assert "Commands:" in text
