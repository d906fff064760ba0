"""`benchmarks/read.py`: figures of readers that do the same work, or none."""

# ruff: noqa: E402 - without the repository there is nothing to import

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("the benchmarks are not part of the package", allow_module_level=True)

from benchmarks.performance_page import _reading

pytestmark = pytest.mark.checkout


def test_readers_are_measured_on_the_same_file_and_one_that_is_missing_is_named(
    tmp_path: Path,
) -> None:
    out = tmp_path / "read.json"
    script = BENCHMARKS / "read.py"
    options = ["--rows", "3000", "--rounds", "1", "--peers", tmp_path, "--out", out]
    done = subprocess.run(
        [sys.executable, script, *options], capture_output=True, text=True, check=True
    )
    found = json.loads(out.read_text())
    assert list(found["readers"]) == ["recae", "pandas", "pyarrow"]
    assert found["cpu_ratios"]["recae"] == {"ratio": 1, "low": 1, "high": 1}
    assert 0 < found["counts"]["pairs"] < 3000 * 0.35  # three of ten ratings are at least 4
    assert "polars is skipped, its environment is missing" in done.stderr
    assert "polars was skipped: its environment is missing" in "\n".join(_reading(found))


def test_no_figure_is_told_of_readers_that_find_different_things() -> None:
    script = (
        "import read\n"
        "same, other = {'counts': {'pairs': 3}}, {'counts': {'pairs': 2}}\n"
        "print(read.agreed({'recae': [same], 'polars': [same, same]}))\n"
        "read.agreed({'recae': [same], 'polars': [same, other]})"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "{'pairs': 3}\n"
    assert done.stderr.startswith("the readers do not find the same; no figures:")
    assert "polars: [{'pairs': 3}, {'pairs': 2}]" in done.stderr
