"""What this machine has: processor, memory this process may use, CUDA devices."""

import contextlib
import functools
import os
import platform
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from recae.errors import ResourceError

# Instruction sets that decide how fast training is, by their names on Linux.
_SETS = {
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_bf16": "avx512_bf16",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "amx_bf16": "amx_bf16",
    "amx_int8": "amx_int8",
    "asimd": "neon",
    "bf16": "bf16",
    "sve": "sve",
}
_ROOT = Path("/")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """The processor.

    Attributes
    ----------
    name
        As it calls itself.
    instruction_sets
        Those of interest that it has; None where the system does not say.
    logical_cores
        Of the machine.
    cores
        That this process may use: affinity and the quota of its control group.
    threads
        That torch uses.
    """

    name: str
    instruction_sets: tuple[str, ...] | None
    logical_cores: int
    cores: int
    threads: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Main memory, in bytes.

    Attributes
    ----------
    total_bytes
        Of the machine, or the limit of this process's control group.
    available_bytes
        That can be had now without swapping; None where the system does not say.
    resident_bytes
        That this process holds.
    """

    total_bytes: int
    available_bytes: int | None
    resident_bytes: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CudaDevice:
    """A CUDA device.

    Attributes
    ----------
    name
        As it calls itself.
    total_bytes, available_bytes
        Its memory.
    compute_capability
        Such as ``"9.0"``.
    bfloat16
        Whether it multiplies bfloat16 in hardware.
    """

    name: str
    total_bytes: int
    available_bytes: int
    compute_capability: str
    bfloat16: bool


def processor(root: Path = _ROOT) -> Processor:
    """Describe the processor; `root` is where ``proc`` and ``sys`` are."""
    logical = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    quota = _quota(root)
    fields = _colon_fields(_text(root / "proc/cpuinfo"))
    flags = fields.get("flags") or fields.get("Features")
    return Processor(
        name=fields.get("model name") or platform.processor() or platform.machine(),
        instruction_sets=None if flags is None else _known_sets(flags),
        logical_cores=logical,
        cores=usable if quota is None else max(1, min(usable, round(quota))),
        threads=torch.get_num_threads(),
    )


@functools.cache
def multiplies_int8() -> bool:
    """Whether the processor has instructions for products of 8-bit integers (x86 only)."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's
        return False
    return bool({"avx512_vnni", "avx_vnni", "amx_int8"} & set(processor().instruction_sets or ()))


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16 (x86 only)."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's
        return False
    return bool({"avx512_bf16", "amx_bf16"} & set(processor().instruction_sets or ()))


def memory(root: Path = _ROOT) -> Memory:
    """Measure the memory; limits of control groups count, `root` as for `processor`."""
    fields = _colon_fields(_text(root / "proc/meminfo"))
    if "MemTotal" in fields:
        total, available = _kilobytes(fields["MemTotal"]), _kilobytes(fields.get("MemAvailable"))
    else:
        total, available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), None
    assert total is not None
    for limit, used in _memory_limits(root):
        total = min(total, limit)
        left = max(0, limit - used)
        available = left if available is None else min(available, left)
    return Memory(total_bytes=total, available_bytes=available, resident_bytes=resident_bytes(root))


def resident_bytes(root: Path = _ROOT) -> int:
    """Bytes of main memory that this process holds now; 0 where the system does not say."""
    pages = _text(root / "proc/self/statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0


def peak_resident_bytes(root: Path = _ROOT) -> int:
    """Most bytes of main memory that this process has held so far.

    Where there is no ``proc`` this is at least what the parent held when it started the process:
    that is how `resource.getrusage` counts.
    """
    told = _kilobytes(_colon_fields(_text(root / "proc/self/status")).get("VmHWM"))
    if told is not None:
        return told
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Count `peak_resident_bytes` from now on, where the system can do that (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def free_disk_bytes(path: Path) -> int:
    """Bytes that can still be written where `path` is or will be.

    Raises
    ------
    ResourceError
        If no directory above `path` can be read.
    """
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError as error:
        raise ResourceError(f"cannot read the free space at {place}: {error.strerror}") from error


def cuda_devices() -> tuple[CudaDevice, ...]:
    """All CUDA devices that torch can use; none where it has no CUDA or finds no driver."""
    if not torch.cuda.is_available():
        return ()
    return tuple(_cuda_device(index) for index in range(torch.cuda.device_count()))


def nvidia_driver(root: Path = _ROOT) -> bool:
    """Whether the system has an NVIDIA driver, used by torch or not."""
    return (root / "proc/driver/nvidia/version").exists()


def advice(
    cpu: Processor,
    ram: Memory,
    devices: tuple[CudaDevice, ...],
    *,
    driver: bool,
    cuda_build: str | None = torch.version.cuda,
) -> tuple[str, ...]:
    """What could be better, a sentence each; empty where nothing is amiss.

    Parameters
    ----------
    driver
        See `nvidia_driver`.
    cuda_build
        CUDA version that torch was built for, or None.
    """
    said = []
    if cuda_build is not None and not devices:
        said.append(
            f"torch is a CUDA {cuda_build} build and finds no device: check the driver with"
            " nvidia-smi, or install the CPU build, which is much smaller"
        )
    if cuda_build is None and driver:
        said.append("there is an NVIDIA driver and torch has no CUDA: install the CUDA build")
    said += [
        f"{device.name} has no bfloat16 in hardware: train with --precision float32"
        for device in devices
        if not device.bfloat16
    ]
    sets = cpu.instruction_sets
    if sets is not None and not {"avx2", "neon"} & set(sets) and not devices:
        said.append("the processor has no AVX2: training will be slow")
    if sets is not None and "bf16" in sets and not devices:  # of ARM, where auto is float32
        said.append("the processor multiplies bfloat16: try train --precision bfloat16")
    if cpu.threads < cpu.cores:
        said.append(
            f"torch uses {cpu.threads} of {cpu.cores} cores: raise OMP_NUM_THREADS, or give"
            " train --threads"
        )
    if cpu.threads > cpu.cores:
        said.append(
            f"torch uses {cpu.threads} threads on {cpu.cores} usable cores: lower OMP_NUM_THREADS,"
            " or give train --threads"
        )
    if ram.available_bytes is not None and ram.available_bytes < 2 << 30:
        said.append(
            f"only {ram.available_bytes / 1e9:.1f} GB of memory are free: see train --dry-run"
        )
    return tuple(said)


def _cuda_device(index: int) -> CudaDevice:
    about = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    return CudaDevice(
        name=about.name,
        total_bytes=total,
        available_bytes=free,
        compute_capability=f"{about.major}.{about.minor}",
        bfloat16=about.major >= 8,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _colon_fields(text: str) -> dict[str, str]:
    """First value of each ``name: value``."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _known_sets(flags: str) -> tuple[str, ...]:
    has = set(flags.split())
    return tuple(name for flag, name in _SETS.items() if flag in has)


def _kilobytes(text: str | None) -> int | None:
    return None if text is None else int(text.split()[0]) * 1024


def _groups(root: Path, controller: str = "") -> list[Path]:
    """Directories of the control group of this process and of those above it.

    `controller` is one of version 1; version 2 has no name.
    """
    mount = root / "sys/fs/cgroup" / controller
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            inside = mount / path.strip("/")
            return [inside, *(p for p in inside.parents if p.is_relative_to(mount))]
    return []


def _memory_limits(root: Path) -> list[tuple[int, int]]:
    """Limit and use, in bytes, of each control group that has a limit."""
    names = ("memory.max", "memory.current", "inactive_file")
    names_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    places = [(place, *names) for place in _groups(root)]
    places += [(place, *names_1) for place in _groups(root, "memory")]
    found = []
    for place, limit, usage, reclaimable in places:
        most, used = _text(place / limit).strip(), _text(place / usage).strip()
        if not most.isdecimal() or not used.isdecimal():
            continue  # "max", or no such group
        cache = dict(
            line.split(" ", 1)
            for line in _text(place / "memory.stat").splitlines()
            if line.count(" ") == 1
        )
        found.append((int(most), int(used) - int(cache.get(reclaimable, 0))))
    return found


def _quota(root: Path) -> float | None:
    """Cores that the control groups allow, or None for all."""
    found = [_text(place / "cpu.max").split() for place in _groups(root)]
    found += [
        [_text(place / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        for place in _groups(root, "cpu")
    ]
    quotas = [int(most) / int(period) for most, period in filter(_numbers, found)]
    return min(quotas, default=None)


def _numbers(pair: list[str]) -> bool:
    """Whether a quota is one: "max", -1 and missing files are not."""
    return len(pair) == 2 and all(text.isdecimal() and int(text) for text in pair)
