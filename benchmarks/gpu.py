"""The device step on one GPU: is it right, how fast is it, and how far from what the chip can do.

One command, which needs numpy, scipy, torch, triton and jaxtyping, and takes under 8 minutes:

    python benchmarks/gpu.py --out gpu.json

Every part is written to the file as it ends; a part that fails is recorded with its error, and the
exit status is 1. Floors are counted (formulas in `floors`) with rates measured in the same run.
``--dry-run`` runs every part on the CPU at tiny shapes and reports no time.

A run to the best validation score needs prepared data, made where `recae` is installed:

    python benchmarks/gpu.py --prepare interactions.parquet ml1m.npz --min-rating 4
    python benchmarks/gpu.py --data ml1m.npz --out gpu.json
"""

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
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array

sys.path.insert(0, str(Path(__file__).parents[1]))  # a checkout need not be installed

from recae.data.histories import Histories
from recae.models.tower import ExactTower
from recae.networks.device_path import DevicePath, StepEntries
from recae.networks.kernels.in_torch import TorchKernels
from recae.networks.kernels.in_triton import TritonKernels
from recae.networks.kernels.language import triton
from recae.networks.mult_vae import MultVAENetwork
from recae.ranking.propose import recommend_chunk, rows_at_once
from recae.ranking.topk import TopK
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


def distance(found: torch.Tensor, truth: torch.Tensor) -> float:
    found, truth = found.detach().double().cpu(), truth.detach().double().cpu()
    return float((found - truth).norm() / truth.norm())


def checked(name: str, error: float, bound: float) -> dict[str, Any]:
    assert error < bound, f"{name}: relative error {error:.2e}, at most {bound:.0e} is accepted"
    return {"relative_error": error, "bound": bound}


def check_steps(bench: Bench) -> dict[str, Any]:
    """The recorded step against the torch kernels in float64, which the tests hold to the paper.

    Four epochs of three steps: three single ones, a recording, replays, a short last batch.
    """
    items, width = (300, 24) if bench.dry else (3_000, 600)
    rows = synthetic(2 * 256 + 100 if not bench.dry else 40, items, mean=30)
    batch = 256 if not bench.dry else 16
    truth = network(bench, items, width=width, dtype=torch.float64, device=torch.device("cpu"))
    exact = steps_of(bench, truth, rows, batch, precision="float32", kernels=TorchKernels())
    expected = [exact.epoch(epoch) for epoch in range(1)]
    first = {name: table.exp_avg.clone() for name, table in exact._tables.items()}
    expected += [exact.epoch(epoch) for epoch in range(1, 4)]
    exact.close()
    start = network(bench, items, width=width, dtype=torch.float64, device=torch.device("cpu"))
    found: dict[str, Any] = {}
    for precision, gradient, loss, weight in (
        ("float32", 1e-4, 1e-4, 5e-2), ("bfloat16", 2e-2, 3e-3, 0.3),
    ):  # fmt: skip
        net = network(bench, items, width=width)
        steps = steps_of(bench, net, rows, batch, precision=precision)
        for epoch in range(4):
            sums = steps.epoch(epoch)
            name = f"{precision} loss of epoch {epoch}"
            found[name] = checked(name, distance(sums, expected[epoch]), loss)
            if epoch == 0:
                steps.settle()
                for table, state in steps._tables.items():
                    name = f"{precision} moments of {table}"
                    found[name] = checked(name, distance(state.exp_avg, first[table]), gradient)
        steps.close()
        # Adam divides by the size of a gradient, so movements differ more than gradients do.
        for (name, mine), true, old in zip(
            net.named_parameters(), truth.parameters(), start.parameters(), strict=True
        ):
            name = f"{precision} movement of {name}"
            moved = mine.detach().cpu().double() - old
            found[name] = checked(name, distance(moved, true.detach() - old), weight)
    if not bench.dry:
        found["host waits in a step"] = waits(bench, rows, batch, items, width)
    return found


def waits(bench: Bench, rows: csr_array, batch: int, items: int, width: int) -> int:
    """0, or an error: torch refuses to wait for the device inside a step."""
    steps = steps_of(bench, network(bench, items, width=width), rows, batch)
    steps.epoch(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        steps._step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return 0


def each_kernel(bench: Bench, path: DevicePath, steps: DeviceSteps, batch: int) -> dict[str, Any]:
    """Calls of each kernel of a step on its own arrays, and its floor: seconds at these rates."""
    kernels, step = path.kernels, path.step
    assert step is not None
    entries, copy, schedule = step.entries, path.output.copy, steps._schedule
    n_rows, n_columns, width = path.n_rows, path.n_columns, path.table.weight.shape[1]
    n_items, nnz = len(path.bias.weight), int(entries.offsets[-1])
    device, f32 = bench.device, torch.float32
    h = torch.tanh(torch.randn(batch, width, device=device))
    columns = kernels.columns(h, n_columns, path.dtype)
    kernels.set_shift(columns, columns @ copy[path.popular].T, width)
    e = torch.empty(batch, n_rows, dtype=path.dtype, device=device)
    sums, largest = torch.zeros(2, n_rows // kernels.tile, batch, dtype=f32, device=device)
    flags = torch.zeros(batch, dtype=torch.int32, device=device)
    dw = torch.empty(n_rows, n_columns, dtype=path.dtype, device=device)
    gradient = torch.randn(batch, width, device=device) / batch
    sources, sized = steps._sources[:batch], {"n_live": n_items, "first_tile": 0}

    def exp(*, again: bool = False) -> None:
        kernels.exp(columns, copy, e, sums, largest, flags, again=again, **sized)

    def add(*, again: bool = False) -> torch.Tensor:
        return kernels.add_sums(
            sums, largest, columns, flags, width=width, limit=1e9, again=again
        )  # fmt: skip

    def cublas_exp() -> torch.Tensor:
        torch.mm(columns, copy.T, out=e)
        return e.exp_().sum(1, dtype=f32)

    exp()
    s = add()
    _, scaled = kernels.scale(columns, gradient[:, 0].contiguous(), entries.offsets, s, width)
    flop, copied = (bench.rates[k] for k in ("bf16_flop_s", "copy_bytes_s"))
    product = 2 * batch * n_rows * n_columns / flop
    e_bytes = 2 * batch * n_rows
    passed = (e_bytes if e_bytes > L2_BYTES else 0) / copied
    touched = int((step.starts.diff() > 0).sum()) if path.deferred else n_items
    return {
        "entries": (
            lambda: kernels.entries(
                steps._items, sources, entries.offsets, schedule.counter, steps._key,
                n_items=n_items, capacity=len(entries.items), dropout=DROPOUT, dtype=f32,
            ),
            20 * nnz / copied,
        ),
        "sort": (lambda: StepEntries.of(entries, n_items), 40 * nnz / copied),
        "noise": (
            lambda: kernels.noise((batch, LATENT), schedule.counter, steps._key, f32),
            4 * batch * LATENT / copied,
        ),
        "bag": (
            lambda: kernels.bag(path.table.copy, entries, entries.values, width),
            nnz * (1 - DROPOUT) * width * 2 / copied,
        ),
        "own": (lambda: kernels.bag(copy, entries, None, n_columns), nnz * n_columns * 2 / copied),
        "columns": (lambda: kernels.columns(h, n_columns, path.dtype), 6 * h.numel() / copied),
        "exp": (exp, max(product, passed)),
        "exp again, nobody flagged": (lambda: exp(again=True), None),
        "sums": (lambda: add(again=True), 4 * sums.numel() / copied),
        "exp by cuBLAS and two passes": (cublas_exp, max(product, passed)),
        "targets": (
            lambda: kernels.targets(entries, s, e, begin=0, end=n_items), 40 * nnz / copied
        ),
        "scale": (
            lambda: kernels.scale(columns, gradient[:, 0].contiguous(), entries.offsets, s, width),
            4 * columns.numel() / copied,
        ),
        "dh": (lambda: torch.mm(e, copy), max(product, passed)),
        "dw": (lambda: torch.mm(e.T, scaled, out=dw), max(product, passed)),
        "output update": (
            lambda: kernels.output(
                path.output, path.bias, dw, schedule, begin=0, end=n_items, decay=0.0
            ),
            28 * n_items * width / copied,
        ),
        "encoder catch-up": (
            lambda: path._encoder(step, None, every_row=not path.deferred),
            (26 if path.deferred else 0) * touched * width / copied,
        ),
        "encoder update": (
            lambda: path._encoder(step, gradient, every_row=not path.deferred),
            26 * touched * width / copied,
        ),
    }  # fmt: skip


def kernel_times(bench: Bench) -> dict[str, Any]:
    """Time of each kernel at ML-20M's shape, and how many rows a step touches."""
    sizes, found = bench.sizes, {}
    rows = synthetic(min(sizes.users, 40_000), sizes.items)
    for batch in sizes.batches:
        net = network(bench, sizes.items, width=sizes.width)
        steps = steps_of(bench, net, rows, batch)
        steps.epoch(0)
        path = steps._path
        calls = each_kernel(bench, path, steps, batch)
        found[f"b{batch}"] = {
            name: timed(bench.seconds(run), floor) for name, (run, floor) in calls.items()
        }
        found[f"b{batch}"]["rows put off"] = path.deferred
        steps.close()
    return found


def tiles(bench: Bench) -> dict[str, Any]:
    """`exp` by tile shapes, to choose the default."""
    sizes, found = bench.sizes, {}
    shapes = [
        (128, 128, 64, 8, 3), (128, 128, 64, 4, 4), (128, 256, 64, 8, 3),
        (128, 128, 32, 8, 4), (64, 256, 64, 8, 4), (64, 128, 64, 4, 4),
    ]  # fmt: skip
    for batch in sizes.batches:
        h = torch.tanh(torch.randn(batch, sizes.width, device=bench.device))
        for users, tile, inner, warps, stages in shapes[:1] if bench.dry else shapes:
            kernels = bench.kernels(
                users=users, tile=tile, inner=inner, warps=warps, stages=stages
            )  # fmt: skip
            n_rows = -(-sizes.items // kernels.tile) * kernels.tile
            n_columns = -(-(sizes.width + 4) // 16) * 16
            copy = torch.randn(n_rows, n_columns, device=bench.device).to(torch.bfloat16) / 25
            columns = kernels.columns(h, n_columns, torch.bfloat16)
            e = torch.empty(batch, n_rows, dtype=torch.bfloat16, device=bench.device)
            sums, largest = torch.zeros(2, n_rows // kernels.tile, batch, device=bench.device)
            flags = torch.zeros(batch, dtype=torch.int32, device=bench.device)

            def run(
                k: Any = kernels, given: Any = (columns, copy, e, sums, largest, flags)
            ) -> None:
                k.exp(*given, n_live=sizes.items, first_tile=0, again=False)

            floor = 2 * batch * n_rows * n_columns / bench.rates["bf16_flop_s"]
            name = (
                f"b{batch} users {users} items {tile} inner {inner} warps {warps} stages {stages}"
            )
            found[name] = timed(bench.seconds(run), floor)
    return found


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


def epochs(bench: Bench) -> dict[str, Any]:
    """An epoch at ML-20M's shape, by batch size; the plain path beside it."""
    sizes, found = bench.sizes, {}
    rows = synthetic(sizes.users, sizes.items)
    for batch in sizes.batches:
        net = network(bench, sizes.items, width=sizes.width)
        steps = steps_of(bench, net, rows, batch)
        runs = [partial(steps.epoch, epoch) for epoch in range(1 + sizes.epochs)]
        first, *taken = [bench.wall(run) for run in runs]
        median = statistics.median(taken)
        n_steps = -(-sizes.users // batch)
        floor = {k: n_steps * v for k, v in floors(bench, sizes.items, sizes.width, batch).items()}
        found[f"b{batch}"] = timed(
            median, floor["serial"], users_s=None if bench.dry else sizes.users / median,
            entries=int(rows.nnz), step_us=None if bench.dry else 1e6 * median / n_steps,
            first_epoch_s=None if bench.dry else first,
            share_of_fused_floor=None if bench.dry else floor["fused"] / median,
            decoder_mfu=None if bench.dry else floor["gemm"] / median,
        )  # fmt: skip
        steps.close()
    return found


def large(bench: Bench) -> dict[str, Any]:
    """A step over a million items, and the most memory it takes; stored, and computed again."""
    sizes, found = bench.sizes, {}
    rows = synthetic(4 * sizes.large_batch, sizes.large_items)
    for name, width, stored in (
        ("K 600", sizes.width, None), ("K 600, e made again", sizes.width, 1 << 29),
        ("K 200", max(8, sizes.width // 3), None),
    ):  # fmt: skip
        if not bench.dry:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        net = network(bench, sizes.large_items, width=width)
        steps = steps_of(bench, net, rows, sizes.large_batch)
        if stored is not None:
            steps._path.stored_bytes = stored if not bench.dry else 1 << 13
        steps.epoch(0)
        steps.epoch(1)
        taken = bench.wall(partial(steps.epoch, 2)) / 4
        floor = floors(bench, sizes.large_items, width, sizes.large_batch)["serial"]
        peak = None if bench.dry else torch.cuda.max_memory_allocated() / 1e9
        found[name] = timed(taken, floor, peak_gb=peak)
        steps.close()
        del net, steps
    return found


def lists(tower: ExactTower, fold_in: csr_array, k: int) -> TopK:
    """Exact top `k` of each row, as `Recommender.recommend` makes them."""
    at_once, parts = rows_at_once(tower.n_items, 256), []  # as `Autoencoder.users_per_pass`
    for start in range(0, fold_in.shape[0], at_once):
        part = Histories(fold_in[start : start + at_once])
        parts.append(recommend_chunk(tower.scorer(part), part, k, [part.matrix], None))
    return TopK(np.concatenate([p.items for p in parts]), np.concatenate([p.scores for p in parts]))


def ndcg(found: TopK, targets: csr_array) -> float:
    """NDCG@k of the Mult-VAE papers, over users with a target."""
    gains = 1 / np.log2(np.arange(found.k) + 2)
    n_items = targets.shape[1]
    rows = np.repeat(np.arange(targets.shape[0]), np.diff(targets.indptr))
    wanted = rows * n_items + targets.indices
    hits = np.isin(np.arange(len(found))[:, None] * n_items + found.items, wanted)
    lengths = np.diff(targets.indptr)
    ideal = np.concatenate([[0], gains.cumsum()])[np.minimum(lengths, found.k)]
    return float(((hits * gains).sum(1)[lengths > 0] / ideal[lengths > 0]).mean())


def recommending(bench: Bench) -> dict[str, Any]:
    """Evaluation of 10,000 users by NDCG@100, and lists of ten for as many, both exact."""
    sizes = bench.sizes
    rows = synthetic(sizes.asked, sizes.items, seed=1)
    net = network(bench, sizes.items, width=sizes.width)
    tower = ExactTower(net.tower())
    lists(tower, rows[: sizes.asked // 10], 10)
    whole = bench.wall(lambda: ndcg(lists(tower, rows, 100), rows))
    ten = bench.wall(lambda: lists(tower, rows, 10))
    floor = None
    if not bench.dry:
        floor = 2 * sizes.asked * sizes.items * sizes.width / bench.rates["bf16_flop_s"]
    users_s = None if bench.dry else sizes.asked / ten
    return {
        "evaluation": timed(whole, floor, users=sizes.asked),
        "top 10": timed(ten, floor, users_s=users_s),
    }


def to_target(bench: Bench) -> Any:
    """Training to the best validation score on prepared data, with the time it took."""
    if bench.data is None:
        return "skipped: no data given"
    with np.load(bench.data) as arrays:
        train, fold_in, targets = (stored(arrays, name) for name in ("train", "fold_in", "targets"))
    batch, n_epochs = max(25, min(500, train.shape[0] // 40)), 2 if bench.dry else 200
    net = network(bench, train.shape[1], width=bench.sizes.width,
                  steps=3 * n_epochs * -(-train.shape[0] // batch) // 4)  # fmt: skip
    steps = steps_of(bench, net, train, batch, n_epochs=n_epochs)
    best, since, curve, training = (-1.0, 0), time.perf_counter(), [], 0.0
    for epoch in range(n_epochs):
        training += bench.wall(partial(steps.epoch, epoch))
        steps.settle()
        score = ndcg(lists(ExactTower(net.tower()), fold_in, 100), targets)
        curve.append([score, time.perf_counter() - since])
        if score > best[0]:
            best = (score, epoch)
        if epoch - best[1] >= 30:
            break
    steps.close()
    reached = next(i for i, (score, _) in enumerate(curve) if score >= best[0])
    return timed(
        math.nan if bench.dry else curve[reached][1], ndcg_100=best[0], epochs=reached + 1,
        training_s=None if bench.dry else training, users=int(train.shape[0]), batch=batch,
    )  # fmt: skip


def stored(arrays: Any, name: str) -> csr_array:
    indices, indptr, shape = (arrays[f"{name}_{part}"] for part in ("indices", "indptr", "shape"))
    return csr_array((np.ones(len(indices), np.float32), indices, indptr), shape=tuple(shape))


def prepare(source: str, target: str, min_rating: float | None) -> None:
    """Write the split of an interaction file that `--data` reads, by the mult-vae protocol."""
    import recae

    data = recae.read_interactions(source, min_rating=min_rating)
    split = recae.split(data, "mult-vae", held_out_users=1000)
    assert split.validation is not None
    matrices = {
        "train": split.train.matrix,
        "fold_in": split.validation.fold_in.matrix,
        "targets": split.validation.target,
    }
    arrays = {
        f"{name}_{part}": np.asarray(getattr(matrix, part))
        for name, matrix in matrices.items()
        for part in ("indices", "indptr", "shape")
    }
    np.savez_compressed(target, **arrays)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="JSON of what was found")
    parser.add_argument(
        "--dry-run", action="store_true", help="every part on the CPU, tiny, untimed"
    )
    parser.add_argument("--data", type=Path, help="prepared data for a run to the best score")
    parser.add_argument("--prepare", nargs=2, metavar=("FILE", "OUT"), help="prepare data, and end")
    parser.add_argument("--min-rating", type=float, help="ratings that count, with --prepare")
    parser.add_argument("--seconds", type=float, default=440, help="start no part after this time")
    args = parser.parse_args()
    if args.prepare:
        prepare(*args.prepare, args.min_rating)
        return 0
    if not args.dry_run and not torch.cuda.is_available():
        print("no CUDA device is here: nothing was measured; --dry-run tries every part")
        return 2
    bench = Bench(args)
    for name, run in (
        ("ceilings", ceilings), ("correct", check_steps), ("epochs", epochs),
        ("kernels", kernel_times), ("large", large), ("recommending", recommending),
        ("to_target", to_target), ("tiles", tiles),
    ):  # fmt: skip
        bench.part(name, run)
    print("failed:", ", ".join(bench.failed) or "nothing")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
