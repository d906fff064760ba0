"""The report of a comparison: whole, alone, escaped, the same each time."""

import base64
import importlib.util
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pytest

import recae
from recae.cli.main import run
from recae.data.split import Split
from recae.errors import ConfigError
from recae.evaluation.names import parse_metric
from recae.experiment.config import RunConfig
from recae.experiment.details import CUTOFFS, DETAIL_METRICS, LISTS, example_users
from recae.experiment.report import headline, html, markdown
from recae.experiment.table import ComparisonTable

pytest.importorskip("matplotlib")

METRICS = ("ndcg@10", "recall@20", "coverage@5")
SMALL = {"epochs": 3, "latent_dim": 4, "hidden": [8], "batch_size": 64}
VOID = {"meta", "br", "hr", "img", "link", "input"}
EVIL = "<script>alert('x')</script> & \"quoted\""


class _Page(HTMLParser):
    """Refuses a page whose elements are not properly nested; keeps texts and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.classes: list[str] = []  # of the open elements
        self.inside: list[tuple[str, list[str]]] = []  # each element and the classes around it
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
            self.classes.append(dict(attrs).get("class", ""))

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.inside.append((tag, self.classes.copy()))
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute of {tag} twice"
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        self.classes.pop()

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def split() -> Split:
    """Two tastes among 300 users and 40 items; item 3 has a title that tries to be a script."""
    import pandas as pd

    rng = np.random.default_rng(0)
    rows = [
        {"user_id": f"secret-{user}", "item_id": f"m{item}"}
        for user in range(300)
        for item in rng.choice(20, size=rng.integers(4, 12), replace=False) + 20 * (user % 2)
    ]
    data = recae.read_interactions(pd.DataFrame(rows))
    titles = [EVIL if i < 20 else f"Title {i}" for i in range(data.n_items)]
    ids = data.items.ids_at(range(data.n_items))
    data = replace(data, item_table=pa.table({"item_id": ids, "title": titles}))
    return recae.split(data, "strong", rng=0, held_out_users=60)


@pytest.fixture(scope="module")
def four(split: Split) -> ComparisonTable:
    config = RunConfig(models={"mult-vae": SMALL})
    return recae.compare(
        ["popular", "ease", "item-knn", "mult-vae"], split, metrics=METRICS, config=config
    )


@pytest.fixture(scope="module")
def one(split: Split) -> ComparisonTable:
    """One model, trained without a validation part."""
    config = RunConfig(models={"mult-vae": SMALL})
    return recae.compare(
        ["mult-vae"], replace(split, validation=None), metrics=METRICS, config=config
    )


@pytest.fixture(scope="module")
def page(four: ComparisonTable) -> str:
    return html(four, command=["recae", "compare", "it's.csv"])


def _texts(text: str) -> str:
    return " ".join(" ".join(_Page(text).texts).split())


def _check_alone(text: str) -> None:
    page = _Page(text)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    for tag, name, value in page.attributes:
        if not name.startswith("xmlns"):
            assert "://" not in value, (tag, name, value)
        if name in {"href", "src"}:
            start = "data:image/svg+xml;base64," if tag == "img" else "#"
            assert value.startswith(start), (tag, name, value)
        assert not name.startswith("on")
    style = "".join(re.findall(r"<style.*?</style>", text, re.DOTALL))
    assert "@import" not in style
    assert not re.search(r"url\((?!#)", text)
    targets = {value for _, name, value in page.attributes if name == "id"}
    for _, name, value in page.attributes:
        assert name != "href" or value[1:] in targets, value


def test_it_is_well_formed_alone_and_small(page: str, one: ComparisonTable) -> None:
    for text in (page, html(one)):
        _check_alone(text)
        assert len(text.encode()) < 1_000_000


def test_every_picture_is_a_drawing_on_white_with_its_alternative(
    page: str, four: ComparisonTable
) -> None:
    pictures = re.findall(r'<img alt="([^"]*)" src="data:image/svg\+xml;base64,([^"]*)">', page)
    assert len(pictures) == page.count("<img") == 6  # by cut-off, by group, loss and validation
    for alternative, data in pictures:
        assert len(alternative) >= 20
        drawing = ET.fromstring(base64.b64decode(data))
        texts = {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
        assert texts & {*four.names(), "epoch"}
        assert "fill: #ffffff" in base64.b64decode(data).decode()  # readable on a dark page too


def test_every_colour_of_the_page_is_there_once_light_and_once_dark(page: str) -> None:
    for variable in set(re.findall(r"var\((--[\w-]+)\)", page)):
        assert page.count(f"{variable}:") == 2, variable


def test_a_wide_table_scrolls_and_not_the_page(page: str) -> None:
    tables = [classes for tag, classes in _Page(page).inside if tag == "table"]
    assert len(tables) == 10  # results, tests, numbers of six pictures, coverage and parts
    assert all("scroll" in classes for classes in tables)


def test_titles_are_escaped(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    assert EVIL in "".join(_Page(page).texts)


def test_it_names_users_only_by_number(page: str) -> None:
    assert "secret-" not in page
    assert "Test user" in page


def test_every_metric_is_named_with_its_value_and_definition(
    page: str, four: ComparisonTable
) -> None:
    texts = _texts(page)
    for name in (*METRICS, *DETAIL_METRICS):
        assert f"{name} {parse_metric(name).definition}" in texts
    for entry in four.entries:
        for metric in METRICS:
            assert f"{entry.summary(metric)['mean']:.4f}" in texts
        assert f"{entry.details.figures['recall@2'].mean:.4f}" in texts
        assert f"{entry.details.figures['gini@20'].mean:.4f}" in texts


def test_what_is_asked_is_not_changed_by_the_details(split: Split, four: ComparisonTable) -> None:
    model = recae.EASE().fit(split.train)
    assert split.test is not None
    plain = recae.evaluate(model, split.test, metrics=METRICS)
    assert four["ease"].reports[0].to_json() == plain.to_json()


def test_details_agree_with_an_evaluation_of_their_own(split: Split, four: ComparisonTable) -> None:
    model = recae.EASE().fit(split.train)
    assert split.test is not None
    names = [f"recall@{k}" for k in CUTOFFS]
    plain = recae.evaluate(model, split.test, metrics=["ndcg@10", *names], by=["history"])
    details = four["ease"].details
    assert [details.figures[n] for n in names] == [plain[n] for n in names]
    kept = {label: s for by, label, s in details.segments if by == "history"}
    for segment in plain.segments:
        values = segment.per_user["ndcg@10"]
        assert kept[segment.label].n == (~np.isnan(values)).sum()
        assert kept[segment.label].mean == pytest.approx(np.nanmean(values))
    rows = example_users(split.test)
    lists = model.recommend(split.test.fold_in.take(rows), k=10).items
    assert (details.lists == lists).all()
    lengths = np.diff(split.test.fold_in.matrix.indptr)[rows]
    assert len(rows) == 3
    assert list(lengths) == sorted(lengths)


def test_the_headline_says_who_wins_and_whether_by_chance(four: ComparisonTable) -> None:
    text, best, second = headline(four), four.names()[0], four.names()[1]
    d = next(d for d in four.differences().differences if {d.better, d.worse} == {best, second})
    assert f"{d.mean:.4f}" in text
    assert f"{d.low:+.4f} to {d.high:+.4f}" in text
    assert ("wins" in text) == d.significant
    assert ("chance alone could do" in text) != d.significant

    worst = four.names()[-1]
    clear = replace(four, entries=(four.entries[0], four[worst]))
    assert headline(clear).startswith(f"{best} wins")
    twin = replace(four.entries[0], name="twin")
    tie = headline(replace(four, entries=(four.entries[0], twin, four[worst])))
    assert tie.startswith(f"No clear winner: {best} is ahead of twin by 0.0000")
    assert tie.endswith(f"{best} does beat {worst} beyond chance.")
    whole = headline(replace(four, metrics=("coverage@5",)))
    assert "no test is made" in whole


def test_the_matrix_is_antisymmetric_and_marks_what_is_beyond_chance(
    page: str, four: ComparisonTable
) -> None:
    table = re.search(r'<table class="matrix">.*?</table>', page, re.DOTALL)
    assert table is not None
    significant = sum(d.significant for d in four.differences().differences)
    assert significant
    assert table.group().count("▲") == table.group().count("▼") == significant
    for d in four.differences().differences:
        for sign in (1, -1):
            assert f"{sign * d.mean:+.4f}</strong>" in table.group()


def test_one_model_without_validation(one: ComparisonTable) -> None:
    text = html(one)
    assert headline(one).startswith("mult-vae reaches ndcg@10 ")
    assert headline(one) in _texts(text)
    assert "Who beats whom" not in text
    assert "Training loss" in text
    assert "Validation score" not in text
    assert "came without a read report" in text


def test_models_without_epochs_say_so(four: ComparisonTable) -> None:
    table = replace(four, entries=(four["ease"], four["popular"]))
    assert "No training log" in html(table)


def test_it_is_the_same_each_time_but_for_one_time_stamp(
    four: ComparisonTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = []
    for created in ("2001-02-03T04:05:06Z", "2002-03-04T05:06:07Z"):
        monkeypatch.setattr("time.strftime", lambda *_, created=created: created)
        text = html(four)
        assert text.count(created) == 1
        texts.append(text.replace(created, ""))
    assert texts[0] == texts[1]


def test_several_seeds_tell_their_spread(split: Split) -> None:
    config = RunConfig(models={"mult-vae": SMALL | {"epochs": 1}})
    table = recae.compare(["mult-vae", "ease"], split, metrics=METRICS, config=config, seeds=2)
    spread = [f"{table['mult-vae'].summary(metric)['seed_sd']:.4f}" for metric in METRICS]
    for sd in spread:
        assert f"2 seeds, sd {sd}" in _texts(html(table))
    rows = {row[0]: row[1:] for row in table.rows()}
    columns = [name for metric in METRICS for name in (metric, "seed sd")]
    assert rows["model"] == [*columns, "seeds", "fit s"]
    assert rows["mult-vae"][1:6:2] == spread
    assert rows["mult-vae"][6] == "2"
    assert rows["ease"][1:6:2] == ["", "", ""]  # it has no seed
    assert rows["ease"][6] == ""
    lines = [line.split() for line in str(table).splitlines()]
    assert [" ".join(row).split() for row in table.rows()] == lines
    apart = {row[0]: row for row in table.rows(intervals=True)}
    assert f"| {' | '.join(apart['mult-vae'])} |" in markdown(table)


def test_a_figure_of_several_seeds_has_one_value_on_the_page(split: Split) -> None:
    names = ("ndcg@10", "recall@20", *LISTS)
    both = recae.compare(["random"], split, metrics=names, seeds=2)["random"]
    apart = [
        recae.compare(["random"], split, metrics=names, config=RunConfig(seed=seed))["random"]
        for seed in (RunConfig().seed, RunConfig().seed + 1)
    ]
    assert apart[0].summary("novelty@20") != apart[1].summary("novelty@20")
    for name in names:
        assert both.details.figures[name].mean == both.summary(name)["mean"]
        first, second = (entry.summary(name)["mean"] for entry in apart)
        assert both.summary(name)["mean"] == pytest.approx((first + second) / 2, rel=1e-14)
    for group, *of_each in zip(
        both.details.segments, *(entry.details.segments for entry in apart), strict=True
    ):
        assert all(alone[:2] == group[:2] for alone in of_each)
        assert group[2].mean == pytest.approx(np.mean([s.mean for _, _, s in of_each]), nan_ok=True)
    assert (both.details.lists == apart[0].details.lists).all()


def test_the_page_says_once_what_is_of_the_first_seed(split: Split, page: str) -> None:
    told = "are those of the first seed"
    table = recae.compare(["random", "ease"], split, metrics=METRICS, seeds=2)
    assert html(table).count(told) == 1
    assert told not in page


def test_markdown_has_every_model_and_metric_and_what_they_are(four: ComparisonTable) -> None:
    text = markdown(four, command=["recae", "compare", "my plays.csv"])
    blocks = text.split("\n\n")
    assert blocks[0] == headline(four)
    table = blocks[1].splitlines()
    head = "| model | ndcg@10 | 95% interval | recall@20 | 95% interval | coverage@5 | fit s |"
    assert table[0] == head
    assert [line.split(" ")[1] for line in table[2:]] == four.names()
    assert {line.count("|") for line in table} == {8}
    best = four.entries[0]
    low, high = best.interval("ndcg@10")
    assert f"| {low:.4f} to {high:.4f} |" in table[2]
    definition = parse_metric("coverage@5").definition
    assert blocks[2].splitlines()[2] == f"- `coverage@5`: {definition}"
    assert blocks[3].count("\n- ") == 5
    assert blocks[4].splitlines()[0] == f"| {' | '.join(four.parts().rows()[0])} |"
    for said in (four.split.fingerprint[:12], best.reports[0].fingerprint[:12], "torch "):
        assert said in blocks[5]
    assert "Command: `recae compare 'my plays.csv'`" in blocks[5]


def test_without_matplotlib_nothing_is_begun(
    four: ComparisonTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else find(name)
    )
    with pytest.raises(ConfigError, match=r"pip install recae\[plots\]"):
        four.to_html(tmp_path / "report.html")
    code = run(
        ["compare", str(tmp_path / "missing.csv"), "--html", str(tmp_path / "r.html")], debug=False
    )
    assert code == 2
    assert "recae[plots]" in capsys.readouterr().err  # and not that the file is missing
    assert not list(tmp_path.iterdir())


def test_a_report_with_nowhere_to_lie_is_refused_first(tmp_path: Path, capsys) -> None:
    to = tmp_path / "no" / "r.html"
    assert run(["compare", str(tmp_path / "missing.csv"), "--html", str(to)], debug=False) == 2
    assert "no directory to lie in" in capsys.readouterr().err


def test_the_commands_write_it(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "plays.csv"
    rng = np.random.default_rng(1)
    lines = ["user_id,item_id"]
    for user in range(120):
        picked = rng.choice(20, size=8, replace=False) + 20 * (user % 2)
        lines += [f"u{user},m{item}" for item in picked]
    source.write_text("\n".join([*lines, ",m1", lines[1]]) + "\n")
    common = ["--set", "read.max_bad_rows=5", "--metrics", "recall@5"]
    small = [f"--set=mult-vae.{k}={json.dumps(v)}" for k, v in SMALL.items()]

    compared = tmp_path / "compared.html"
    written = tmp_path / "compared.md"
    monkeypatch.setattr("sys.argv", ["recae", "compare", "my plays.csv"])
    models = ["--models", "popular,ease", "--html", str(compared), "--markdown", str(written)]
    assert run(["compare", str(source), *models, *common], debug=False) == 0
    text = compared.read_text()
    _check_alone(text)
    texts = _texts(text)
    assert "rows read 962" in texts
    assert "merged, repeating a pair 1" in texts
    assert "plays.csv" in texts
    assert "Command: `recae compare 'my plays.csv'`" in written.read_text()

    model, stored = tmp_path / "vae", tmp_path / "stored.html"
    titles = tmp_path / "items.csv"
    titles.write_text("item_id,title\n" + "".join(f"m{i},Film {i}\n" for i in range(40)))
    train = ["train", str(source), "--items", str(titles), "-o", str(model), *common, *small]
    assert run(train, debug=False) == 0
    report = ["evaluate", str(model), str(source), "--html", str(stored), "--json"]
    capsys.readouterr()
    assert run(report, debug=False) == 0
    figures = json.loads(capsys.readouterr().out)["metrics"]
    text = stored.read_text()
    _check_alone(text)
    assert f"mult-vae reaches recall@5 {figures['recall@5']['mean']:.4f}" in text
    assert "Training loss" in text
    of_stored = tmp_path / "stored.md"
    assert run([*report[:3], "--markdown", str(of_stored)], debug=False) == 0
    capsys.readouterr()
    assert f"mult-vae reaches recall@5 {figures['recall@5']['mean']:.4f}" in of_stored.read_text()
    assert "Validation score" in text
    assert re.search(r"<li[^>]*>Film \d+", text)  # titles are stored with the model
    assert (model / "CURRENT").read_text().split()[0] in text

    # one pass over the users gives both, and the page changes no figure
    by = ["--by", "popularity", "--per-user", str(tmp_path / "u.parquet")]
    found = []
    for arguments in (report, [a for a in report if a not in ("--html", str(stored))]):
        judge = Mock(wraps=recae.evaluate)
        monkeypatch.setattr("recae.experiment.run.evaluate", judge)
        assert run([*arguments, *by], debug=False) == 0
        assert judge.call_count == 1
        found.append((capsys.readouterr().out, (tmp_path / "u.parquet").read_bytes()))
    assert found[0] == found[1]
    assert "popularity" in found[0][0]

    # the log of another training is not passed off as this model's
    path = model / "run" / "training.json"
    about = json.loads(path.read_text())
    about["identity"]["config"]["rng"] = 7
    path.write_text(json.dumps(about))
    assert run([*report, "--part", "validation"], debug=False) == 0
    text = stored.read_text()
    assert "No training log" in text
    assert "Validation user" in text
