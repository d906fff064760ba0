"""What this machine can do, each alone: products in three types and several layouts, copies, ...

    python benchmarks/rates.py

Rates are of arrays of the sizes that a training step of Mult-VAE has, best of some runs: ceilings,
not averages. Result files hold them, so that a reader knows what machine a figure is of.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from recae.machine import memory, processor

BLOCK = 2048  # items of a product of the forward pass at batch 500; 1024 in the backward pass
ADAM_BYTES = 28  # weight, gradient and two moments read, all but the gradient written


def seconds(run: Callable[[], object], repeats: int = 7) -> float:
    """Best of some runs."""
    run()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return min(taken)


def product_rates(dtype: torch.dtype, batch: int, width: int) -> dict[str, float]:
    """FLOP a second of each layout: a square, and what a block of the output layer needs.

    With W of `BLOCK` x width, h of batch x width and E of `BLOCK` x batch: scores, gradient of the
    weights, gradient of the hidden vectors; each with the other way of storing E, too.
    """
    rng = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng).to(dtype)

    w, h, e = drawn(BLOCK, width), drawn(batch, width), drawn(BLOCK, batch)
    et = e.T.contiguous()
    layouts = {
        "square 2048": (drawn(2048, 2048), drawn(2048, 2048)),
        "W h'": (w, h.T),
        "h W'": (h, w.T),
        "E h": (e, h),
        "(E')' h": (et.T, h),
        "E' W": (et, w),
        "(E)' W": (e.T, w),
    }
    return {
        name: 2 * a.shape[0] * a.shape[1] * b.shape[1] / seconds(lambda a=a, b=b: torch.mm(a, b))
        for name, (a, b) in layouts.items()
    }


def int8_rate() -> float:
    """Operations a second of a product of whole numbers (`torch._int_mm`)."""
    a = torch.randint(-99, 99, (2048, 2048), dtype=torch.int8)
    b = torch.randint(-99, 99, (2048, 2048), dtype=torch.int8)
    return 2 * 2048**3 / seconds(lambda: torch._int_mm(a, b))


def rates(batch: int, width: int = 600) -> dict[str, float | dict[str, float]]:
    """Ceilings for steps of `batch` users: FLOP, operations, bytes and numbers a second."""
    found: dict[str, float | dict[str, float]] = {}
    rng = torch.Generator().manual_seed(0)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        by_layout = product_rates(dtype, batch, width)
        found[f"{name}_flop_s"] = max(by_layout.values())
        found[f"{name}_layouts"] = by_layout
        numbers = -torch.rand(1 << 20, generator=rng).to(dtype)
        out = torch.empty_like(numbers)
        found[f"{name}_exp_s"] = len(numbers) / seconds(
            lambda numbers=numbers, out=out: torch.exp(numbers, out=out)
        )
    found["int8_op_s"] = int8_rate()
    source = torch.zeros(1 << 26)
    target = torch.empty_like(source)
    found["copy_bytes_s"] = 2 * source.nbytes / seconds(lambda: target.copy_(source))
    table = nn.Parameter(torch.randn(12_000_000, generator=rng))
    table.grad = torch.randn(12_000_000, generator=rng)
    adam = torch.optim.Adam([table], fused=True)
    found["adam_bytes_s"] = ADAM_BYTES * table.numel() / seconds(adam.step)
    return found


def machine() -> dict[str, object]:
    """Processor, the instruction sets that decide, and versions."""
    cpu = processor()
    return {
        "processor": cpu.name,
        "instruction_sets": cpu.instruction_sets,
        "amx": "amx_bf16" in (cpu.instruction_sets or ()),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": cpu.cores,
        "threads": torch.get_num_threads(),
        "memory_gb": memory().total_bytes / 1e9,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.platform(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--batches", type=int, nargs="+", default=[500, 2048])
    args = parser.parse_args()
    print(json.dumps({f"b{batch}": rates(batch) for batch in args.batches}, indent=1))


if __name__ == "__main__":
    main()
