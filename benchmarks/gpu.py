"""The training step and the lists on a CUDA device: are they right, how fast, how much memory.

    python benchmarks/gpu.py [--seconds 360] [--out benchmarks/results/gpu.json]
    python benchmarks/gpu.py --dry-run

One command, which stops between parts once `--seconds` are over. Every part is written to the file
as it ends; a part that fails is recorded with its error, and the exit status is 1. ``--dry-run``
runs every part on the CPU at tiny shapes; its times mean nothing.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rates import machine
from scipy.sparse import csr_array

import recae
from recae.data.histories import Histories
from recae.data.synthetic import MatrixShape, ml20m_shape
from recae.models.mult_vae import MultVAENetwork
from recae.training.config import TrainingConfig
from recae.training.rows import DeviceRows
from recae.training.trainer import Trainer

HIDDEN, LATENT = 600, 200
STEPS = 60  # of an epoch that is timed


class Bench:
    """Shapes, and the device."""

    def __init__(self, *, dry: bool) -> None:
        self.dry = dry
        self.device = torch.device("cpu" if dry else "cuda")
        self.items = 300 if dry else 20_108
        self.many_items = 2_000 if dry else 1_000_000
        self.steps = 2 if dry else STEPS

    def rows(self, n_users: int, n_items: int) -> csr_array:
        n = (10 if self.dry else 73) * n_users
        return ml20m_shape(0, MatrixShape(n_users=n_users, n_items=n_items, n_interactions=n))

    def network(self, n_items: int, hidden: int = HIDDEN, latent: int = LATENT) -> MultVAENetwork:
        wide = {"hidden": (16,), "latent_dim": 8} if self.dry else {}
        options: Any = {"hidden": (hidden,), "latent_dim": latent} | wide
        return MultVAENetwork(
            n_items, dropout=0.5, weight_decay=0.0, beta_cap=0.2, anneal_steps=0,
            rng=torch.Generator().manual_seed(0), **options,
        )  # fmt: skip

    def train(
        self, rows: csr_array, network: MultVAENetwork, batch: int, **options: Any
    ) -> dict[str, Any]:
        """Figures of the second of two epochs."""
        config = TrainingConfig(epochs=2, batch_size=batch, device=self.device.type, **options)
        if not self.dry:
            torch.cuda.reset_peak_memory_stats()
        log = Trainer(config).fit(
            network.to(self.device), Histories(rows), steps_per_epoch=self.steps
        )
        seconds = log[-1].seconds
        peak = 0 if self.dry else torch.cuda.max_memory_allocated()
        return {
            "users_s": self.steps * batch / seconds,
            "step_ms": 1e3 * seconds / self.steps,
            "first_epoch_s": log[0].seconds,
            "peak_gb": peak / 1e9,
            "loss": log[-1].loss,
        }


def same_gradients(bench: Bench) -> dict[str, float]:
    """Loss and gradients of the device against the CPU's in float64, same mask and noise."""
    n_users, n_items = 64, 300
    matrix = bench.rows(n_users, n_items)
    rng = torch.Generator().manual_seed(1)
    found: dict[str, list[torch.Tensor]] = {}
    (x,) = DeviceRows(Histories(matrix), torch.device("cpu")).batch(np.arange(n_users))
    keep = x.uniform(rng) >= 0.5
    noise = x.normal(bench.network(n_items).latent_dim, rng)
    for name, device, dtype in (
        ("truth", torch.device("cpu"), torch.float64), ("found", bench.device, torch.float32),
    ):  # fmt: skip
        network = bench.network(n_items).to(device, dtype)
        (x,) = DeviceRows(Histories(matrix), device).batch(np.arange(n_users))
        given: Any = {"keep": keep.to(device), "noise": noise.to(device, dtype), "beta": 0.2}
        loss = network.loss_given(x, **given)["loss"]
        loss.backward()
        found[name] = [loss, *(p.grad for p in network.parameters() if p.grad is not None)]
    errors = [
        float((a.detach().double().cpu() - b.detach()).norm() / b.detach().norm())
        for a, b in zip(found["found"], found["truth"], strict=True)
    ]
    assert max(errors) < 1e-4, f"relative errors {errors}"
    return {"largest_relative_error": max(errors)}


def no_waits(bench: Bench) -> dict[str, int]:
    """Steps without the host waiting for the device: torch raises where it does."""
    rows, steps = bench.rows(2_000 if not bench.dry else 100, bench.items), 0
    batches = DeviceRows(Histories(rows), bench.device).epoch(0, 0, 50)
    network = bench.network(bench.items).to(bench.device)
    if not bench.dry:
        torch.cuda.set_sync_debug_mode("error")
    try:
        for step, (x,) in enumerate(batches):
            rng = torch.Generator(bench.device).manual_seed(step)
            network.loss(x, step=step, rng=rng)["loss"].backward()
            steps += 1
    finally:
        if not bench.dry:
            torch.cuda.set_sync_debug_mode("default")
    return {"steps": steps}


def steps(bench: Bench) -> dict[str, Any]:
    """Training at the shape of ML-20M by batch and precision, and with a compiled loss."""
    rows = bench.rows(400 if bench.dry else 60_000, bench.items)
    found = {}
    for batch in (50, 100) if bench.dry else (500, 2048, 8192):
        for precision in ("float32", "bfloat16"):
            name = f"batch {batch}, {precision}"
            found[name] = bench.train(rows, bench.network(bench.items), batch, precision=precision)
    if not bench.dry:  # compiling for a CPU needs a compiler
        network = bench.network(bench.items)
        found["batch 500, compiled"] = bench.train(rows, network, 500, compile=True)
    return found


def million(bench: Bench) -> dict[str, Any]:
    """Training over a million items, in slices."""
    rows = bench.rows(200 if bench.dry else 20_000, bench.many_items)
    network = bench.network(bench.many_items, hidden=200, latent=100)
    return bench.train(rows, network, 50 if bench.dry else 500)


def lists(bench: Bench) -> dict[str, Any]:
    """Evaluation and lists of people, by the public API."""
    n_users = 300 if bench.dry else 20_000
    matrix = bench.rows(n_users, bench.items)
    data = recae.Interactions(
        matrix=matrix,
        users=recae.IdMap(map(str, range(n_users))),
        items=recae.IdMap(map(str, range(bench.items))),
        order=np.arange(matrix.nnz),
    )
    split = recae.split(data, "strong", held_out_users=n_users // 4)
    model = recae.MultVAE(epochs=1, device=bench.device.type).fit(split.train)
    histories = split.train.histories()
    model.recommend(histories.take(slice(0, 100)), k=10)
    started = time.perf_counter()
    model.recommend(histories, k=10)
    listed = time.perf_counter()
    assert split.test is not None
    report = recae.evaluate(model, split.test, metrics=["ndcg@100"])
    evaluated = time.perf_counter()
    return {
        "lists_users_s": len(histories) / (listed - started),
        "evaluation_users_s": len(split.test) / (evaluated - listed),
        "ndcg@100": report["ndcg@100"].mean,
    }


PARTS: tuple[Callable[[Bench], dict[str, Any]], ...] = (
    same_gradients, no_waits, steps, million, lists,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seconds", type=float, default=360)
    parser.add_argument("--dry-run", action="store_true")
    out = Path(__file__).parent / "results" / "gpu.json"
    parser.add_argument("--out", type=Path, default=out)
    args = parser.parse_args()
    bench, ends = Bench(dry=args.dry_run), time.monotonic() + args.seconds
    if not args.dry_run and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --dry-run tries the script without one")
    device = None if args.dry_run else torch.cuda.get_device_name()
    result: dict[str, Any] = {"device": device, "machine": machine(), "parts": {}}
    failed = False
    for part in PARTS:
        if time.monotonic() > ends:
            result["parts"][part.__name__] = "not run: the time was over"
            continue
        started = time.monotonic()
        try:
            found: dict[str, Any] = part(bench)
        except Exception as error:  # noqa: BLE001  # the other parts are worth having
            traceback.print_exc()
            found, failed = {"error": f"{type(error).__name__}: {error}"}, True
        result["parts"][part.__name__] = {**found, "seconds": time.monotonic() - started}
        print(part.__name__, json.dumps(found), flush=True)
        if not args.dry_run:
            args.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
