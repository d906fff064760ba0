"""One training step of Mult-VAE, plain and fast, side by side in one process.

    python benchmarks/train_step.py [--repeats 9] [--out benchmarks/results/train_step.json]

Contenders, all with widths items - 600 - 200 - 600 - items and the same rows, in turn, medians:

- ``textbook``: the sixty lines that one would write (`textbook.py`);
- ``plain``: `recae`'s reference, the same dense equations (`path="plain"`);
- ``gathered``: without dense histories (`path="gathered"`);
- ``fast``: the same numbers by blocks (`path="fast"`);

each in float32 and with bfloat16 products (autocast but for the last). A step is everything from
the list of users to the updated weights. The floor is counted, see `rates.floor`. Needs minutes and
no peers; `train_peers.py` measures whole trainers, and what the project promises.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from rates import best, floor, floor_seconds, machine, rates
from scipy.sparse import csr_array
from textbook import BETA, CPU, DROPOUT, HIDDEN, LATENT, textbook

from recae.data.synthetic import MatrixShape, ml20m_shape
from recae.networks.mult_vae import MultVAENetwork
from recae.training.device import autocast
from recae.training.heap import steady_heap
from recae.training.optimiser import Optimiser
from recae.training.rows import DeviceRows

Step = Callable[[np.ndarray, int], None]
PER_USER = 73  # interactions, as in ML-20M


def ours(rows: csr_array, precision: str, path: str, batch: int) -> Step:
    network = MultVAENetwork(
        rows.shape[1],
        hidden=(HIDDEN,),
        latent_dim=LATENT,
        dropout=DROPOUT,
        weight_decay=0.0,
        beta_cap=BETA,
        anneal_steps=0,
        rng=torch.Generator().manual_seed(0),
    )
    optimiser = Optimiser(
        network,
        path=path,  # type: ignore[arg-type]
        learning_rate=1e-3,
        precision=precision,  # type: ignore[arg-type]
        entries=batch * rows.nnz / rows.shape[0],
        every_step=False,
    )
    resident = DeviceRows(rows, CPU)

    def step(users: np.ndarray, number: int) -> None:
        x = resident.batch(torch.from_numpy(users))
        with autocast(precision, CPU):
            loss = network.loss(x, step=number, rng=torch.Generator().manual_seed(number))
        assert torch.isfinite(loss.total).item()
        optimiser.minimise(loss.total)
        if path == "fast" and number == 0:  # memory is being counted: nothing may lie ready
            network.path.softmax.lend(0, CPU)  # type: ignore[union-attr]  # set by the optimiser

    return step


def contenders(rows: csr_array, batch: int) -> dict[str, Step]:
    found: dict[str, Step] = {}
    for name, precision in (("fp32", "float32"), ("bf16", "bfloat16")):
        found[f"textbook_{name}"] = textbook(rows, precision)
        for path in ("plain", "gathered", "fast"):
            found[f"{path}_{name}"] = ours(rows, precision, path, batch)
    return found


def peak_bytes(step: Step, users: np.ndarray) -> int:
    """Most memory that a step holds beyond what it found: allocations as torch counts them."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    step(users, 0)
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiled:
        step(users, 0)
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]  # it has run
    held = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    assert held
    return int(np.cumsum([size for _, size in held]).max())


def made_up(batch: int, n_items: int) -> csr_array:
    """Rows for four batches."""
    n_users = 4 * batch
    return ml20m_shape(
        batch, MatrixShape(n_users=n_users, n_items=n_items, n_interactions=PER_USER * n_users)
    )


def extra_bytes(batch: int, n_items: int) -> dict[str, int]:
    """Memory of a step of every contender, see `peak_bytes`."""
    users = np.arange(batch)
    return {
        name: peak_bytes(step, users)
        for name, step in contenders(made_up(batch, n_items), batch).items()
    }


def measure(batch: int, n_items: int, repeats: int) -> dict[str, dict[str, object]]:
    """Median and quartiles of every contender."""
    rng = np.random.default_rng(batch)
    running = contenders(made_up(batch, n_items), batch)
    taken: dict[str, list[float]] = {name: [] for name in running}
    worked: dict[str, list[float]] = {name: [] for name in running}
    for number in range(1, repeats + 2):
        users = rng.permutation(4 * batch)[:batch]
        for name, step in running.items():
            # PyTorch alone for those that are; `Trainer` keeps the heap for an epoch
            alone = name.startswith(("textbook", "plain"))
            with nullcontext() if alone else steady_heap():
                step(users, number)  # takes the memory that the measured one finds
                started, cpu = time.perf_counter(), time.process_time()
                step(users, number)
                taken[name].append(time.perf_counter() - started)
                worked[name].append(time.process_time() - cpu)
    found: dict[str, dict[str, object]] = {}
    for name, times in taken.items():
        low, middle, high = statistics.quantiles(times[1:], n=4)
        found[name] = {
            "seconds": middle,
            "seconds_quartiles": [low, high],
            "cpu_seconds": statistics.median(worked[name][1:]),
            "users_s": batch / middle,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", default=[500, 2048])
    parser.add_argument("--items", type=int, default=20_108)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only-memory", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result: dict[str, object] = {"machine": machine(), "n_items": args.items}
    ratios: dict[str, float] = {}
    for batch in args.batches:
        extra = extra_bytes(batch, args.items)
        for name, size in extra.items():
            print(f"{batch:5} {name:14} {size / 1e6:8.1f} MB beyond what it found")
        result[f"b{batch}"] = {"extra_bytes": extra}
        if args.only_memory:
            continue
        before = rates(batch)
        steps = measure(batch, args.items, args.repeats)
        ceilings = best([before, rates(batch)])
        floors = {name: floor(ceilings, name, batch, args.items) for name in ("fp32", "bf16")}
        result[f"b{batch}"] |= {"rates": ceilings, "floor": floors, "steps": steps}  # type: ignore[operator]
        for name, found in steps.items():
            wall, cpu = 1e3 * found["seconds"], 1e3 * found["cpu_seconds"]  # type: ignore[operator]
            print(f"{batch:5} {name:14} {wall:8.1f} ms, {cpu:8.1f} of CPU")
        time_of = {name: float(found["seconds"]) for name, found in steps.items()}  # type: ignore[arg-type]
        for precision in ("fp32", "bf16"):
            fast = time_of[f"fast_{precision}"]
            for other in ("gathered", "plain", "textbook"):
                name = f"ratio_{other}_{precision}_b{batch}"
                ratios[name] = time_of[f"{other}_{precision}"] / fast
            name = f"over_floor_{precision}_b{batch}"
            ratios[name] = fast / floor_seconds(floors[precision])
        ratios[f"extra_memory_b{batch}"] = extra["fast_bf16"] / extra["plain_fp32"]
    result["ratios"] = ratios
    for name, value in ratios.items():
        print(f"{name:28} {value:6.2f}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
