"""Full-ranking evaluation and batch recommendation of Mult-VAE: users a second, and memory.

    python benchmarks/score.py [--repeats 5] [--out benchmarks/results/score.json]

`evaluate` of 10,000 people by Recall@20, Recall@50 and NDCG@100, and ten unseen items for 20,000
people written to a Parquet file, on a matrix of the size of ML-20M, widths 600 and 200; with random
weights, and after training on some of the users. In turn with float32 proposals, which give the
same lists. Then the same file for some people out of a million items. Each setting is a process of
its own, so its peak of memory is its own: weights, histories and what ranking takes.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from peers.orders import peak_gb
from rates import best, machine, rates
from scipy.sparse import csr_array, load_npz, save_npz

import recae
from recae.data.histories import canonical_csr
from recae.data.synthetic import MatrixShape, ml20m_shape
from recae.machine import resident_bytes
from recae.models.mult_vae import MultVAENetwork
from recae.serving.batch import Asked, write_recommendations

METRICS = ("recall@20", "recall@50", "ndcg@100")
K = 10
MILLION = MatrixShape(n_users=20_000, n_items=1_000_000, n_interactions=1_000_000, n_tastes=0)
WIDTHS = {"random": (600, 200), "trained": (600, 200), "million": (200, 100)}
TRAINED_USERS, TRAINED_EPOCHS = 20_000, 2
HELD_OUT = 0.2


def ids(n: int) -> recae.IdMap:
    return recae.IdMap(map(str, range(n)))


def fitted(setting: str, rows: csr_array) -> recae.MultVAE:
    """A model whose weights are random, or trained on the last rows."""
    hidden, latent = WIDTHS[setting]
    n_users, n_items = min(TRAINED_USERS, rows.shape[0]), rows.shape[1]
    if setting == "trained":
        some = rows[-n_users:]
        interactions = recae.Interactions(
            matrix=canonical_csr(some),
            users=ids(n_users),
            items=ids(n_items),
            order=np.arange(some.nnz),
        )
        return recae.MultVAE(
            hidden=(hidden,), latent_dim=latent, epochs=TRAINED_EPOCHS, batch_size=500
        ).fit(interactions)
    network = MultVAENetwork(
        n_items,
        hidden=(hidden,),
        latent_dim=latent,
        dropout=0.5,
        weight_decay=0.0,
        beta_cap=0.2,
        anneal_steps=0,
        rng=torch.Generator().manual_seed(0),
    )
    arrays = {name: p.detach().numpy() for name, p in network.named_parameters()}
    config = recae.MultVAE(hidden=(hidden,), latent_dim=latent).config
    return recae.MultVAE.from_arrays(config, arrays)


def held_out(rows: csr_array) -> recae.HeldOut:
    """A fifth of each history as targets."""
    there = np.random.default_rng(0).random(rows.nnz) < HELD_OUT
    parts = []
    for keep in (~there, there):
        part = rows.copy()
        part.data = keep.astype(np.float32)
        parts.append(canonical_csr(part))
    return recae.HeldOut(
        fold_in=recae.Histories(parts[0]), target=parts[1], users=ids(rows.shape[0])
    )


@contextmanager
def float32_proposals(model: recae.MultVAE) -> Iterator[None]:
    """Propose as on a processor that does not multiply 8-bit integers."""
    table = model.ranking.table
    rounded, table.rounded = table.rounded, None
    yield
    table.rounded = rounded


def measure(setting: str, data: Path, people: int, repeats: int) -> dict[str, object]:
    """Rates of one setting, in this process."""
    rows = canonical_csr(csr_array(load_npz(data)))
    model = fitted(setting, rows)
    n_items = rows.shape[1]
    if model.ranking.table.rounded is None:
        print("no products of 8-bit integers here: both ways are one", file=sys.stderr)
    written = data.with_name("lists.parquet")
    asked = Asked(model=model, items=ids(n_items), k=K)
    asking, users = recae.Histories(rows).take(slice(0, 2 * people)), ids(2 * people)
    judged = held_out(rows[:people])
    work: dict[str, tuple[int, Callable[[], object]]] = {
        "recommend": (
            2 * people,
            lambda: write_recommendations(asked, [(asking, users)], written, file_format="parquet"),
        )
    }
    if setting != "million":
        work["evaluate"] = (people, lambda: recae.evaluate(model, judged, metrics=METRICS))
    before = resident_bytes()
    taken: dict[str, list[tuple[float, float]]] = {}
    for _ in range(1 + repeats):
        for name, (_, run) in work.items():
            taken.setdefault(name, []).append(timed(run))
        peak = 1e9 * peak_gb()  # before float32 has run, in the first turn
        taken.setdefault("peak", []).append((peak, before))
        with float32_proposals(model):
            for name, (_, run) in work.items():
                taken.setdefault(f"{name}_float32", []).append(timed(run))
    peak, before = map(int, taken.pop("peak")[0])
    found: dict[str, object] = {"peak_bytes": peak, "before_bytes": before}
    for name, times in taken.items():
        n_users = work[name.removesuffix("_float32")][0]
        wall, worked = zip(*times[1:], strict=True)
        low, middle, high = statistics.quantiles(wall, n=4)
        found[name] = {
            "users": n_users,
            "seconds": middle,
            "seconds_quartiles": [low, high],
            "cpu_seconds": statistics.median(worked),
            "users_s": n_users / middle,
        }
    return found


def timed(run: Callable[[], object]) -> tuple[float, float]:
    started, worked = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - started, time.process_time() - worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--settings", nargs="+", choices=sorted(WIDTHS), default=sorted(WIDTHS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/score.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        setting, data = args.child
        print(json.dumps(measure(setting, Path(data), args.people, args.repeats)))
        return
    result: dict[str, object] = {"machine": machine(), "k": K, "metrics": METRICS}
    ceilings = [rates(384)]
    with tempfile.TemporaryDirectory() as folder:
        for setting in args.settings:
            people = args.people // 10 if setting == "million" else args.people
            data = Path(folder) / f"{setting}.npz"
            matrix = ml20m_shape(0, MILLION) if setting == "million" else ml20m_shape(0)
            save_npz(data, matrix[: 2 * people + TRAINED_USERS], compressed=False)
            options = {"--people": people, "--repeats": args.repeats, "--threads": args.threads}
            command = [sys.executable, __file__, *(str(x) for o in options.items() for x in o)]
            child = subprocess.run(
                [*command, "--child", setting, str(data)], check=True, stdout=subprocess.PIPE
            )
            found = json.loads(child.stdout)
            data.unlink()
            ceilings.append(rates(384))
            for name, figures in found.items():
                if isinstance(figures, dict):
                    per_user = 1e6 * figures["cpu_seconds"] / figures["users"]
                    print(
                        f"{setting:8} {name:18} {figures['users_s']:8.0f} users/s,"
                        f" {per_user:6.0f} us of CPU a user"
                    )
            added = (found["peak_bytes"] - found["before_bytes"]) / 1e6
            print(f"{setting:8} peak {found['peak_bytes'] / 1e9:.2f} GB, {added:.0f} MB by ranking")
            result[setting] = found
    result["rates"] = best(ceilings)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
