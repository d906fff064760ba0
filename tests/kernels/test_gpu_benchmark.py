"""`benchmarks/gpu.py` on the CPU, with the few packages it may need."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
pytestmark = pytest.mark.checkout
NOT_THERE = (
    "beartype", "click", "flask", "implicit", "pandas", "pyarrow", "pydantic", "safetensors",
    "threadpoolctl", "tqdm",
)  # fmt: skip


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script, in a Python that has none of the packages above."""
    code = (
        f"import runpy, sys; sys.modules |= dict.fromkeys({NOT_THERE}); sys.argv = sys.argv[1:];"
        f"sys.path.insert(0, {str(SCRIPT.parent)!r});"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    # The interpreter would take an hour for what the kernels in torch show as well.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(SCRIPT), *arguments],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip


def times(found: Any) -> list[str]:
    """Names under which a number was reported as measured."""
    if not isinstance(found, dict):
        return []
    ends = ("ms", "_s", "_us", "_gb", "floor", "mfu")
    own = [n for n, value in found.items() if n.endswith(ends) and isinstance(value, int | float)]
    return own + [name for value in found.values() for name in times(value)]


@pytest.mark.slow
def test_a_dry_run_does_every_part_and_reports_no_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for name, users in (("train", 60), ("fold_in", 20), ("targets", 20)):
        dense = rng.random((users, 50)) < 0.1
        dense[np.arange(users), rng.integers(0, 50, users)] = True
        arrays[f"{name}_indices"] = np.concatenate([np.flatnonzero(row) for row in dense])
        arrays[f"{name}_indptr"] = np.cumsum([0, *dense.sum(axis=1)])
        arrays[f"{name}_shape"] = np.array(dense.shape)
    np.savez(tmp_path / "data.npz", **arrays)
    out = tmp_path / "out.json"
    done = run("--dry-run", "--out", str(out), "--data", str(tmp_path / "data.npz"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    parts = {
        "ceilings", "correct", "epochs", "kernels", "large", "recommending", "to_target", "tiles",
    }  # fmt: skip
    assert parts <= set(found)
    assert all("error" not in found[part] for part in parts)
    assert not times(found)
    assert found["to_target"]["ndcg_100"] > 0
    errors = [value["relative_error"] for value in found["correct"].values()]
    assert len(errors) > 20
    assert max(errors) > 0
    moments = [
        (name.split()[0], v["bound"]) for name, v in found["correct"].items() if "moments" in name
    ]
    assert set(moments) == {("float32", 1e-4), ("bfloat16", 1e-2)}  # as gradients in test_kernels


@pytest.mark.skipif("__import__('torch').cuda.is_available()")
def test_without_a_gpu_it_measures_nothing() -> None:
    done = run()
    assert done.returncode == 2
    assert "nothing was measured" in done.stdout
