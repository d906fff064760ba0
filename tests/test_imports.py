"""What a command loads: libraries that take seconds are imported where they are used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recae_api import create_key

SLOW = {"torch", "pandas", "pyarrow", "implicit", "flask", "scipy.stats"}
ROWS = "user,item,rating,timestamp\n1,a,5,1\n1,b,4,2\n2,a,3,3\n2,c,5,4\n"


def stderr_of(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr


def loaded_by(*arguments: object, says: str = "") -> set[str]:
    """The slow libraries that a command loads, which writes `says` to stderr."""
    code = f"""
import sys
sys.argv[1:] = {[str(argument) for argument in arguments]!r}
from recae.__main__ import main
try:
    main()
except SystemExit as end:
    assert end.code == {2 if says else 0}, end.code
print(*sys.modules, file=sys.stderr)
"""
    *said, modules = stderr_of(code).splitlines()
    assert says in "\n".join(said)
    return SLOW & set(modules.split())


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(ROWS)
    return path


def test_importing_recae_loads_nothing_slow() -> None:
    code = "import sys, recae; print(*sys.modules, file=sys.stderr)"
    assert not SLOW & set(stderr_of(code).split())


def test_help_loads_nothing_slow() -> None:
    code = f"""
import json, sys
from recae.cli.main import cli
names = cli.list_commands(None)
inner = [(name, sub) for name in names
         for sub in getattr(cli.get_command(None, name), "commands", ())]
loaded = {{}}
for words in [(), *((name,) for name in names), *inner]:
    cli.main([*words, "--help"], prog_name="recae", standalone_mode=False)
    loaded[" ".join(words)] = sorted({SLOW!r} & set(sys.modules))
print(json.dumps(loaded), file=sys.stderr)
"""
    loaded = json.loads(stderr_of(code))
    assert {"", "train", "data check", "keys list"} <= set(loaded)
    assert {words: names for words, names in loaded.items() if names} == {}


def test_listing_keys_loads_nothing_slow(tmp_path: Path) -> None:
    create_key(tmp_path / "keys.json", name="shop")
    assert not loaded_by("keys", "list", tmp_path / "keys.json")


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--model", "nope"],
        ["compare", "--models", "ease,nope"],
        ["tune", "--models", "nope"],
    ],
)
def test_a_wrong_name_of_a_model_is_refused_before_anything_slow(
    arguments: list[str], rows: Path
) -> None:
    name, *options = arguments
    assert not loaded_by(name, rows, *options, says="there is no model 'nope'")


def test_data_is_checked_and_split_without_torch(rows: Path, tmp_path: Path) -> None:
    expected = {"pandas", "pyarrow"}
    assert loaded_by("data", "check", rows) <= expected
    assert loaded_by("data", "split", rows, tmp_path / "out", "--protocol", "all") <= expected


def test_protocols_and_metrics_are_listed_without_torch() -> None:
    assert "torch" not in loaded_by("protocols") | loaded_by("metrics")
    assert not loaded_by("models", "nope", says="there is no model 'nope'")


def test_the_formats_that_commands_offer_are_those_of_lists() -> None:
    from recae.cli.output import LISTS
    from recae.serving.lists import FORMATS

    assert tuple(LISTS.choices) == FORMATS
