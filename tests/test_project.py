"""Promises of the project about itself."""

import ast
import importlib
import inspect
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import recae
from recae import errors
from recae.models.registry import MODELS, unregister

ROOT = Path(__file__).parents[1]


def test_type_checkers_are_told_the_public_names_and_all_are_there() -> None:
    tree = ast.parse(Path(recae.__file__).read_text("utf-8"))
    (block,) = [
        node.body for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]  # fmt: skip
    told = [(one.module, alias.name, alias.asname) for one in block for alias in one.names]
    assert sorted(told) == sorted((module, n, n) for n, module in recae._PUBLIC.items())
    assert recae.__all__ == sorted(recae._PUBLIC)
    assert {path.partition(":")[2] for path in MODELS.values()} < set(recae.__all__)
    for name in recae.__all__:
        assert getattr(recae, name).__doc__, name


def test_every_module_imports_and_every_all_is_sorted_and_true() -> None:
    for found in pkgutil.walk_packages(recae.__path__, "recae."):
        if found.name == "recae.__main__":
            continue
        module = importlib.import_module(found.name)
        assert module.__doc__, found.name
        names = getattr(module, "__all__", [])
        assert list(names) == sorted(names), found.name
        for name in names:
            assert hasattr(module, name), f"{found.name}.{name}"


def test_no_model_imports_the_file_of_another() -> None:
    names = {path.partition(":")[0].rpartition(".")[2] for path in MODELS.values()}
    for name in names:
        source = (Path(recae.__file__).parent / "models" / f"{name}.py").read_text("utf-8")
        imported = set(re.findall(r"from recae\.models(?:\.| import )(\w+)", source))
        assert not imported & (names - {name}), name


def test_every_error_is_in_the_drawn_tree_with_its_exit_code() -> None:
    assert errors.__doc__ is not None
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if not issubclass(kind, errors.RecaeError):
            continue
        assert kind.__doc__, name
        assert re.search(rf"\b{name}\b", errors.__doc__), name
        drawn = re.search(rf"\b{name}\b[^\n]*?\s(\d)\s", errors.__doc__)
        if drawn:
            assert kind.exit_code == int(drawn.group(1)), name
        builtin = {b.__name__ for b in kind.__mro__} & {
            "ValueError",
            "RuntimeError",
            "LookupError",
            "ArithmeticError",
        }
        assert builtin or kind is errors.RecaeError, name


@pytest.mark.checkout
def test_the_readme_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's Python, on a small file under the name it uses, with fewer epochs."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    code = block.group(1).replace("latent_dim=200", "latent_dim=8, hidden=(16,), epochs=2")
    code = code.replace("42,", "7,").replace("[260, 1196]", "[3, 5]")
    lines = ["userId,movieId,rating"]
    lines += [f"{u},{(u * 7 + i * i) % 23},{4 + i % 2}" for u in range(80) for i in range(8)]
    (tmp_path / "ratings.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "models" / "films" / "CURRENT").exists()


@pytest.mark.checkout
def test_the_first_hour_runs(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        runpy.run_path(str(ROOT / "docs" / "examples" / "first_hour.py"))["main"]()
    finally:
        unregister("neighbours")
    out = capfd.readouterr().out
    assert re.search(r"^model +ndcg@10 +first_is_hit +novelty@10", out, re.MULTILINE)
    assert re.search(r"^neighbours +0\.\d{4} ± ", out, re.MULTILINE)
    assert re.search(r"^0 +1 +\d+ .* 1 +Western \d+$", out, re.MULTILINE)
    assert "Recommendations(of a history, 3 items: '1" in out
    assert re.search(r"^over HTTP, for 7: Western \d+, Western \d+, Western", out, re.MULTILINE)


@pytest.mark.checkout
def test_the_readme_names_commands_that_exist() -> None:
    from recae.cli.main import cli

    named = set(re.findall(r"^recae (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    context = cli.make_context("recae", ["--debug"], resilient_parsing=True)
    assert named
    assert named <= set(cli.list_commands(context))


@pytest.mark.checkout
def test_nothing_loads_code_from_files() -> None:
    banned = re.compile(
        r"^\s*(import|from) (pickle|shelve|marshal|joblib|dill)\b|torch\.load\(|allow_pickle=True"
        r"|yaml\.load\(|(?<![.\w])(eval|exec)\(",
        re.MULTILINE,
    )
    for file in [*ROOT.glob("recae/**/*.py"), *ROOT.glob("api/**/*.py")]:
        assert not banned.search(file.read_text()), file
