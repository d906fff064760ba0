"""Part of gpu.py: each kernel of a step alone, beside its floor, and the tiles of the largest."""

from typing import Any

import torch
from gpu_bench import DROPOUT, L2_BYTES, LATENT, Bench, network, steps_of, synthetic, timed

from recae.networks.device_path import DevicePath, StepEntries
from recae.training.device_steps import DeviceSteps


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
