"""Whole files, tensors, locks: what must hold when disks fill up and processes die."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recae import storage
from recae.errors import BundleError, BusyError, ConfigError, ResourceError

DTYPES = [
    *("float64", "float32", "float16", "int64", "int32", "int16", "int8"),
    *("uint64", "uint32", "uint16", "uint8", "bool"),
]


def run(code: str, *args: object) -> "subprocess.CompletedProcess[str]":
    """Run `code` in another process."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# ---------------------------------------------------------------- whole files


def test_a_write_is_whole_hashed_and_readable_by_others(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        written = storage.write_atomic(tmp_path / "a", b"recae")
        storage.write_atomic(tmp_path / "b", b"people", mode=0o640)
    finally:
        os.umask(old)
    assert (tmp_path / "a").read_bytes() == b"recae"
    assert written == (storage.sha256_of(tmp_path / "a"), 5)
    assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == (0o644, 0o640)
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_without_a_name_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="names no file"):
        storage.write_atomic(path, b"x")


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link"):
        for refusing in (storage.named_file, lambda path: storage.write_atomic(path, b"x")):
            with pytest.raises(ConfigError, match="is a device, pipe or socket"):
                refusing(path)
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["link", "pipe"]


def test_a_named_link_stands_for_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    assert storage.named_file(tmp_path / "link") == tmp_path.resolve() / "file"
    assert storage.named_file(tmp_path / "file") == tmp_path / "file"


@pytest.mark.parametrize(
    "write",
    [
        lambda path: storage.write_atomic(path, b"new"),
        lambda path: storage.write_json(path, "new"),
        lambda path: storage.write_parquet(path, pa.table({"n": [1]})),
        lambda path: storage.write_safetensors(path, {"n": np.zeros(1)}),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_names_is_written(
    tmp_path: Path, write: Callable[[Path], object], there: bool
) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(Path("far") / "target")
    write(link)
    assert link.is_symlink()
    assert target.read_bytes() not in (b"", b"old")
    assert names(tmp_path / "far") == ["target"]


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    for refusing in (storage.named_file, lambda path: storage.write_atomic(path, b"x")):
        with pytest.raises(ConfigError, match="is a link that leads to itself; name a file"):
            refusing(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()


def test_json_is_sorted_and_refuses_nan(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "a.json", {"b": "é", "a": [1, 2.5, None]})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert json.loads(text) == {"a": [1, 2.5, None], "b": "é"}
    assert text.index('"a"') < text.index('"b"')
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_json(tmp_path / "a.json", float("nan"))
    assert (tmp_path / "a.json").read_text("utf-8") == text


def test_parquet_round_trips_and_is_deterministic(tmp_path: Path) -> None:
    table = pa.table({"item_id": ["007", "m1"], "n": [1, 2]})
    first = storage.write_parquet(tmp_path / "a", table)
    assert first == storage.write_parquet(tmp_path / "b", table)
    assert first.sha256 == storage.sha256_of(tmp_path / "a")
    assert pq.read_table(tmp_path / "a").equals(table)


def test_a_body_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    storage.write_atomic(tmp_path / "a", b"old")
    with pytest.raises(KeyboardInterrupt), storage.atomic_file(tmp_path / "a") as file:  # noqa: PT012
        file.write(b"new")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


Writer = Callable[[Path], object]
WRITERS: list[Writer] = [
    lambda path: storage.write_atomic(path, b"new"),
    lambda path: storage.write_safetensors(path, {"a": np.zeros(3)}),
    lambda path: storage.write_parquet(path, pa.table({"a": [1]})),
]


@pytest.mark.parametrize("call", ["open", "write", "fchmod", "fsync", "replace", "ftruncate"])
@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "raise the quota"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EIO, "choose another one"),
        (errno.EROFS, "can be written"),
        (errno.EACCES, "permission"),
    ],
)
@pytest.mark.parametrize("write", WRITERS)
def test_a_refusing_disk_is_a_resource_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    advice: str,
    write: Writer,
) -> None:
    target = tmp_path / "target"
    storage.write_atomic(target, b"old")

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(ResourceError, match=advice) as caught:
            write(target)
    assert str(target) in str(caught.value)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["target"]


@pytest.mark.parametrize("limit", [0, 1, 7, 8, 100, 4096, 70_000])
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, limit: int) -> None:
    target = tmp_path / "weights"
    storage.write_safetensors(target, {"w": np.ones(3)})
    old = target.read_bytes()
    done = run(
        """
        import resource, sys
        import numpy as np
        from recae.errors import ResourceError
        from recae.storage import write_safetensors
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
        try:
            write_safetensors(sys.argv[1], {"w": np.zeros(10_000)})
        except ResourceError as error:
            print(error)
            sys.exit(error.exit_code)
        """,
        target,
        limit,
    )
    assert done.returncode == 5, done.stderr
    assert "ulimit -f" in done.stdout
    assert str(target) in done.stdout
    assert target.read_bytes() == old
    assert names(tmp_path) == ["weights"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:3])))
    storage.write_atomic(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_two_writers_of_one_file_never_mix(tmp_path: Path) -> None:
    with storage.atomic_file(tmp_path / "a") as file:
        file.write(b"first")
        with pytest.raises(BusyError, match="being written by another process"):
            storage.write_atomic(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_a_writer_that_comes_late_never_touches_the_published_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opened the partial file before the other renamed it, and locks it after."""
    real = os.open
    depth = []

    def open_then_lose(path: object, *args: object, **kwargs: object) -> int:
        fd = real(path, *args, **kwargs)  # type: ignore[arg-type]  # passed through
        if str(path).endswith(".partial") and not depth:
            depth.append(1)
            storage.write_atomic(tmp_path / "a", b"published")
        return fd

    monkeypatch.setattr(os, "open", open_then_lose)
    with pytest.raises(BusyError, match="being written"):
        storage.write_atomic(tmp_path / "a", b"late")
    assert (tmp_path / "a").read_bytes() == b"published"


def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".a.partial").write_bytes(b"left by a writer that was killed")
    storage.write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("kind", ["link", "fifo", "device", "directory", "missing", "large"])
def test_only_plain_bounded_files_are_read(tmp_path: Path, kind: str) -> None:
    path, said = tmp_path / "x", "no plain file"
    if kind == "link":
        (tmp_path / "real").write_bytes(b"x")
        path.symlink_to(tmp_path / "real")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(b"x" * 11)
        said = "has 11 bytes; at most 10"
    else:
        said = "is missing"
    with pytest.raises(BundleError, match=said):
        storage.read_plain(path, max_bytes=10)


def test_names_are_read_inside_a_directory_that_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_bytes(b"content")
    (tmp_path / "link").symlink_to("real")
    with storage.directory_handle(tmp_path / "link", follow=True) as handle:
        assert storage.read_plain("x/y/a", max_bytes=10, within=handle) == b"content"
    with (
        pytest.raises(BundleError, match="no directory"),
        storage.directory_handle(tmp_path / "link"),
    ):
        pass


# ---------------------------------------------------------------- tensors


@st.composite
def named_arrays(draw: st.DrawFn) -> dict[str, np.ndarray]:
    def one() -> st.SearchStrategy[np.ndarray]:
        shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
        plain = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
        layouts = [
            lambda a: a,
            lambda a: a.T,
            lambda a: np.atleast_1d(a)[::-1],
            lambda a: np.atleast_1d(a)[::2],
            lambda a: a.astype(a.dtype.newbyteorder(">")),
        ]
        return st.builds(lambda a, layout: layout(a), plain, st.sampled_from(layouts))

    names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    return draw(st.dictionaries(names, one(), max_size=5))


@settings(deadline=None, max_examples=150)
@given(arrays=named_arrays())
def test_tensors_round_trip(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]
) -> None:
    path = tmp_path_factory.getbasetemp() / "tensors"
    written = storage.write_safetensors(path, arrays)
    content = path.read_bytes()
    assert written == (storage.sha256_of(path), len(content))
    whole = storage.read_safetensors(path), storage.read_safetensors(content)
    for found in (*whole, storage.StoredArrays(path)):
        assert set(found) == set(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype.newbyteorder("=")
            assert found[name].shape == array.shape
            np.testing.assert_array_equal(found[name], array)
    backwards = dict(reversed(arrays.items()))
    assert storage.write_safetensors(path, backwards) == written


def test_the_library_opens_the_file_and_finds_the_data_aligned(tmp_path: Path) -> None:
    arrays = {"a": np.ones(3, dtype=np.int8), "b": np.ones((2, 2), dtype=np.float64)}
    storage.write_safetensors(tmp_path / "t", arrays)
    with safetensors.safe_open(tmp_path / "t", framework="np") as file:
        assert sorted(file.keys()) == ["a", "b"]
        np.testing.assert_array_equal(file.get_tensor("b"), arrays["b"])
    content = (tmp_path / "t").read_bytes()
    size = int.from_bytes(content[:8], "little")
    assert size % 8 == 0
    assert json.loads(content[8 : 8 + size])["b"]["data_offsets"][0] == 0


def test_what_the_library_wrote_is_read(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.arange(4)}, tmp_path / "t")
    assert storage.read_safetensors(tmp_path / "t")["a"].tolist() == [0, 1, 2, 3]


def test_large_transposed_weights_are_written_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recae.storage.tensors._BLOCK_BYTES", 100)
    weights = np.arange(600.0).reshape(20, 30).T
    sizes = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: sizes.append(len(data)) or real(fd, data))
    storage.write_safetensors(tmp_path / "t", {"w": weights})
    assert max(sizes) <= 160  # a row of 20 float64
    np.testing.assert_array_equal(storage.read_safetensors(tmp_path / "t")["w"], weights)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"o": np.array([None])}, "'o' has dtype object; accepted are float64"),
        ({"s": np.array(["a"])}, "'s' has dtype <U1"),
        ({"__metadata__": np.zeros(1)}, "keeps that name"),
    ],
)
def test_what_cannot_be_stored_is_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        storage.write_safetensors(tmp_path / "t", arrays)
    assert not names(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04\x95",
        b"PK\x03\x04" + bytes(60),
        b"\xff" * 8 + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        (6).to_bytes(8, "little") + b'{"a":1',
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(BundleError, match="is not a safetensors file"):
        storage.read_safetensors(tmp_path / "t")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    storage.write_safetensors(tmp_path / "t", {"a": np.arange(5), "b": np.zeros((0, 2))})
    content = (tmp_path / "t").read_bytes()
    for size in range(len(content)):
        with pytest.raises(BundleError, match="is not a safetensors file"):
            storage.read_safetensors(content[:size])
        (tmp_path / "cut").write_bytes(content[:size])
        with pytest.raises(BundleError, match="is not a safetensors file"):
            storage.StoredArrays(tmp_path / "cut")


def test_stored_arrays_are_held_one_at_a_time(tmp_path: Path) -> None:
    arrays = {name: np.full(100_000, i, dtype=np.float32) for i, name in enumerate("abcdef")}
    storage.write_safetensors(tmp_path / "t", arrays)
    tracemalloc.start()
    stored = storage.StoredArrays(tmp_path / "t")
    assert [float(stored[name].mean()) for name in "fab"] == [5.0, 0.0, 1.0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * arrays["a"].nbytes
    with pytest.raises(KeyError):
        stored["g"]


# ---------------------------------------------------------------- locks

_HOLD = """
    import sys, time
    from recae.storage import directory_lock
    with directory_lock(sys.argv[1]):
        print("held", flush=True)
        time.sleep(60)
"""


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    directory = tmp_path / "models" / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_HOLD), str(directory)], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(BusyError, match=rf"in use by pid {holder.pid} on {os.uname().nodename}"),
            storage.directory_lock(directory),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with storage.directory_lock(directory):
        assert f"pid {os.getpid()} on" in (directory / "lock").read_text()


def test_a_lock_holds_between_threads_and_by_name(tmp_path: Path) -> None:
    caught: list[BaseException] = []

    def other() -> None:
        try:
            with storage.directory_lock(tmp_path):
                pass
        except BusyError as error:
            caught.append(error)

    with storage.directory_lock(tmp_path), storage.directory_lock(tmp_path, name="save.lock"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(caught) == 1
    with storage.directory_lock(tmp_path):
        pass


def test_a_note_that_was_tampered_with_is_not_repeated(tmp_path: Path) -> None:
    with storage.directory_lock(tmp_path):
        (tmp_path / "lock").write_text("pid 1 on \x1b[31mhost\nrecae: all is well\n")
        with (
            pytest.raises(BusyError, match="in use by another process"),
            storage.directory_lock(tmp_path),
        ):
            pass


def test_a_full_disk_does_not_break_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "pwrite", full)
    with (
        storage.directory_lock(tmp_path),
        pytest.raises(BusyError, match="another process"),
        storage.directory_lock(tmp_path),
    ):
        pass


def test_importing_storage_imports_numpy_and_the_standard_library_only() -> None:
    done = run(
        """
        import sys
        import recae.storage
        heavy = {"torch", "pyarrow", "safetensors", "pandas", "scipy", "jaxtyping"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
