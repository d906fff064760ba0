"""`recae doctor`."""

import os
import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import click

from recae.cli.output import show
from recae.version import VERSION, installed_version

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
_THREADS = re.compile(r"(OMP|MKL|OPENBLAS|NUMEXPR|KMP|GOTO|TORCH)_\w*|CUDA_VISIBLE_DEVICES")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say what this machine has, which libraries are installed, and what could be better."""
    import torch

    from recae import machine

    cpu, ram, devices = machine.processor(), machine.memory(), machine.cuda_devices()
    installed = installed_version("recae") is not None
    libraries, extras = _requirements((requires("recae") if installed else None) or ())
    environment = {n: v for n, v in sorted(os.environ.items()) if _THREADS.fullmatch(n)}
    missing = [name for name, found in libraries.items() if found is None]
    unknown = "recae is not installed, so what it needs is not known here: pip install recae"
    advice = [
        *([] if installed else [unknown]),
        *(
            f"{name} is not installed, and nothing works without: pip install recae"
            for name in missing
        ),
        *machine.advice(cpu, ram, devices, driver=machine.nvidia_driver()),
    ]
    value: dict[str, Any] = {
        "recae": VERSION,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "libraries": libraries,
        "extras": extras,
        "processor": asdict(cpu),
        "environment": environment,
        "memory": asdict(ram),
        "disk": {"directory": str(Path.cwd()), "free_bytes": machine.free_disk_bytes(Path())},
        "cuda": {"built_for": torch.version.cuda, "devices": [asdict(d) for d in devices]},
        "advice": advice,
    }
    show(value, "\n".join(_lines(value)), as_json=as_json)


def _lines(value: dict[str, Any]) -> list[str]:
    cpu, ram, cuda = value["processor"], value["memory"], value["cuda"]
    sets = cpu["instruction_sets"]
    free = ram["available_bytes"]
    lines = [
        f"recae {value['recae']}, Python {value['python']}, {value['platform']}",
        "libraries   " + ", ".join(f"{n} {v or 'MISSING'}" for n, v in value["libraries"].items()),
        *(
            f"extra       {name}: " + (f"without {', '.join(lacking)}" if lacking else "installed")
            for name, lacking in value["extras"].items()
        ),
        f"processor   {cpu['name']}: {cpu['cores']} of {cpu['logical_cores']} cores usable,"
        f" torch uses {cpu['threads']} threads",
        "            "
        + ("unknown instruction sets" if sets is None else ", ".join(sets) or "none"),
        f"memory      {_gb(ram['total_bytes'])}, free {'unknown' if free is None else _gb(free)}",
        f"disk        {_gb(value['disk']['free_bytes'])} free in {value['disk']['directory']}",
    ]
    lines += [
        f"cuda        {d['name']}: {_gb(d['total_bytes'])}, free {_gb(d['available_bytes'])},"
        f" compute capability {d['compute_capability']}, {'' if d['bfloat16'] else 'no '}bfloat16"
        for d in cuda["devices"]
    ] or [f"cuda        no device; torch built for {cuda['built_for'] or 'the CPU only'}"]
    lines += [f"environment {name}={text}" for name, text in value["environment"].items()]
    return lines + [f"advice: {sentence}" for sentence in value["advice"]]


def _requirements(
    lines: Iterable[str],
) -> tuple[dict[str, str | None], dict[str, list[str]]]:
    """Version of each library, None for a missing one; for each extra, what it lacks."""
    libraries: dict[str, str | None] = {}
    extras: dict[str, list[str]] = {}
    for line in lines:
        match, extra = _NAME.match(line), _EXTRA.search(line)
        assert match is not None
        name = match[0]
        if extra is None:
            libraries[name] = installed_version(name)
        else:
            lacking = extras.setdefault(extra[1], [])
            if name != "recae" and installed_version(name) is None:
                lacking.append(name)
    return libraries, extras


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
