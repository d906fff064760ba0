"""A comparison made again on several draws of the split."""

import json
from pathlib import Path

import numpy as np
import pytest

from recae.cli.main import run
from recae.data.interactions import Interactions
from recae.data.protocols import split
from recae.data.synthetic import Synthetic
from recae.errors import ConfigError, RequirementError
from recae.experiment.compare import compare
from recae.experiment.config import RunConfig
from recae.experiment.splits import compare_splits

CONFIG = RunConfig(
    protocol="strong", split={"rng": 7, "held_out_users": 50}, metrics=("ndcg@10", "coverage@10")
)


@pytest.fixture(scope="module")
def data() -> Interactions:
    return Synthetic(n_users=200, n_items=40).interactions()


def test_figures_are_means_over_splits_and_their_spread_stands_apart(data: Interactions) -> None:
    found = compare_splits(["random", "ease", "popular"], data, CONFIG, splits=3, seeds=2)
    assert found.seeds == (7, 8, 9)
    alone = [
        compare(
            ["random", "ease", "popular"],
            split(data, "strong", rng=seed, held_out_users=50),
            metrics=CONFIG.metrics,
            config=CONFIG,
            seeds=2,
        )
        for seed in (7, 8, 9)
    ]
    for name in ("random", "ease"):
        each = [table[name].summary("ndcg@10") for table in alone]
        means = [figure["mean"] for figure in each]
        told = found.summary(name, "ndcg@10")
        assert told["each_split"] == means
        assert told["mean"] == pytest.approx(np.mean(means), abs=1e-15)
        assert told["split_sd"] == pytest.approx(np.std(means, ddof=1), abs=1e-15)
        assert told["se"] == pytest.approx(np.mean([figure["se"] for figure in each]), abs=1e-15)
        assert (told["seed_sd"] is None) == (name == "ease")
    assert found.summary("ease", "coverage@10")["se"] is None
    assert found.names()[-1] == "random"
    pair = next(d for d in found.differences() if {d.better, d.worse} == {"ease", "random"})
    differences = np.array(found.summary("ease", "ndcg@10")["each_split"]) - np.array(
        found.summary("random", "ndcg@10")["each_split"]
    )
    assert pair.mean == pytest.approx(differences.mean(), abs=1e-15)
    assert pair.sd == pytest.approx(differences.std(ddof=1), abs=1e-15)
    assert (pair.better, pair.ahead, pair.splits) == ("ease", 3, 3)
    assert 0 <= pair.beyond_chance <= 3
    assert len(found.differences()) == 3
    assert json.loads(json.dumps(found.to_json()))["split_seeds"] == [7, 8, 9]
    head, _, *rows = str(found).splitlines()
    assert head.startswith("means over 3 splits and, where a seed sd is given, 2 training seeds")
    told = {row.split()[0]: row for row in rows[:3]}
    for name in ("random", "ease"):
        assert ("seed sd" in told[name]) == (name == "random")
    assert f"seed sd {found.summary('random', 'ndcg@10')['seed_sd']:.4f})" in told["random"]
    assert str(pair) in str(found)
    found.require_beat("random")
    best = found.names()[0]
    failing, table = next(
        (seed, table)
        for seed, table in zip(found.seeds, found.tables, strict=True)
        if not any(d.worse == best and d.significant for d in table.differences().differences)
    )
    figure = f"ndcg@10 is {table[best].summary('ndcg@10')['mean']:.4f}"
    message = f"^in the split of seed {failing} no model beats {best}, whose {figure}, beyond"
    with pytest.raises(RequirementError, match=message):
        found.require_beat(best)


def test_what_has_no_other_split_is_refused_before_anything_is_fitted(data: Interactions) -> None:
    with pytest.raises(ConfigError, match="splits is 1; at least 2"):
        compare_splits(["popular"], data, CONFIG, splits=1)
    for protocol in ("column", "leave-last", "temporal"):
        with pytest.raises(ConfigError, match=f"'{protocol}' holds out the same whatever its seed"):
            compare_splits(["popular"], data, RunConfig(protocol=protocol), splits=2)


def test_the_command_compares_on_several_splits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: Interactions
) -> None:
    rows = zip(*data.matrix.nonzero(), strict=True)
    file = tmp_path / "rows.csv"
    file.write_text("user,item\n" + "".join(f"u{u},i{i}\n" for u, i in rows))
    asked = ["compare", str(file), "--models", "random,ease", "--metrics", "ndcg@10"]
    asked += ["--split-seeds", "2", "--split-seed", "5", "--held-out-users", "50"]
    assert run([*asked, "--json", "--require-beat", "random"], debug=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["split_seeds"] == [5, 6]
    assert len(told["models"]["ease"]["ndcg@10"]["each_split"]) == 2
    assert run([*asked, "--html", str(tmp_path / "report.html")], debug=False) == 2
    assert "--html shows one split" in capsys.readouterr().err
