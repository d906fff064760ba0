"""MultiVAE of RecBole as a contender of train_peers.py.

    python with_recbole.py DATA

Training: `Trainer._train_epoch`, what `Trainer.fit` calls for an epoch, all of it: its loader of
users, its rating matrix from the table of padded histories, its loss, its `torch.optim.Adam`. Steps
are told apart by what its loader hands out. Evaluation: `Trainer.evaluate` of the people held out,
full ranking, 500 users a batch (its default, 4,096 scores a batch, is one user). Widths 600 and
200 (it halves `latent_dimension`). With ``weights`` it is given recae's, for the same lists.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from orders import Done, Orders, Stopwatch, Windows
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import MultiVAE
from recbole.trainer import Trainer

USERS_AT_ONCE = 500


def config(data: Path, n_items: int) -> Config:
    return Config(
        model="MultiVAE",
        dataset="bench",
        config_dict={
            "data_path": str(data),
            "benchmark_filename": ["train", "none", "target"],
            "load_col": {"inter": ["user_id", "item_id"]},
            "USER_ID_FIELD": "user_id",
            "ITEM_ID_FIELD": "item_id",
            "mlp_hidden_size": [600],
            "latent_dimension": 400,
            "dropout_prob": 0.5,
            "anneal_cap": 0.2,
            "learning_rate": 1e-3,
            "train_batch_size": 500,
            "train_neg_sample_args": None,
            "eval_batch_size": USERS_AT_ONCE * n_items,
            "eval_args": {
                "split": {"RS": [8, 1, 1]},
                "order": "RO",
                "group_by": "user",
                "mode": "full",
            },
            "metrics": ["Recall", "NDCG"],
            "topk": [20, 50, 100],
            "metric_decimal_place": 10,
            "valid_metric": "NDCG@100",
            "use_gpu": False,
            "show_progress": False,
            "save_dataset": False,
            "state": "ERROR",
            "checkpoint_dir": "checkpoints",
        },
    )


def take_weights(model: MultiVAE, dataset: Any, path: Path) -> None:
    """Give `model` the weights of recae.

    Its items are in another order, after a padding; one that nobody touched is not among them.
    """
    weights = {name: torch.from_numpy(value) for name, value in np.load(path).items()}
    tokens = dataset.field2id_token["item_id"][1:]
    ours = torch.tensor([int(token) for token in tokens])
    linear = [m for m in (*model.encoder, *model.decoder) if isinstance(m, torch.nn.Linear)]
    table, code, middle, output = linear
    with torch.no_grad():
        table.weight[:, 0] = 0
        table.weight[:, 1:] = weights["table.weight"][ours].T
        table.bias.copy_(weights["table.bias"])
        code.weight.copy_(weights["encoder.0.weight"])
        code.bias.copy_(weights["encoder.0.bias"])
        middle.weight.copy_(weights["decoder.0.weight"])
        middle.bias.copy_(weights["decoder.0.bias"])
        output.weight[1:] = weights["output.weight"][ours]
        output.bias[1:] = weights["output.bias"][ours]


def watched(loader: Any, windows: Windows) -> Iterator[Any]:
    """Batches of `loader`, epoch after epoch, until the orders want something else."""
    while True:
        for batch in loader:
            try:
                windows.step(len(batch))
            except Done:
                return
            yield batch


def main() -> None:
    data = Path(sys.argv.pop(1)).resolve()  # RecBole reads sys.argv
    orders = Orders()
    watch = Stopwatch()
    settings = config(data, int((data / "n_items").read_text()) + 1)
    dataset = create_dataset(settings)
    loader, _, held_out = data_preparation(settings, dataset)
    model = MultiVAE(settings, loader._dataset)
    trainer = Trainer(settings, model)
    orders.answer(ready=True, load_seconds=watch.read()["seconds"])
    while (order := orders.peek()) is not None:
        if order["do"] == "train":
            settings["train_batch_size"] = order["batch"]
            batches = type(loader)(settings, loader._dataset, None, shuffle=True)
            trainer._train_epoch(watched(batches, Windows(orders, order["batch"])), 0)
            continue
        orders.take()
        if order["do"] == "weights":
            take_weights(model, dataset, data / "weights.npz")
            orders.answer()
        else:
            watch = Stopwatch()
            figures = trainer.evaluate(held_out, load_best_model=False)
            orders.answer(users=len(held_out.uid_list), figures=dict(figures), **watch.read())


if __name__ == "__main__":
    main()
