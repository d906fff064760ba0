"""What the machine is said to have."""

import json
import mmap
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from recae import machine
from recae.cli.doctor import advice
from recae.cli.main import cli
from recae.machine import CudaDevice, Memory, Processor

GIB = 1 << 30


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def meminfo(total: int, available: int) -> str:
    return f"MemTotal: {total >> 10} kB\nMemFree: 1 kB\nMemAvailable: {available >> 10} kB\n"


def test_the_processor_of_linux(tmp_path: Path) -> None:
    flags = "fpu avx2 avx512f avx512_bf16 avx512_vnni amx_bf16 avx"
    info = f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: {flags}\n\nmodel name\t: Another\n"
    cpu = machine.processor(tree(tmp_path, {"proc/cpuinfo": info}))
    assert cpu.name == "A CPU"
    assert cpu.instruction_sets == ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
    assert 1 <= cpu.cores <= cpu.logical_cores


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni", "amx_int8"])
def test_each_way_to_multiply_8_bits_is_seen(
    flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, {"proc/cpuinfo": f"flags\t\t: fpu avx2 {flag}\n"})
    found = machine.processor(root)
    monkeypatch.setattr(machine, "processor", lambda: found)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(machine, "_multiplies", machine._multiplies.__wrapped__)
    assert machine.multiplies_int8()


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    assert machine.processor(tmp_path).instruction_sets is None
    ram = machine.memory(tmp_path)
    assert ram.total_bytes > 0
    assert (ram.available_bytes, ram.resident_bytes) == (None, 0)


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000\n"},
        {"proc/self/cgroup": "0::/gone\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"},
        {
            "proc/self/cgroup": "2:cpuacct,cpu:/a\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "50000\n",
        },
    ],
)
def test_a_quota_of_cores_counts(tmp_path: Path, files: dict[str, str]) -> None:
    assert machine.processor(tree(tmp_path, files)).cores == 1
    everything = files["proc/self/cgroup"].replace("/a", "/c")
    free = tree(tmp_path / "free", {"proc/self/cgroup": everything})
    assert machine.processor(free).cores == machine.processor(tmp_path / "none").cores


def test_limits_of_memory_count(tmp_path: Path) -> None:
    free = tree(tmp_path / "free", {"proc/meminfo": meminfo(16 * GIB, 9 * GIB)})
    assert machine.memory(free).total_bytes == 16 * GIB
    assert machine.memory(free).available_bytes == 9 * GIB
    two = {
        "proc/meminfo": meminfo(16 * GIB, 9 * GIB),
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": f"{GIB}\n",
        "sys/fs/cgroup/a/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/a/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/a/memory.stat": f"anon {GIB}\ninactive_file {GIB}\n",
    }
    ram = machine.memory(tree(tmp_path / "two", two))
    assert (ram.total_bytes, ram.available_bytes) == (4 * GIB, 2 * GIB)  # the cache can go
    one = {
        "proc/meminfo": meminfo(16 * GIB, 9 * GIB),
        "proc/self/cgroup": "4:memory:/docker/x\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GIB}\n",
    }
    ram = machine.memory(tree(tmp_path / "one", one))
    assert (ram.total_bytes, ram.available_bytes) == (4 * GIB, GIB)


def test_the_memory_that_this_process_holds_grows() -> None:
    before = machine.memory().resident_bytes
    with mmap.mmap(-1, 32 << 20) as held:  # fresh pages: an allocator may hand out used ones
        held.write(b"1" * len(held))
        grown = machine.memory().resident_bytes - before
    assert 28 << 20 < grown < 72 << 20


def test_the_peak_is_that_of_this_program_alone(tmp_path: Path) -> None:
    peak = machine.peak_resident_bytes(
        tree(tmp_path, {"proc/self/status": "VmPeak: 9 kB\nVmHWM: 7 kB\n"})
    )
    assert peak == 7 * 1024
    assert machine.peak_resident_bytes(tmp_path / "none") >= machine.memory().resident_bytes // 2
    own = machine.peak_resident_bytes()
    assert own > machine.memory().resident_bytes // 2  # the counters of threads lag


def test_free_disk_of_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    assert machine.free_disk_bytes(tmp_path / "a" / "b") > 0


def processor(*sets: str) -> Processor:
    return Processor(name="x", instruction_sets=sets, logical_cores=8, cores=4)


PLENTY = Memory(total_bytes=64 * GIB, available_bytes=32 * GIB, resident_bytes=GIB)
LITTLE = Memory(total_bytes=GIB, available_bytes=GIB, resident_bytes=0)
UNKNOWN = Memory(total_bytes=GIB, available_bytes=None, resident_bytes=0)
GPU = CudaDevice(name="H", total_bytes=GIB, available_bytes=GIB)
NO_FLAGS = Processor(name="x", instruction_sets=None, logical_cores=8, cores=4)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"cpu": NO_FLAGS}, None),
        ({"cpu": processor(), "devices": (GPU,), "driver": True, "cuda_build": "12.6"}, None),
        ({"cuda_build": "12.6"}, "CUDA 12.6 build and finds no device"),
        ({"driver": True}, "install the CUDA build"),
        ({"cpu": processor()}, "no AVX2"),
        ({"cpu": processor("avx2", "amx_bf16")}, None),
        ({"cpu": processor("asimd", "bf16")}, "--precision bfloat16"),
        ({"threads": 1}, "uses 1 of 4 cores"),
        ({"threads": 8}, "8 threads on 4 usable"),
        ({"ram": LITTLE}, "only 1.1 GB of memory are free"),
        ({"ram": UNKNOWN}, None),
    ],
)
def test_advice(given: dict[str, Any], expected: str | None) -> None:
    usual = {"cpu": processor("avx2"), "ram": PLENTY, "devices": (), "threads": 4}
    said = advice(**{**usual, "driver": False, "cuda_build": None, **given})
    assert [expected in sentence for sentence in said if expected] == [True] * bool(expected)
    assert len(said) == bool(expected)


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SECRET_OMP_KEY", "hidden")
    done = CliRunner().invoke(cli, ["doctor", "--json"], catch_exceptions=False)
    value = json.loads(done.stdout)
    assert value["libraries"]["torch"] == torch.__version__
    assert value["environment"]["OMP_NUM_THREADS"] == "1"
    assert "SECRET_OMP_KEY" not in value["environment"]
    assert value["memory"]["total_bytes"] > value["memory"]["resident_bytes"] > 0
    assert [d["name"] for d in value["cuda"]["devices"]] == [
        torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
    ]
    assert value["threads"] == torch.get_num_threads()
    assert set(value["extras"]) == {"plots", "tune"}
    text = CliRunner().invoke(cli, ["doctor"], catch_exceptions=False).stdout
    for word in ("processor", "memory", "disk", "cuda", "libraries", "OMP_NUM_THREADS=1"):
        assert word in text
