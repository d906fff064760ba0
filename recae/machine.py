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

from recae.errors import ResourceError

# Instruction sets that decide how fast training is, by their names on Linux.
_SETS = (
    *("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8"),
    *("asimd", "bf16", "sve"),
)
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
    """

    name: str
    instruction_sets: tuple[str, ...] | None
    logical_cores: int
    cores: int


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
    """

    name: str
    total_bytes: int
    available_bytes: int


def processor(root: Path = _ROOT) -> Processor:
    """Describe the processor; `root` is where ``proc`` and ``sys`` are."""
    logical = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    quota = _quota(root)
    fields = _colon_fields(_text(root / "proc/cpuinfo"))
    flags = fields.get("flags") or fields.get("Features")
    return Processor(
        name=fields.get("model name") or platform.processor() or platform.machine(),
        instruction_sets=None if flags is None else tuple(s for s in _SETS if s in flags.split()),
        logical_cores=logical,
        cores=usable if quota is None else max(1, min(usable, round(quota))),
    )


def multiplies_int8() -> bool:
    """Whether the processor has instructions for products of 8-bit integers (x86 only)."""
    return _multiplies("avx512_vnni", "avx_vnni", "amx_int8")


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16 (x86 only)."""
    return _multiplies("avx512_bf16", "amx_bf16")


@functools.cache
def _multiplies(*any_of: str) -> bool:
    """Whether the processor has one of these sets, and torch the library that uses it."""
    import torch

    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's
        return False
    return not set(any_of).isdisjoint(processor().instruction_sets or ())


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
    import torch

    found = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found.append(CudaDevice(name=name, total_bytes=total, available_bytes=free))
    return tuple(found)


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
