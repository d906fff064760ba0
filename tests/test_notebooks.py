"""The notebooks are stored without what running them leaves; `pytest --nbmake` runs them."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

pytestmark = pytest.mark.checkout


def notebooks():
    found = {path.name: json.loads(path.read_text()) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    assert found
    return found


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_outputs_are_stripped():
    for name, notebook in notebooks().items():
        for cell in code_cells(notebook):
            assert cell["outputs"] == [], name
            assert cell["execution_count"] is None, name
            assert cell["metadata"] == {}, name
        assert notebook["metadata"]["kernelspec"]["name"] == "python3", name


def test_every_cell_is_python_that_compiles():
    for name, notebook in notebooks().items():
        assert len(code_cells(notebook)) >= 10
        for cell in code_cells(notebook):
            compile("".join(cell["source"]), name, "exec")
