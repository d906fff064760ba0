"""One training step of Mult-VAE, plain and fast, side by side in one process.

    python benchmarks/train_step.py [--repeats 9] [--out benchmarks/results/train_step.json]

Contenders, all with widths items - 600 - 200 - 600 - items and the same rows, in turn, medians:

- ``textbook``: the sixty lines that one would write: dense rows, `torch.optim.Adam` as it comes;
- ``plain``: `recae`'s equations as written (`path="plain"`);
- ``fast``: the same numbers by blocks (`path="fast"`);

each in float32 and with bfloat16 products (autocast for the first two). A step is everything from
the list of users to the updated weights. The floor is counted: arithmetic, optimiser traffic and
exponentials at the rates that this run measures for each alone.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from recae.networks.mult_vae import MultVAENetwork
from recae.training.device import autocast
from recae.training.optimiser import Optimiser
from recae.training.rows import DeviceRows

CPU = torch.device("cpu")
HIDDEN, LATENT, DROPOUT, BETA = 600, 200, 0.5, 0.2
TARGETS = {  # on a processor with AVX512-BF16 and without AMX
    "ratio_textbook_bf16_b500": (">=", 3.6),
    "ratio_textbook_bf16_b2048": (">=", 4.2),
    "ratio_textbook_fp32": (">=", 2.8),
    "plain_of_textbook_fp32": (">=", 0.95),
    "extra_memory": ("<=", 0.25),
    "over_floor_b500": ("<=", 1.4),
    "over_floor_b2048": ("<=", 1.35),
}


class Textbook(nn.Module):
    """Mult-VAE on dense rows, as in most of the code one finds."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(n_items, HIDDEN)
        self.code = nn.Linear(HIDDEN, 2 * LATENT)
        self.decoder = nn.Linear(LATENT, HIDDEN)
        self.output = nn.Linear(HIDDEN, n_items)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = nn.functional.dropout(nn.functional.normalize(x), DROPOUT, self.training)
        h = torch.tanh(self.encoder(h))
        mu, log_var = self.code(h).chunk(2, dim=1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
        return self.output(torch.tanh(self.decoder(z))), mu, log_var


def textbook(rows: csr_array, precision: str) -> Callable[[np.ndarray, int], None]:
    with torch.random.fork_rng():
        model = Textbook(rows.shape[1])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(users: np.ndarray, _: int) -> None:
        x = torch.from_numpy(rows[users].toarray())
        with autocast(precision, CPU):
            logits, mu, log_var = model(x)
            nll = -(torch.log_softmax(logits, dim=1) * x).sum(dim=1).mean()
            kl = -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum(dim=1).mean()
            loss = nll + BETA * kl
        assert torch.isfinite(loss).item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def ours(
    rows: csr_array, precision: str, path: str, batch: int
) -> Callable[[np.ndarray, int], None]:
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
            network.fast.softmax.lend(0, CPU)  # type: ignore[union-attr]  # set by the optimiser

    return step


def peak_bytes(step: Callable[[np.ndarray, int], None], users: np.ndarray) -> int:
    """Most memory that a step holds beyond what it found: allocations as torch counts them."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    step(users, 0)
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiled:
        step(users, 0)
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]  # it has run
    held = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    assert held
    return int(np.cumsum([size for _, size in held]).max())


def synthetic_rows(n_users: int, n_items: int, rng: np.random.Generator) -> csr_array:
    """Rows of the size of ML-20M's: median 48 items, over a long tail."""
    weights = rng.permutation(1 / np.arange(1, n_items + 1) ** 0.8)
    edges = np.cumsum(weights / weights.sum())
    lengths = np.clip(np.exp(rng.normal(np.log(48), 0.9, n_users)), 5, n_items // 7).astype(int)
    rows = [np.unique(np.searchsorted(edges[:-1], rng.random(n))) for n in lengths]
    starts = np.cumsum([0, *map(len, rows)])
    return csr_array(
        (np.ones(starts[-1], np.float32), np.concatenate(rows), starts), shape=(n_users, n_items)
    )


def seconds(run: Callable[[], object], repeats: int = 7) -> float:
    """Best of some runs, for a rate."""
    run()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return min(taken)


def ceilings(batch: int) -> dict[str, float]:
    """Rates of this machine, each alone: FLOP, bytes, numbers a second."""
    found: dict[str, float] = {}
    rng = torch.Generator().manual_seed(0)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        rates = []
        for m, k, n in ((2048, 2048, 2048), (2048, HIDDEN, batch), (2048, batch, HIDDEN)):
            a = torch.randn(m, k, generator=rng).to(dtype)
            b = torch.randn(k, n, generator=rng).to(dtype)
            out = torch.empty(m, n, dtype=dtype)
            rates.append(2 * m * k * n / seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out)))
        found[f"{name}_flop_s"] = max(rates)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        e = -torch.rand(1 << 20, generator=rng).to(dtype)
        out = torch.empty_like(e)
        found[f"{name}_exp_s"] = len(e) / seconds(lambda e=e, out=out: torch.exp(e, out=out))
    source = torch.zeros(1 << 26)
    target = torch.empty_like(source)
    found["copy_bytes_s"] = 2 * source.nbytes / seconds(lambda: target.copy_(source))
    table = nn.Parameter(torch.randn(12_000_000, generator=rng))
    table.grad = torch.randn(12_000_000, generator=rng)
    adam = torch.optim.Adam([table], fused=True)
    found["adam_bytes_s"] = 28 * table.numel() / seconds(adam.step)
    return found


def floor(rates: dict[str, float], name: str, batch: int, n_items: int) -> float:
    """Seconds of a step that only computes, moves the optimiser's state, and exponentiates."""
    middle = HIDDEN * 2 * LATENT + LATENT * HIDDEN
    flop = 6 * batch * (HIDDEN * n_items + middle)
    adam = 30 * (2 * HIDDEN * n_items + middle)  # 28 bytes a weight, and 2 for the rounded copy
    exponentials = batch * n_items / rates[f"{name}_exp_s"]
    return flop / rates[f"{name}_flop_s"] + adam / rates["adam_bytes_s"] + exponentials


def processor() -> dict[str, object]:
    info = Path("/proc/cpuinfo")
    fields: dict[str, str] = {}
    if info.exists():
        pairs = (line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in pairs}
    flags = fields.get("flags", "").split()
    return {
        "processor": fields.get("model name", platform.processor()),
        "instructions": [f for f in flags if f.startswith(("avx512", "amx", "avx2", "avx_vnni"))],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": platform.platform(),
    }


def measure(batch: int, n_items: int, repeats: int) -> dict[str, dict[str, float]]:
    """Median, quartiles and memory of every contender."""
    rng = np.random.default_rng(batch)
    rows = synthetic_rows(4 * batch, n_items, rng)
    contenders: dict[str, Callable[[np.ndarray, int], None]] = {}
    for name, precision in (("fp32", "float32"), ("bf16", "bfloat16")):
        contenders[f"textbook_{name}"] = textbook(rows, precision)
        contenders[f"plain_{name}"] = ours(rows, precision, "plain", batch)
        contenders[f"fast_{name}"] = ours(rows, precision, "fast", batch)
    found = {
        name: {"extra_bytes": float(peak_bytes(step, np.arange(batch)))}
        for name, step in contenders.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    worked: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(1, repeats + 2):
        users = rng.permutation(4 * batch)[:batch]
        for name, step in contenders.items():
            started, cpu = time.perf_counter(), time.process_time()
            step(users, number)
            taken[name].append(time.perf_counter() - started)
            worked[name].append(time.process_time() - cpu)
    for name, times in taken.items():
        low, middle, high = statistics.quantiles(times[1:], n=4)
        found[name] |= {
            "seconds": middle,
            "seconds_quartiles": [low, high],  # type: ignore[dict-item]  # two numbers
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
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result: dict[str, object] = {"machine": processor(), "n_items": args.items}
    keys: dict[str, float] = {}
    for batch in args.batches:
        before = ceilings(batch)
        steps = measure(batch, args.items, args.repeats)
        after = ceilings(batch)  # on a shared machine rates move: the best of both is the ceiling
        rates = {name: max(rate, after[name]) for name, rate in before.items()}
        for name in ("fp32", "bf16"):
            steps[f"floor_{name}"] = {"seconds": floor(rates, name, batch, args.items)}
        result[f"b{batch}"] = {"ceilings": rates, "steps": steps}
        for name, found in steps.items():
            wall, cpu = 1e3 * found["seconds"], 1e3 * found.get("cpu_seconds", 0)
            memory = found.get("extra_bytes", 0) / 1e6
            print(f"{batch:5} {name:14} {wall:8.1f} ms, {cpu:8.1f} of CPU, {memory:6.1f} MB extra")
        time_of = {name: found["seconds"] for name, found in steps.items()}
        for other in ("plain", "textbook"):
            keys[f"ratio_{other}_bf16_b{batch}"] = time_of[f"{other}_bf16"] / time_of["fast_bf16"]
        keys[f"over_floor_b{batch}"] = time_of["fast_bf16"] / time_of["floor_bf16"]
        if batch == args.batches[0]:
            for other in ("plain", "textbook"):
                keys[f"ratio_{other}_fp32"] = time_of[f"{other}_fp32"] / time_of["fast_fp32"]
            keys["plain_of_textbook_fp32"] = time_of["textbook_fp32"] / time_of["plain_fp32"]
            keys["extra_memory"] = (
                steps["fast_bf16"]["extra_bytes"] / steps["plain_bf16"]["extra_bytes"]
            )
            keys["extra_memory_textbook"] = (
                steps["fast_bf16"]["extra_bytes"] / steps["textbook_bf16"]["extra_bytes"]
            )
    result |= keys
    for key, value in keys.items():
        sign, bound = TARGETS.get(key, ("", 0.0))
        met = "" if not sign else "ok" if (value >= bound) == (sign == ">=") else "MISSED"
        print(f"{key:28} {value:6.2f}  {sign} {bound or '':4} {met}")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
