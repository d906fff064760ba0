"""Where the parts of gpu.py run, at which sizes, and what they share."""

import argparse
import json
import math
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

sys.path.insert(0, str(Path(__file__).parents[1]))  # a checkout need not be installed

from recae.networks.kernels.in_torch import TorchKernels
from recae.networks.kernels.in_triton import TritonKernels
from recae.networks.kernels.language import triton
from recae.networks.mult_vae import MultVAENetwork
from recae.training.device_steps import DeviceSteps

LATENT, BETA, DROPOUT = 200, 0.2, 0.5
L2_BYTES = 50e6  # `e` beyond this goes through the memory


@dataclass(frozen=True)
class Sizes:
    """Shapes of a run."""

    users: int
    items: int
    width: int
    batches: tuple[int, ...]
    large_items: int
    large_batch: int
    asked: int
    epochs: int
    repeats: int


FULL = Sizes(116_677, 20_108, 600, (500, 2_048, 8_192), 1_000_000, 2_048, 10_000, 3, 20)
TINY = Sizes(90, 300, 24, (16, 40), 900, 16, 50, 1, 1)


class Bench:
    """Where and at which sizes to run, and what was found."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.dry = args.dry_run
        self.sizes = TINY if self.dry else FULL
        self.device = torch.device("cpu" if self.dry else "cuda")
        self.out: Path | None = args.out
        self.data: Path | None = args.data
        self.ends = time.monotonic() + args.seconds
        self.rates: dict[str, float] = {}
        self.result: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine(self)}
        self.failed: list[str] = []

    def part(self, name: str, run: Callable[["Bench"], Any]) -> None:
        """Run a part, keep what it returns, and go on whatever happens."""
        if time.monotonic() > self.ends:
            self.result[name] = "skipped: the time was used up"
        else:
            started = time.monotonic()
            try:
                self.result[name] = run(self)
            except Exception:  # noqa: BLE001  # recorded; the other parts are worth having
                self.failed.append(name)
                self.result[name] = {"error": traceback.format_exc()}
            if not self.dry:
                self.result.setdefault("part_s", {})[name] = time.monotonic() - started
                torch.cuda.empty_cache()
        print(f"== {name}", json.dumps(self.result[name], indent=1), sep="\n", flush=True)
        if self.out is not None:
            self.out.write_text(json.dumps(self.result, indent=1) + "\n")

    def kernels(self, **options: int) -> TritonKernels | TorchKernels:
        """Triton, or torch in a dry run without its interpreter."""
        if self.dry and (triton is None or not triton.knobs.runtime.interpret):
            return TorchKernels()
        return TritonKernels(**options)

    def seconds(self, run: Callable[[], object], *, inner: int = 10) -> float:
        """Median time of `run`, replayed from a graph `inner` times at once; NaN in a dry run."""
        run()
        if self.dry:
            return math.nan
        run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(inner):
                run()
        taken = []
        for _ in range(self.sizes.repeats):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            taken.append(start.elapsed_time(end) / 1e3 / inner)
        return statistics.median(taken[1:])

    def wall(self, run: Callable[[], object]) -> float:
        """Wall time of `run`, device included; NaN in a dry run."""
        if self.dry:
            run()
            return math.nan
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - started


def timed(found: float, floor: float | None = None, **more: Any) -> dict[str, Any]:
    """A time in milliseconds beside its floor; without numbers where nothing was timed."""
    if math.isnan(found):
        return {"time": "not measured: dry run", **{k: v for k, v in more.items() if v is not None}}
    out: dict[str, Any] = {"ms": 1e3 * found, **more}
    if floor is not None:
        out |= {"floor_ms": 1e3 * floor, "share_of_floor": floor / found}
    return out


def machine(bench: Bench) -> dict[str, Any]:
    """What this runs on."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": None if triton is None else triton.__version__,
        "numpy": np.__version__,
    }
    if bench.dry:
        return found | {"device": "cpu, a dry run: nothing is measured"}
    properties = torch.cuda.get_device_properties(bench.device)
    return found | {
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": properties.L2_cache_size,
        "cuda": torch.version.cuda,
    }


def ceilings(bench: Bench) -> dict[str, Any]:
    """Rates of this device, each alone."""
    n, big, small = (64, 4096, 1024) if bench.dry else (8192, 1 << 30, 8 << 20)
    dtype = torch.bfloat16
    a, b = (torch.randn(n, n, device=bench.device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    product = bench.seconds(lambda: torch.mm(a, b, out=out))
    found = {"bf16_flop_s": 2 * n**3 / product}
    for name, size in (("copy_bytes_s", big), ("l2_copy_bytes_s", small)):
        source = torch.randn(size, device=bench.device)
        target = torch.empty_like(source)
        found[name] = 2 * source.nbytes / bench.seconds(lambda t=target, s=source: t.copy_(s))
        del source, target
    bench.rates = found
    return {"time": "not measured: dry run"} if bench.dry else found


def floors(bench: Bench, items: int, width: int, batch: int) -> dict[str, float]:
    """Seconds of a step that cannot be undercut, at the rates of this run.

    ``serial``: max of three products (6 B K V) and of what moves through the memory (`e` written
    once and read twice unless it stays in the cache, the tables in bfloat16), then Adam on both
    tables with 34 bytes a weight, as if nothing were put off or fused. ``fused``: the same with 26
    bytes for the encoder and 28 for the output layer, as the kernels here move them.
    """
    flop, copied = (bench.rates[k] for k in ("bf16_flop_s", "copy_bytes_s"))
    gemm = 6 * batch * width * items / flop
    e_bytes = 2 * batch * items
    memory = ((3 * e_bytes if e_bytes > L2_BYTES else 0) + 4 * items * width) / copied
    weights = items * width
    return {
        "serial": max(gemm, memory) + 2 * 34 * weights / copied,
        "fused": max(gemm, memory) + (26 + 28) * weights / copied,
        "gemm": gemm,
    }


def synthetic(users: int, items: int, *, mean: float = 73.0, seed: int = 0) -> csr_array:
    """Rows of the size of ML-20M's (8.5 million entries in full), over a long tail."""
    rng = np.random.default_rng(seed)
    weights = rng.permutation(1 / np.arange(1, items + 1) ** 0.8)
    edges = np.cumsum(weights / weights.sum())[:-1]
    lengths = np.exp(rng.normal(np.log(mean) - 0.35, 0.9, users))
    lengths = np.clip(lengths, 5, items // 7).astype(np.int64)
    rows = np.repeat(np.arange(users), lengths)
    keys = np.unique(rows * items + np.searchsorted(edges, rng.random(len(rows))))
    rows, columns = keys // items, keys % items
    starts = np.searchsorted(rows, np.arange(users + 1))
    values = np.ones(len(keys), np.float32)
    return csr_array((values, columns.astype(np.int32), starts.astype(np.int32)), (users, items))


def network(bench: Bench, items: int, *, width: int, dtype: torch.dtype = torch.float32,
            steps: int = 0, device: torch.device | None = None) -> MultVAENetwork:  # fmt: skip
    return MultVAENetwork(
        items, hidden=(width,), latent_dim=min(LATENT, width // 2), dropout=DROPOUT,
        weight_decay=0.0, beta_cap=BETA, anneal_steps=steps,
        rng=torch.Generator().manual_seed(0),
    ).to(device or bench.device, dtype)  # fmt: skip


def steps_of(bench: Bench, net: MultVAENetwork, rows: csr_array, batch: int, **options: Any) -> Any:
    """Steps in bfloat16, unless `options` say otherwise."""
    given: dict[str, Any] = {
        "batch_size": batch, "n_epochs": 40, "learning_rate": 1e-3, "precision": "bfloat16",
        "seed": 0, "kernels": bench.kernels(),
    }  # fmt: skip
    return DeviceSteps(net, rows, **(given | options))
