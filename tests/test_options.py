"""Options: types, bounds and names, in one line; what is said of them is said once."""

import datetime as dt
import inspect
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from recae.data.protocols import PROTOCOLS
from recae.data.protocols.temporal import Temporal
from recae.data.readers import ReadOptions
from recae.errors import ConfigError
from recae.experiment.config import load_config
from recae.experiment.config_file import config_text
from recae.models.registry import MODELS, config_class, model_class
from recae.options import Choice, Options, Range, details, listed, option
from recae.training.config import TrainingConfig

CLASSES = [
    ReadOptions,
    TrainingConfig,
    *PROTOCOLS.values(),
    *(config_class(name) for name in MODELS),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooking(Options):
    """How to cook."""

    minutes: int | Literal["auto"] = option("auto", low=1, high=60, help="How long.")
    heat: float = option(0.5, above=0, below=1, help="How hot.")
    rests: tuple[int, ...] = option((), low=1, help="Pauses, in minutes.")
    salt: float | None = option(None, help="How much salt.")

    def check(self) -> None:
        if self.rests and self.minutes == "auto":
            raise ConfigError("rests need minutes")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"minutes": "64"}, "option minutes is '64'; it is of type int | 'auto'"),
        ({"minutes": True}, "option minutes is True; it is of type int | 'auto'"),
        ({"minutes": 3.0}, "option minutes is 3.0; it is of type int | 'auto'"),
        ({"minutes": 0}, "option minutes is 0; 1 to 60 is accepted"),
        ({"minutes": 61}, "option minutes is 61; 1 to 60 is accepted"),
        ({"heat": 0}, "option heat is 0; above 0 and below 1 is accepted"),
        ({"heat": 1.0}, "option heat is 1.0; above 0 and below 1 is accepted"),
        ({"heat": float("nan")}, "option heat is nan; above 0 and below 1 is accepted"),
        ({"salt": float("inf")}, "option salt is inf; a finite number is accepted"),
        ({"salt": 10**400}, f"option salt is {10**400}; it is of type float | None"),
        ({"salt": None, "heat": None}, "option heat is None; it is of type float"),
        ({"rests": [1, "2"]}, "option rests is [1, '2']; it is of type list of int"),
        ({"rests": [1, 0]}, "option rests is [1, 0]; at least 1 is accepted"),
        ({"rests": 3}, "option rests is 3; it is of type list of int"),
        ({"rests": [1]}, "rests need minutes"),
    ],
)
def test_what_is_not_accepted_is_refused_in_one_line(given: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Cooking(**given)
    assert str(caught.value) == said
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    with pytest.raises(ConfigError) as caught:
        Cooking.of(given, where="soup")
    assert str(caught.value) == f"soup: {said}"


def test_numbers_of_numpy_and_lists_are_taken() -> None:
    given = Cooking(minutes=np.int64(3), heat=np.float32(0.25), rests=[np.int32(1), 2], salt=1)
    assert given == Cooking(minutes=3, heat=0.25, rests=(1, 2), salt=1.0)
    assert [type(v) for v in (given.minutes, given.heat, *given.rests, given.salt)] == [
        int, float, int, int, float,
    ]  # fmt: skip
    assert given.to_json() == asdict(given) | {"rests": [1, 2]}


DAY = "2024-03-20"


@pytest.mark.parametrize(
    ("day", "text"),
    [
        (dt.date(2024, 3, 20), DAY),
        (dt.datetime(2024, 3, 20, 12, tzinfo=dt.UTC), f"{DAY}T12:00:00+00:00"),
        (pd.Timestamp(DAY), f"{DAY}T00:00:00"),
        (np.datetime64(DAY), f"{DAY}T00:00:00"),
        (np.datetime64(DAY, "ns"), f"{DAY}T00:00:00"),
    ],
)
def test_a_date_is_taken_where_a_date_is_meant(day: object, text: str) -> None:
    assert Temporal(at=day).to_json()["at"] == text
    with pytest.raises(ConfigError, match="salt is .*; it is of type float | None"):
        Cooking(salt=day)


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        (f"split.at={DAY}", "at", DAY),
        (f"split.at={DAY} 12:00:00", "at", f"{DAY} 12:00:00"),
        ("read.user_col=1", "user_col", "1"),
        ("read.user_col=1_0.50", "user_col", "1_0.50"),
        ("read.user_col=true", "user_col", "true"),
        ('read.user_col="1"', "user_col", "1"),
    ],
)
def test_a_text_option_takes_what_is_written(setting: str, name: str, value: str) -> None:
    config = load_config(settings=["protocol=temporal", setting])
    assert {**config.read, **config.split} == {name: value}
    assert json.loads(json.dumps(config.to_json()))[setting.partition(".")[0]] == {name: value}


def test_a_text_option_of_a_file_takes_a_date_and_a_whole_number(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(f'protocol = "temporal"\n[split]\nat = {DAY}\n[read]\nitem_col = 2\n')
    config = load_config(path)
    assert (config.split, config.read) == ({"at": DAY}, {"item_col": "2"})
    path.write_text(config_text(config))
    assert load_config(path) == config
    assert load_config(path, flags={"split.at": "2024-04-01"}).split == {"at": "2024-04-01"}
    for wrong in ("true", "1.5", "[1]"):
        path.write_text(f"[read]\nitem_col = {wrong}\n")
        with pytest.raises(ConfigError, match="read: option item_col is .* it is of type str"):
            load_config(path)


def test_an_unknown_option_is_told_those_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        Cooking.of({"time": 3}, where="soup")
    assert str(caught.value) == "soup has no option 'time'; it accepts minutes, heat, rests, salt"


def test_a_copy_with_a_change_is_checked() -> None:
    cooking = Cooking(minutes=3)
    assert replace(cooking, heat=0.75) == Cooking(minutes=3, heat=0.75)
    with pytest.raises(ConfigError, match="option heat is 2.0"):
        replace(cooking, heat=2.0)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_what_options_say_of_themselves_holds(kind: type[Options]) -> None:
    """Defaults, and what `tune` tries, are accepted; every option has a help, in the docstring."""
    fresh = kind(**{one.name: _again(one.default) for one in fields(kind)})
    assert fresh == kind()
    assert kind.__doc__
    for one, row in zip(fields(kind), listed(kind), strict=True):
        about = details(one)
        assert about.help.endswith("."), one.name
        assert f"{one.name} : {row['type']}, default " in kind.__doc__
        tried = list(about.search.values) if isinstance(about.search, Choice) else []
        if isinstance(about.search, Range):
            tried = [about.search.low, about.search.high]
            assert about.search.whole == (row["type"] in {"int", "int | 'auto'"}), one.name
        for value in tried:
            assert value in about.search
            replace(fresh, **{one.name: value})
        if about.only_with is not None:
            other, value = about.only_with
            assert value in details(kind.__dataclass_fields__[other]).search.values


def _again(value: object) -> object:
    """An equal value that is another object, so that it is checked."""
    return float(repr(value)) if isinstance(value, float) else value


@pytest.mark.parametrize("name", MODELS)
def test_a_constructor_shows_its_options(name: str) -> None:
    kind = config_class(name)
    shown = inspect.signature(model_class(name)).parameters
    assert list(shown) == ["config", *(one.name for one in fields(kind))]
    for one in fields(kind):
        parameter = shown[one.name]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == one.default
    assert model_class(name).__init__.__doc__ == kind.__doc__
    config = kind()
    assert model_class(name)(config=config).config is config
    assert model_class(name).configured(config).config == config


def test_pydantic_is_imported_when_a_value_is_given_and_its_words_are_not_shown() -> None:
    code = """
import sys
import recae
from recae.data.protocols import PROTOCOLS
recae.EASE(), recae.MultVAE(), [kind() for kind in PROTOCOLS.values()]
assert "pydantic" not in sys.modules
recae.EASE(l2="x")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == ("recae.errors.ConfigError: EASE: option l2 is 'x'; it is of type float")
    assert "validation error" not in done.stderr
    assert "pydantic.dev" not in done.stderr


@pytest.mark.slow
def test_a_type_checker_sees_the_options(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    script = tmp_path / "script.py"
    script.write_text("""
from dataclasses import dataclass
from recae.options import Options, configured_by, option
@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Options):
    l2: float = option(500.0, above=0, help="Weight.")
class Model:
    @configured_by(Config)
    def __init__(self) -> None: ...
Model()
Model(l2=3.0)
Model(l2="x")
Model(l3=1)
""")
    out, _, code = api.run(["--config-file=", f"--cache-dir={tmp_path}", str(script)])
    lines = out.splitlines()
    assert code == 1
    assert 'script.py:12: error: Argument "l2" to "Model" has incompatible type "str"' in lines[0]
    assert 'script.py:13: error: Unexpected keyword argument "l3" for "Model"' in lines[1]
    assert "Found 2 errors in 1 file" in lines[-1]
