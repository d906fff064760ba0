"""The tables of docs/results.md: their configs, how a row is made, and how it is told."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from recae.data.synthetic import Synthetic

ROOT = Path(__file__).parents[1]
NAMES = ("gowalla", "infinite_ae", "ml1m")

pytestmark = pytest.mark.checkout


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The scripts of benchmarks/tables, which are no package."""
    names = ("table", "page", "run")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "tables"))
    loaded: dict[str, ModuleType] = {name: __import__(name) for name in names}
    yield SimpleNamespace(**loaded)
    for name in names:
        del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_has_a_config_that_names_its_model(name: str, modules: SimpleNamespace) -> None:
    table = modules.table.load_table(name)
    configs = {file.stem for file in table.folder.glob("*.toml")} - {"table"}
    assert configs == set(table.rows)
    assert set(table.fixed) <= set(table.rows)
    for row in table.rows:
        asked = table.asked(row)
        assert asked["config"]["model"] == row
        budget = None if row in table.fixed else dict(table.search)
        assert asked["search"] == budget, "equal budgets"
        assert asked["config"] | {"models": {}, "model": ""} == table.asked(table.rows[0])[
            "config"
        ] | {"models": {}, "model": ""}, "the same run but for the model"


def test_the_page_is_made_of_the_rows_that_are_there(modules: SimpleNamespace) -> None:
    """Fails where a row or the code of the page changed and docs/results.md did not."""
    before = modules.page.PAGE.read_text()
    assert modules.page.text() == before


@pytest.mark.parametrize(
    ("mean", "published", "verdict"),
    [
        (0.17649, ".1765", "equal"),
        (0.17644, ".1765", "within"),
        (0.17900, ".1741", "within"),  # half of its last digit: 0.17415 is in the interval
        (0.17900, ".1740", "above"),
        (0.17900, ".1841", "below"),
    ],
)
def test_a_verdict_counts_the_digits_that_were_printed(
    mean: float, published: str, verdict: str, modules: SimpleNamespace
) -> None:
    assert modules.page.verdict(mean, 0.17412, 0.18396, published) == verdict


@pytest.fixture
def small(
    modules: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SimpleNamespace:
    """A table of two rows on synthetic people, in a folder of its own."""
    monkeypatch.setattr(modules.table, "ROOT", tmp_path)
    folder = tmp_path / "benchmarks" / "tables" / "small"
    folder.mkdir(parents=True)
    (folder / "table.toml").write_text(
        'title = "T"\nabout = "A"\ndata = "rows.csv"\nrows = ["popular", "als"]\nseeds = 2\n'
        'source = ""\n[search]\ntrials = 2\nprune_after_trials = 1\nprune_after_epochs = 1\n'
        '[fixed]\npopular = "it has no options"\n'
        '[published.als]\n"ndcg@5" = ".999"\n[published.other]\n"ndcg@5" = ".5"\n'
    )
    for row in ("popular", "als"):
        (folder / f"{row}.toml").write_text(
            f'model = "{row}"\nmetrics = ["ndcg@5"]\n[als]\niterations = 2\nalpha = 2.0\n'
        )
    people = Synthetic(n_users=80, n_items=30).interactions()
    rows = zip(*people.matrix.nonzero(), strict=True)
    (tmp_path / "rows.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i in rows))
    table = modules.table.load_table("small")
    arguments = SimpleNamespace(data=tmp_path, work=tmp_path / "work")
    return SimpleNamespace(table=table, arguments=arguments, run=modules.run, page=modules.page)


def test_a_row_is_made_once_until_its_config_changes(small: SimpleNamespace) -> None:
    table = small.table
    assert not table.is_made("als")
    small.run.make_row(table, "als", small.arguments)
    made = json.loads(table.result_file("als").read_text())
    assert table.is_made("als")
    assert made["tuning"]["trials"] == 2
    assert made["seeds"] == [42, 43]
    assert len(made["metrics"]["ndcg@5"]["each_seed"]) == 2
    vectors = pq.read_table(table.vectors_file("als"))["ndcg@5"].to_numpy()
    assert np.mean(vectors) == pytest.approx(made["metrics"]["ndcg@5"]["mean"], abs=1e-12)
    config = table.config_file("als")
    config.write_text(config.read_text().replace("alpha = 2.0", "alpha = 3.0"))
    assert not table.is_made("als")
    assert "Made of an earlier config: als." in small.page.section(table)


def test_a_section_tells_ours_theirs_and_who_beats_whom(small: SimpleNamespace) -> None:
    assert not small.page.section(small.table), "nothing is made yet"
    for row in ("popular", "als"):
        small.run.make_row(small.table, row, small.arguments)
    text = small.page.section(small.table)
    line = next(line for line in text.splitlines() if line.startswith("| als |"))
    assert "| .999 | below | 2 |" in line
    assert "| other |  | .5 |" in text
    assert "correction over all 1 pairs" in text
    assert "fixed: it has no options" in text
    assert "best of 2 trials" in text


def test_rows_of_different_exams_are_not_compared(small: SimpleNamespace) -> None:
    for row in ("popular", "als"):
        small.run.make_row(small.table, row, small.arguments)
    file = small.table.result_file("als")
    file.write_text(file.read_text().replace('"exam": "', '"exam": "0'))
    with pytest.raises(SystemExit, match="2 different exams"):
        small.page.section(small.table)


def test_unknown_tables_and_rows_are_named(small: SimpleNamespace) -> None:
    with pytest.raises(SystemExit, match="there are small"):
        small.page.load_table("large")
    with pytest.raises(SystemExit, match="no row 'bpr'; it has popular, als"):
        small.table.check(["als", "bpr"])
