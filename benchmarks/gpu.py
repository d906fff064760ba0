"""The device step on one GPU: is it right, how fast is it, and how far from what the chip can do.

One command, which needs numpy, scipy, torch, triton and jaxtyping, and takes under 8 minutes:

    python benchmarks/gpu.py --out gpu.json

Every part is written to the file as it ends; a part that fails is recorded with its error, and the
exit status is 1. Floors are counted (`gpu_bench.floors`) with rates measured in the same run.
``--dry-run`` runs every part on the CPU at tiny shapes and reports no time.

A run to the best validation score needs prepared data, made where `recae` is installed:

    python benchmarks/gpu.py --prepare interactions.parquet ml1m.npz --min-rating 4
    python benchmarks/gpu.py --data ml1m.npz --out gpu.json
"""

import argparse
import math
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_bench import Bench, ceilings, floors, network, steps_of, synthetic, timed
from gpu_kernels import kernel_times, tiles
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.models.tower import ExactTower
from recae.networks.kernels.in_torch import TorchKernels
from recae.ranking.propose import recommend_chunk, rows_at_once
from recae.ranking.topk import TopK


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
    # Moments as tests/kernels demand of gradients: at these shapes .4 % was found on a CPU.
    for precision, gradient, loss, weight in (
        ("float32", 1e-4, 1e-4, 5e-2), ("bfloat16", 1e-2, 3e-3, 0.3),
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


def epochs(bench: Bench) -> dict[str, Any]:
    """An epoch at ML-20M's shape, by batch size."""
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
