"""Model directories: what is saved comes back, and nothing else ever does."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save as tensors
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.data.ids import IdMap
from recae.errors import BundleError, BusyError, ConfigError, NotFittedError, ResourceError
from recae.models.ease import EASE
from recae.models.registry import MODELS, config_class, create
from recae.serving import (
    layout,
    list_versions,
    load_bundle,
    ready_to_save,
    save_bundle,
    verify,
)
from recae.storage import directory_lock
from tests.model_directories import ITEMS, TITLES, USERS, forge, interactions, save

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is such a file system: these tests write very often."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shm) as directory:
        yield Path(directory)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    save(tmp_path / "films")
    return tmp_path / "films"


def inside(root: Path) -> Path:
    return root / (root / "CURRENT").read_text().split()[0]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def works(root: Path) -> str:
    """Load, recommend, and say which version it was."""
    bundle = load_bundle(root)
    assert bundle.histories is not None
    assert bundle.model.recommend(bundle.histories, k=2).items.shape == (5, 2)
    return bundle.version


# ---------------------------------------------------------------- what is saved comes back


def test_everything_comes_back(films: Path) -> None:
    data, bundle = interactions(), load_bundle(films)
    assert bundle.model.name == "ease"
    assert bundle.model.config == EASE(l2=1.0).config
    assert bundle.items == data.items
    assert bundle.users == data.users
    assert bundle.titles == TITLES
    assert bundle.item_table["year"].to_pylist() == [1, 2, 3, 4, 5, 6]
    assert bundle.popularity.tolist() == [4, 2, 1, 2, 1, 0]
    assert bundle.split == {"protocol": "all"}
    assert bundle.metrics is not None
    assert bundle.metrics["ndcg@100"]["mean"] == 0.4
    assert bundle.provenance == {"l2": 1.0}
    assert bundle.histories is not None
    np.testing.assert_array_equal(bundle.histories.matrix.toarray(), data.matrix.toarray())
    np.testing.assert_array_equal(bundle.histories.order, data.histories().order)
    fitted = EASE(l2=1.0).fit(data).recommend(data.histories(), k=4)
    loaded = bundle.model.recommend(bundle.histories, k=4)
    np.testing.assert_array_equal(loaded.items, fitted.items)
    np.testing.assert_array_equal(loaded.scores, fitted.scores)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_comes_back_with_its_lists(tmp_path: Path, name: str) -> None:
    data = interactions()
    options = {"epochs": 1, "device": "cpu"}
    known = {field.name for field in fields(config_class(name))}
    model = create(name, {key: options[key] for key in known & set(options)}).fit(data)
    zeros = np.zeros(6, dtype=np.int64)
    save_bundle(tmp_path, model, items=data.items, popularity=zeros, provenance={})
    loaded = load_bundle(tmp_path).model
    assert loaded.config == model.config
    before, after = (m.recommend(data.histories(), k=4) for m in (model, loaded))
    np.testing.assert_array_equal(after.items, before.items)
    np.testing.assert_array_equal(after.scores, before.scores)


def test_weights_of_interactions_and_unknown_orders_come_back(tmp_path: Path) -> None:
    data = interactions()
    matrix = data.matrix.copy()
    matrix.data[:] = np.linspace(0.5, 5, matrix.nnz)
    save_bundle(
        tmp_path,
        EASE().fit(data),
        items=data.items,
        users=data.users,
        histories=Histories(matrix),
        popularity=np.zeros(6, dtype=np.int64),
        provenance={},
    )
    bundle = load_bundle(tmp_path)
    assert bundle.histories is not None
    assert bundle.histories.order is None
    np.testing.assert_array_equal(bundle.histories.matrix.toarray(), matrix.toarray())
    assert (bundle.titles, bundle.split, bundle.metrics) == (None, None, None)


def test_the_directory_is_as_documented(films: Path) -> None:
    assert names(films) == {"CURRENT", "run", inside(films).name}
    everything = {*layout.REQUIRED, *layout.OPTIONAL, "manifest.json"} - {layout.CODES}
    assert names(inside(films)) == everything
    for name in everything:
        personal = name in {"users.parquet", "histories.safetensors"}
        mode = (inside(films) / name).stat().st_mode & 0o777
        assert mode == (0o640 if personal else 0o644), name
    card = (inside(films) / "README.md").read_text("utf-8")
    assert "| ndcg@100 | 0.4000 | 0.0100 | 5 |" in card
    assert "recall@20" not in card  # it was not measured
    assert "histories of 5 people are stored" in card


def test_people_can_be_left_out(tmp_path: Path) -> None:
    save(tmp_path, people=False)
    bundle = load_bundle(tmp_path)
    assert (bundle.users, bundle.histories) == (None, None)
    stored = b"".join(path.read_bytes() for path in inside(tmp_path).iterdir())
    assert b"Ann" not in stored
    assert b"No ids and no histories of people are stored" in stored


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    assert save(tmp_path / "a") == save(tmp_path / "b")


def test_versions_are_numbered_kept_and_pruned(tmp_path: Path) -> None:
    saved = [save(tmp_path, l2=1.0 + i) for i in range(5)]
    listed = list_versions(tmp_path)
    assert [v.version for v in listed] == saved[:1:-1]
    assert [v.number for v in listed] == [5, 4, 3]
    assert [v.current for v in listed] == [True, False, False]
    assert load_bundle(tmp_path, version=saved[2]).provenance == {"l2": 3.0}
    save(tmp_path, l2=9.0, keep=1)
    assert len(list_versions(tmp_path)) == 1
    with pytest.raises(BundleError, match="is missing"):
        load_bundle(tmp_path, version=saved[2])


def test_saving_the_same_again_is_another_version(films: Path) -> None:
    first = load_bundle(films).version
    assert save(films) != first
    assert works(films) != first


def test_a_read_only_directory_is_served(films: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in films.rglob("*")}
    works(films)
    verify(films)
    list_versions(films)
    assert before == {path: path.stat().st_mtime_ns for path in films.rglob("*")}


def test_a_version_pruned_while_it_is_read_gives_way_to_the_new_one(
    films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, later = layout.read_files, []

    def replaced_meanwhile(*args: Any) -> Any:
        if not later:
            later.append(save(films, l2=2.0, keep=1))
        return real(*args)

    monkeypatch.setattr(layout, "read_files", replaced_meanwhile)
    assert works(films) == later[0]


# ---------------------------------------------------------------- what cannot be saved


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"items": IdMap(["a"])}, "items are about 1 items; the model knows 6"),
        ({"popularity": np.zeros(3, dtype=np.int64)}, "popularity are about 3"),
        ({"item_table": pa.table({"title": ["a"]})}, "item_table are about 1"),
        ({"histories": Histories.from_lists([[0]], n_items=2)}, "histories are about 2"),
        ({"users": None}, "users and histories go together"),
        ({"users": IdMap(["a"])}, "1 users for 5 histories"),
        ({"keep": 0}, "keep is 0; at least 1"),
        ({"provenance": {"x": "y" * (16 << 20)}}, "provenance.json has 16777230 bytes; at most 16"),
        ({"provenance": {"x": {1: 0, "1": 0}}}, "provenance.json cannot be stored: '<' not"),
        ({"metrics": {"x": float("nan")}}, "metrics.json cannot be stored: .* not JSON compliant"),
        ({"metrics": {"x": "\ud800"}}, "metrics.json cannot be stored: .* surrogates"),
        ({"split": {"x": np.int64(1)}}, "split.json cannot be stored: .* int64 is not JSON"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    data = interactions()
    parts: dict[str, Any] = {
        "items": data.items,
        "users": data.users,
        "histories": data.histories(),
        "popularity": np.zeros(6, dtype=np.int64),
        "provenance": {},
    }
    with pytest.raises(ConfigError, match=said):
        save_bundle(tmp_path / "films", EASE().fit(data), **(parts | changed))
    assert not (tmp_path / "films").exists()


def test_a_model_that_is_not_fitted_or_not_registered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, zeros = interactions(), np.zeros(6, dtype=np.int64)
    with pytest.raises(NotFittedError):
        save_bundle(tmp_path / "a", EASE(), items=data.items, popularity=zeros, provenance={})
    monkeypatch.setattr(EASE, "name", "popular")
    fitted = EASE().fit(data)
    with pytest.raises(ConfigError, match="EASE is not the registered model 'popular'"):
        save_bundle(tmp_path / "a", fitted, items=data.items, popularity=zeros, provenance={})
    assert not (tmp_path / "a").exists()


def test_other_peoples_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ratings.csv").write_text("u,i\n")
    for target, said in (
        (tmp_path / "data", r"holds other files \('ratings.csv'\) and is no model directory"),
        (tmp_path / "data" / "ratings.csv", "is a file"),
    ):
        for refuse in (ready_to_save, save):
            with pytest.raises(ConfigError, match=said):
                refuse(target)
    assert names(tmp_path / "data") == {"ratings.csv"}
    (tmp_path / "data" / "CURRENT").write_text("not ours\n")
    with pytest.raises(ConfigError, match="is no model directory"):
        save(tmp_path / "data")


def test_other_peoples_files_are_left_alone(films: Path) -> None:
    (films / "notes.txt").write_text("mine")
    (inside(films) / "thoughts.txt").write_text("mine")
    (films / "v-mine").mkdir()
    old = inside(films)
    save(films, l2=2.0, keep=1)
    assert (films / "notes.txt").read_text() == "mine"
    assert names(old) == {"thoughts.txt"}
    save(films, l2=3.0, keep=1)
    assert names(films) == {"CURRENT", "run", "notes.txt", "v-mine", old.name, inside(films).name}


def test_one_save_at_a_time(films: Path) -> None:
    with (
        directory_lock(films / "run", name="save.lock"),
        pytest.raises(BusyError, match=rf"in use by pid {os.getpid()}"),
    ):
        save(films, l2=2.0)
    with directory_lock(films / "run"):  # a training that saves into its own directory
        save(films, l2=2.0)


def test_a_damaged_directory_can_be_saved_into(films: Path) -> None:
    version = inside(films).name
    (inside(films) / "manifest.json").write_bytes(b"rotten")
    (films / "CURRENT").write_bytes(b"rotten")
    assert save(films) == version  # the same content: in place of the damaged one
    assert works(films) == version


# ---------------------------------------------------------------- damage


def test_a_pointer_that_is_a_link_gives_way_and_what_it_names_stays(
    films: Path, tmp_path: Path
) -> None:
    (films / "CURRENT").rename(tmp_path / "elsewhere")
    (films / "CURRENT").symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    assert save(films, l2=2.0) == works(films)
    assert (tmp_path / "elsewhere").read_bytes() == before


def refused(root: Path, path: Path) -> None:
    """See that `path` is refused by its name, or what ``CURRENT`` names."""
    with pytest.raises(BundleError) as caught:
        load_bundle(root)
    said = str(caught.value)
    assert path.name in said or (path.name == "CURRENT" and f"{root}/v-" in said), said
    assert caught.value.exit_code == 4


def damaged(root: Path, content: bytes, path: Path, change: bytes) -> None:
    """Write `change`, see it refused, write `content` back."""
    path.write_bytes(change)
    refused(root, path)
    path.write_bytes(content)


def all_files(root: Path) -> list[Path]:
    return [root / "CURRENT", *sorted(inside(root).iterdir())]


def flips(films: Path, bits: Callable[[int], Iterator[int]]) -> None:
    n_bytes = 0
    for path in all_files(films):
        content = path.read_bytes()
        n_bytes += len(content)
        with path.open("r+b", buffering=0) as file:
            for place, byte in enumerate(content):
                for bit in bits(place):
                    os.pwrite(file.fileno(), bytes([byte ^ (1 << bit)]), place)
                    refused(films, path)
                os.pwrite(file.fileno(), bytes([byte]), place)
    assert n_bytes > 5000
    works(films)


def test_a_flipped_bit_in_any_byte_is_refused(films: Path) -> None:
    """Of every third byte; the slow test flips all bits of all."""
    flips(films, lambda place: iter([place // 3 % 8] if place % 3 == 0 else []))


@pytest.mark.slow
def test_every_flipped_bit_is_refused(films: Path) -> None:
    flips(films, lambda place: iter(range(8)))


def test_a_pointer_with_another_hash_is_damaged_itself(films: Path) -> None:
    path = films / "CURRENT"
    content = path.read_bytes()
    path.write_bytes(content[:-2] + (b"0" if content[-2:-1] != b"0" else b"1") + b"\n")
    with pytest.raises(BundleError, match="CURRENT is damaged: it gives"):
        load_bundle(films)


def test_every_truncation_is_refused(films: Path) -> None:
    for path in all_files(films):
        content = path.read_bytes()
        for size in range(0, len(content), 7):
            damaged(films, content, path, content[:size])
        damaged(films, content, path, content[:-1])


def test_added_zeroed_and_swapped_content_is_refused(films: Path) -> None:
    files = all_files(films)
    for path in files:
        content = path.read_bytes()
        for change in (content + b"\0", content + b"\n", content * 2, bytes(len(content))):
            damaged(films, content, path, change)
        for other in files:
            if other != path:
                damaged(films, content, path, other.read_bytes())


def test_an_older_version_proves_itself_by_its_id(films: Path) -> None:
    old = inside(films)
    save(films, l2=2.0)
    manifest = old / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"number": 1', b'"number": 7'))
    with pytest.raises(BundleError, match="manifest.json is damaged"):
        load_bundle(films, version=old.name)
    assert [v.number for v in list_versions(films)] == [2, 0]


def test_files_of_another_version_are_refused(films: Path) -> None:
    old = inside(films)
    save(films, l2=2.0)
    for path in inside(films).iterdir():
        if path.read_bytes() != (old / path.name).read_bytes():
            damaged(films, path.read_bytes(), path, (old / path.name).read_bytes())


@pytest.mark.parametrize("kind", ["missing", "link", "fifo", "directory", "device", "socket"])
def test_what_is_no_plain_file_is_refused(films: Path, tmp_path: Path, kind: str) -> None:
    for path in all_files(films):
        kept = tmp_path / "kept"
        path.rename(kept)
        if kind == "link":
            path.symlink_to(kept)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "socket":
            os.mknod(path, 0o140644)
        with pytest.raises(BundleError, match=path.name):
            load_bundle(films)
        if kind == "directory":
            path.rmdir()
        elif kind != "missing":
            path.unlink()
        kept.rename(path)
    works(films)


def test_a_version_that_is_a_link_is_refused_but_the_directory_may_be_one(
    films: Path, tmp_path: Path
) -> None:
    (tmp_path / "newest").symlink_to(films)
    works(tmp_path / "newest")
    version = inside(films)
    version.rename(tmp_path / "elsewhere")
    version.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="no directory that can be read"):
        load_bundle(films)


@pytest.mark.parametrize("version", ["..", "", "/etc", "v-../../etc/pass", "v-0123456789abcde\n"])
def test_a_version_is_no_path(films: Path, version: str) -> None:
    with pytest.raises(BundleError, match="is no version"):
        load_bundle(films, version=version)


def test_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no model directory"):
        load_bundle(tmp_path / "none")
    with pytest.raises(BundleError, match="CURRENT is missing"):
        load_bundle(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="no directory that can be read"):
        load_bundle(tmp_path / "file")


def test_a_newer_format_is_refused_by_name(films: Path) -> None:
    forge(films, manifest_json=b'{"format": 3}')
    with pytest.raises(BundleError, match=r"has format 3; this recae reads up to 2: install a new"):
        load_bundle(films)


# ---------------------------------------------------------------- forgeries: every hash is right

PICKLE = b"cos\nsystem\n(S'touch run-by-pickle'\ntR."
CONFIG = {"model": "ease", "options": {"l2": 1.0}, "n_items": 6, "recae": "0"}


def parquet(**columns: object) -> bytes:
    import io

    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def histories(**changed: np.ndarray | None) -> bytes:
    arrays: dict[str, Any] = {
        "indptr": np.array([0, 1, 1, 2, 2, 3]),
        "indices": np.array([0, 1, 2]),
        "n_items": np.array(6),
    } | changed
    return tensors({name: array for name, array in arrays.items() if array is not None})


def rows(*indptr: int) -> np.ndarray:
    return np.array(indptr)


def config(**changed: object) -> bytes:
    return json.dumps(CONFIG | changed).encode()


POPULARITY = np.arange(6)
FORGERIES: dict[str, dict[str, bytes | None]] = {
    "pickle as weights": {"model_safetensors": PICKLE},
    "pickle as table": {"items_parquet": PICKLE},
    "zip as weights": {"model_safetensors": b"PK\x03\x04" + bytes(99)},
    "object array as weights": {"model_safetensors": b"\x93NUMPY\x01\x00v\x00{'descr': '|O'}"},
    "endless header": {"model_safetensors": b"\xff" * 8 + b"{}"},
    "overlapping tensors": {
        "model_safetensors": (lambda h: len(h).to_bytes(8, "little") + h + bytes(8))(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
            b'"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
        )
    },
    "no weights": {"model_safetensors": tensors({})},
    "other weights": {"model_safetensors": tensors({"a": np.zeros(3)})},
    "weights that are not finite": {
        "model_safetensors": tensors({"weights": np.full((6, 6), np.nan, dtype=np.float32)})
    },
    "unknown model": {"config_json": config(model="os.system")},
    "model that is no text": {"config_json": config(model=["ease"])},
    "unknown option": {"config_json": config(options={"command": "x"})},
    "option of another type": {"config_json": config(options={"l2": "much"})},
    "options that are none": {"config_json": config(options=None)},
    "other number of items": {"config_json": config(n_items=7)},
    "number of items that is none": {"config_json": config(n_items=True)},
    "config that is a list": {"config_json": b"[]"},
    "config that is not JSON": {"config_json": b"model: ease"},
    "config that is not text": {"config_json": b"\xff\xfe{}"},
    "config with a key twice": {"config_json": b'{"model": "ease", "model": "popular"}'},
    "config with NaN": {"config_json": b'{"model": NaN}'},
    "provenance 100,000 deep": {"provenance_json": b"[" * 100_000},
    "items of another number": {"items_parquet": parquet(item_id=["a"], popularity=np.arange(1))},
    "items without ids": {"items_parquet": parquet(popularity=POPULARITY)},
    "items without popularity": {"items_parquet": parquet(item_id=ITEMS)},
    "items with popularity in words": {"items_parquet": parquet(item_id=ITEMS, popularity=ITEMS)},
    "negative popularity": {"items_parquet": parquet(item_id=ITEMS, popularity=-POPULARITY)},
    "missing popularity": {
        "items_parquet": parquet(item_id=ITEMS, popularity=pa.array([1, 2, 3, 4, 5, None]))
    },
    "ids that are numbers": {"items_parquet": parquet(item_id=np.arange(6), popularity=POPULARITY)},
    "an id twice": {"items_parquet": parquet(item_id=["a"] * 6, popularity=POPULARITY)},
    "an id that is missing": {
        "items_parquet": parquet(item_id=[*ITEMS[:5], None], popularity=POPULARITY)
    },
    "titles that are numbers": {
        "items_parquet": parquet(item_id=ITEMS, popularity=POPULARITY, title=POPULARITY)
    },
    "users of another number": {"users_parquet": parquet(user_id=["a"])},
    "users under another name": {"users_parquet": parquet(name=USERS)},
    "histories of other items": {"histories_safetensors": histories(n_items=np.array(7))},
    "histories without rows": {"histories_safetensors": histories(indptr=None)},
    "histories with more": {"histories_safetensors": histories(code=np.zeros(1))},
    "histories in floats": {"histories_safetensors": histories(indices=np.zeros(3))},
    "an item that is none": {"histories_safetensors": histories(indices=np.array([0, 1, 6]))},
    "an item below 0": {"histories_safetensors": histories(indices=np.array([0, 1, -1]))},
    "rows that go back": {"histories_safetensors": histories(indptr=np.array([0, 2, 1, 2, 2, 3]))},
    "rows beyond the end": {
        "histories_safetensors": histories(indptr=np.array([0, 1, 1, 2, 2, 9]))
    },
    "rows before the end": {
        "histories_safetensors": histories(indptr=np.array([0, 1, 1, 1, 1, 1]))
    },
    "rows in two dimensions": {"histories_safetensors": histories(indptr=np.zeros((2, 3), int))},
    "no rows at all": {"histories_safetensors": histories(indptr=np.zeros(0, int))},
    "an order too short": {"histories_safetensors": histories(order=np.array([1]))},
    "values that are not finite": {
        "histories_safetensors": histories(values=np.full(3, np.inf, dtype=np.float32))
    },
    "values too few": {"histories_safetensors": histories(values=np.ones(2, dtype=np.float32))},
    "an unsorted row": {
        "histories_safetensors": histories(
            indptr=np.array([0, 3, 3, 3, 3, 3]), indices=np.array([2, 1, 0])
        )
    },
    "people without histories": {"histories_safetensors": None},
    "histories without people": {"users_parquet": None},
    "no config": {"config_json": None},
    "no card": {"README_md": None},
    **{
        f"manifest {patch}": {"manifest_json": patch.encode()}
        for patch in (
            '{"format": 0}',
            '{"format": "1"}',
            '{"format": true}',
            '{"format": 99999999999999999999}',
            '{"number": 0}',
            '{"number": 1.5}',
            '{"files": []}',
            '{"files": {}}',
            '{"files": {"../config.json": {"sha256": "", "size": 1}}}',
            '{"files": {"/etc/passwd": {"sha256": "", "size": 1}}}',
            '{"files": {"config.json": 1}}',
            '{"files": {"config.json": {"sha256": "", "size": 1}}}',
            f'{{"files": {{"config.json": {{"sha256": "{"0" * 64}", "size": -1}}}}}}',
            f'{{"files": {{"config.json": {{"sha256": "{"0" * 64}", "size": true}}}}}}',
            f'{{"files": {{"config.json": {{"sha256": "{"0" * 64}", "size": 99999999}}}}}}',
            f'{{"files": {{"model.safetensors": {{"sha256": "{"0" * 64}", "size": {1 << 60}}}}}}}',
        )
    },
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forgeries_are_refused(films: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(films)
    forge(films, **FORGERIES[name])
    with pytest.raises(BundleError) as caught:
        load_bundle(films)
    assert str(films) in str(caught.value)
    assert not (films / "run-by-pickle").exists()


def test_the_forger_is_able_to_forge(films: Path) -> None:
    """Otherwise the forgeries might be refused for their hashes."""
    forge(films, config_json=config(), histories_safetensors=histories(), provenance_json=b"{}")
    works(films)


# ---------------------------------------------------------------- kills and full disks

OPERATIONS = ("open", "write", "fsync", "fchmod", "rename", "replace", "mkdir", "unlink", "rmdir",
              "ftruncate", "pwrite")  # fmt: skip


class Killed(BaseException):
    """Ends everything, as a kill does; what handles errors must not handle it."""


def interrupted(
    monkeypatch: pytest.MonkeyPatch, stop: int, act: Callable[[int], None]
) -> list[str]:
    """Call `act` before file operation `stop` and all after it; return the log of calls."""
    log: list[str] = []
    for name in OPERATIONS:
        real = getattr(os, name)

        def operation(*args: Any, _name: str = name, _real: Any = real, **kwargs: Any) -> Any:
            log.append(f"{_name} {args[0]}")
            if len(log) >= stop:
                if _name == "write" and len(log) == stop:
                    _real(args[0], args[1][: len(args[1]) // 2])  # a torn write
                act(len(log) - stop)
            return _real(*args, **kwargs)

        monkeypatch.setattr(os, name, operation)
    return log


def n_operations(films: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        log = interrupted(patch, 10**9, lambda _: None)
        save(films, l2=2.0, keep=1)
        return len(log)


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_file_operation_leaves_the_old_model_or_the_new(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    def die(_: int) -> None:
        raise Killed

    shutil.copytree(films, tmp_path / "count")
    total = n_operations(tmp_path / "count", monkeypatch)
    assert total > 80
    found = set()
    for stop in [*range(1, total, step), total]:
        root = tmp_path / f"killed-{stop}"
        shutil.copytree(films, root)
        old = inside(root).name
        with monkeypatch.context() as patch:
            interrupted(patch, stop, die)
            with pytest.raises(Killed):
                save(root, l2=2.0, keep=1)
        found.add(works(root) == old)
        save(root, l2=3.0, keep=1)
        assert names(root) == {"CURRENT", "run", works(root)}, f"left behind at {stop}"
        shutil.rmtree(root)
    assert found == {True, False}


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.ENOSPC, 4),
        pytest.param(errno.ENOSPC, 1, marks=pytest.mark.slow),
        pytest.param(errno.EIO, 1, marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_at_any_file_operation_leaves_the_old_model_or_the_new(
    films: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    step: int,
) -> None:
    def fail(later: int) -> None:
        if later == 0:
            raise OSError(number, os.strerror(number))

    shutil.copytree(films, tmp_path / "count")
    total = n_operations(tmp_path / "count", monkeypatch)
    said: list[str] = []
    for stop in range(1, total + 1, step):
        root = tmp_path / f"full-{stop}"
        shutil.copytree(films, root)
        with monkeypatch.context() as patch:
            interrupted(patch, stop, fail)
            try:
                save(root, l2=2.0, keep=1)
            except ResourceError as error:
                said.append(str(error))
        works(root)
        assert not (root / ".saving").exists()
        save(root, l2=3.0, keep=1)
        assert names(root) == {"CURRENT", "run", works(root)}, f"left behind at {stop}"
        shutil.rmtree(root)
    assert all(str(tmp_path) in message for message in said)
    assert (
        len(said) > total // step - 12
    )  # it can do without the lock's note and without old manifests


def test_names_are_on_the_disk_before_they_are_pointed_to(
    films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power loss only what was fsynced is sure to be there."""
    log = interrupted(monkeypatch, 10**9, lambda _: None)
    save(films, l2=2.0, keep=1)
    kinds = [entry.split()[0] for entry in log]
    renamed = log.index(f"rename {films / '.saving'}")
    pointed = log.index(f"replace {films / '.CURRENT.partial'}")
    pruned = kinds.index("unlink", pointed)
    assert kinds[:renamed].count("fsync") == 2 * 10  # ten files, and their directory after each
    assert log[renamed + 1] == f"open {films}"
    assert kinds[renamed + 2] == "fsync"
    assert kinds[pointed - 1] == "fsync"
    assert log[pointed + 1] == f"open {films}"
    assert kinds[pointed + 2] == "fsync"
    assert pointed + 2 < pruned


_KILLS = """
    import os, shutil, signal, sys
    from pathlib import Path
    import pyarrow.parquet  # opens files when it is first used
    from tests.model_directories import save
    from tests.test_bundle import OPERATIONS, inside, names, works

    root, work = Path(sys.argv[1]), Path(sys.argv[2])
    step = int(sys.argv[3])

    def run(directory, stop):
        count = 0
        for name in OPERATIONS:
            def operation(*args, _name=name, _real=getattr(os, name), **kwargs):
                nonlocal count
                count += 1
                if count == stop:
                    if _name == "write":
                        _real(args[0], args[1][: len(args[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return _real(*args, **kwargs)
            setattr(os, name, operation)
        save(directory, l2=2.0, keep=1)

    save(work / "warm")
    stop, outcomes = 1, []
    while True:
        directory = work / f"killed-{stop}"
        shutil.copytree(root, directory)
        old = inside(directory).name
        child = os.fork()
        if child == 0:
            run(directory, stop)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        outcomes.append(works(directory) == old)
        save(directory, l2=3.0, keep=1)
        assert names(directory) == {"CURRENT", "run", works(directory)}, stop
        shutil.rmtree(directory)
        stop += step
    assert set(outcomes) == {True, False}, outcomes
    print(len(outcomes))
"""


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_real_kill_leaves_the_old_model_or_the_new(
    films: Path, tmp_path: Path, step: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_KILLS), films, tmp_path, str(step)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 80 // step


# ---------------------------------------------------------------- golden files


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.glob("format-*")))
def test_every_released_format_still_opens(name: str) -> None:
    bundle = load_bundle(GOLDEN / name / "model")
    expected = json.loads((GOLDEN / name / "expected.json").read_bytes())
    assert bundle.users is not None
    assert bundle.histories is not None
    assert bundle.users.ids_at(range(5)) == expected["users"]
    assert bundle.titles == expected["titles"]
    assert bundle.popularity.tolist() == expected["popularity"]
    top = bundle.model.recommend(bundle.histories, k=2)
    assert [bundle.items.ids_at(row) for row in top.items] == expected["lists"]
    np.testing.assert_allclose(top.scores, expected["scores"], rtol=1e-6)
    codes = None if bundle.codes is None else bundle.codes["codes"].tolist()
    assert codes == expected.get("codes")


def test_there_is_a_golden_file_of_the_current_format() -> None:
    assert (GOLDEN / f"format-{layout.FORMAT}" / "model" / "CURRENT").exists()


def test_a_matrix_of_other_types_is_not_needed() -> None:
    """`csr_array` with narrow indices, as some readers make, is stored and read the same."""
    matrix = csr_array(np.eye(3, dtype=np.float32))
    matrix.indices = matrix.indices.astype(np.int32)
    from recae.serving.contents import history_arrays, read_histories

    back = read_histories(tensors(history_arrays(Histories(matrix))), 3, Path("h"))
    np.testing.assert_array_equal(back.matrix.toarray(), np.eye(3))
