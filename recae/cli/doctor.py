"""`recae doctor`."""

import os
import platform
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from recae.cli.output import show
from recae.machine import (
    CudaDevice,
    Memory,
    Processor,
    cuda_devices,
    free_disk_bytes,
    memory,
    processor,
)
from recae.version import VERSION, installed_version

_LIBRARIES = ("torch", "numpy", "scipy", "pandas", "pyarrow", "implicit", "flask", "waitress")
_EXTRAS = {"plots": "matplotlib", "tune": "optuna"}
_THREADS = re.compile(r"(OMP|MKL|OPENBLAS|NUMEXPR|KMP|GOTO|TORCH)_\w*|CUDA_VISIBLE_DEVICES")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say what this machine has, which libraries are installed, and what could be better."""
    import torch

    cpu, ram, devices, threads = processor(), memory(), cuda_devices(), torch.get_num_threads()
    driver = Path("/proc/driver/nvidia/version").exists()
    value: dict[str, Any] = {
        "recae": VERSION,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "libraries": {name: installed_version(name) for name in _LIBRARIES},
        "extras": {extra: installed_version(name) for extra, name in _EXTRAS.items()},
        "processor": asdict(cpu),
        "threads": threads,
        "environment": {n: v for n, v in sorted(os.environ.items()) if _THREADS.fullmatch(n)},
        "memory": asdict(ram),
        "disk": {"directory": str(Path.cwd()), "free_bytes": free_disk_bytes(Path())},
        "cuda": {"built_for": torch.version.cuda, "devices": [asdict(d) for d in devices]},
        "advice": advice(
            cpu, ram, devices, threads=threads, driver=driver, cuda_build=torch.version.cuda
        ),
    }
    show(value, "\n".join(_lines(value)), as_json=as_json)


def advice(
    cpu: Processor,
    ram: Memory,
    devices: tuple[CudaDevice, ...],
    *,
    threads: int,
    driver: bool,
    cuda_build: str | None,
) -> list[str]:
    """What could be better, a sentence each; empty where nothing is amiss.

    Parameters
    ----------
    threads
        That torch uses.
    driver
        Whether the system has an NVIDIA driver, used by torch or not.
    cuda_build
        CUDA version that torch was built for, or None.
    """
    sets, free = cpu.instruction_sets or (), ram.available_bytes
    set_threads = "OMP_NUM_THREADS, or give train --threads"
    all_advice = {
        f"torch is a CUDA {cuda_build} build and finds no device: check the driver with nvidia-smi,"
        " or install the CPU build, which is much smaller": cuda_build is not None and not devices,
        "there is an NVIDIA driver and torch has no CUDA: install the CUDA build": (
            cuda_build is None and driver
        ),
        "the processor has no AVX2: training will be slow": (
            cpu.instruction_sets is not None and not {"avx2", "asimd"} & set(sets) and not devices
        ),
        # of ARM, where --precision auto is float32
        "the processor multiplies bfloat16: try train --precision bfloat16": (
            "bf16" in sets and not devices
        ),
        f"torch uses {threads} of {cpu.cores} cores: raise {set_threads}": threads < cpu.cores,
        f"torch uses {threads} threads on {cpu.cores} usable cores: lower {set_threads}": (
            threads > cpu.cores
        ),
        f"only {_gb(free or 0)} of memory are free: see train --dry-run": (
            free is not None and free < 2 << 30
        ),
    }
    return [sentence for sentence, holds in all_advice.items() if holds]


def _lines(value: dict[str, Any]) -> list[str]:
    cpu, ram, cuda = value["processor"], value["memory"], value["cuda"]
    sets, free = cpu["instruction_sets"], ram["available_bytes"]
    lines = [
        f"recae {value['recae']}, Python {value['python']}, {value['platform']}",
        "libraries   " + ", ".join(f"{n} {v or 'MISSING'}" for n, v in value["libraries"].items()),
        "extras      "
        + ", ".join(f"{n} {'installed' if v else 'missing'}" for n, v in value["extras"].items()),
        f"processor   {cpu['name']}: {cpu['cores']} of {cpu['logical_cores']} cores usable,"
        f" torch uses {value['threads']} threads",
        "            "
        + ("unknown instruction sets" if sets is None else ", ".join(sets) or "none"),
        f"memory      {_gb(ram['total_bytes'])}, free {'unknown' if free is None else _gb(free)}",
        f"disk        {_gb(value['disk']['free_bytes'])} free in {value['disk']['directory']}",
    ]
    lines += [
        f"cuda        {d['name']}: {_gb(d['total_bytes'])}, free {_gb(d['available_bytes'])}"
        for d in cuda["devices"]
    ] or [f"cuda        no device; torch built for {cuda['built_for'] or 'the CPU only'}"]
    lines += [f"environment {name}={text}" for name, text in value["environment"].items()]
    return lines + [f"advice: {sentence}" for sentence in value["advice"]]


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
