"""recae, and the textbook script beside it, as contenders of train_peers.py.

    python with_recae.py train DATA recae|textbook float32|bfloat16 BATCH
    python with_recae.py model DATA

``train``: `recae.training.Trainer`, all of it, on all users: the epoch's order, the gathering of
rows, the loss, the update. Steps are told apart by the calls of the network's loss. ``textbook`` is
the step of `textbook.py` over batches of a permutation.

``model``: `recae.MultVAE` after one epoch, through the public API: `recae.evaluate` of the people
held out, and `recommend` of ten items to the first people, seen items left out.
"""

import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from orders import Done, Orders, Stopwatch, Windows
from scipy.sparse import csr_array, load_npz
from textbook import BETA, DROPOUT, HIDDEN, LATENT, textbook

import recae
from recae.data.histories import Histories, canonical_csr
from recae.models.mult_vae import MultVAENetwork
from recae.training.config import TrainingConfig
from recae.training.trainer import Trainer

METRICS = ("recall-all@20", "recall-all@50", "ndcg@100")


def matrix(path: Path) -> csr_array:
    return canonical_csr(csr_array(load_npz(path)))


def train(orders: Orders, data: Path, which: str, precision: str, batch: int) -> None:
    rows = matrix(data / "train.npz")
    windows = Windows(orders, batch)
    if which == "textbook":
        step = textbook(rows, precision)
        rng = np.random.default_rng(0)
        orders.answer(ready=True)
        while True:
            order = rng.permutation(rows.shape[0])
            for start in range(0, len(order), batch):
                users = order[start : start + batch]
                windows.step(len(users))
                step(users, 0)
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
    loss = network.loss

    def counted(x, *, step, rng):
        windows.step(len(x))
        return loss(x, step=step, rng=rng)

    network.loss = counted
    config = TrainingConfig(epochs=1_000_000, batch_size=batch, device="cpu", precision=precision)
    orders.answer(ready=True)
    Trainer(config).fit(network, Histories(rows))


def model(orders: Orders, data: Path) -> None:
    rows = matrix(data / "train.npz")
    n_users, n_items = rows.shape
    interactions = recae.Interactions(
        matrix=rows,
        users=recae.IdMap(map(str, range(n_users))),
        items=recae.IdMap(map(str, range(n_items))),
        order=np.arange(rows.nnz),
    )
    watch = Stopwatch()
    fitted = recae.MultVAE(
        hidden=(HIDDEN,),
        latent_dim=LATENT,
        epochs=1,
        batch_size=500,
        device="cpu",
    ).fit(interactions)
    people = np.load(data / "people.npy")
    held_out = recae.HeldOut(
        fold_in=interactions.take_users(people).histories(),
        target=matrix(data / "target.npz"),
        users=recae.IdMap(map(str, people)),
    )
    np.savez(data / "weights.npz", **fitted.arrays())
    orders.answer(ready=True, fit_seconds=watch.read()["seconds"])
    histories = interactions.histories()
    while (order := orders.peek()) is not None:
        orders.take()
        if order["do"] == "evaluate":
            watch = Stopwatch()
            report = recae.evaluate(fitted, held_out, metrics=METRICS)
            taken = watch.read()
            figures = {name: report[name].mean for name in METRICS}
            orders.answer(users=len(held_out), figures=figures, **taken)
        else:
            asked = histories.take(slice(0, order["users"]))
            watch = Stopwatch()
            lists = fitted.recommend(asked, k=10)
            taken = watch.read()
            assert (lists.items >= 0).all()
            orders.answer(users=len(asked), **taken)


def main() -> None:
    kind, data, *rest = sys.argv[1:]
    orders = Orders()
    if kind == "model":
        model(orders, Path(data))
        return
    which, precision, batch = rest
    with suppress(Done):
        train(orders, Path(data), which, precision, int(batch))


if __name__ == "__main__":
    main()
