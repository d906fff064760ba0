"""VAECF of Cornac as a contender of train_peers.py.

    python with_cornac.py DATA BATCH

`VAECF(...).fit`, all of it, on all users: its data set, its iterator over users (in their order,
as it does), its dense rows, its loss, its `torch.optim.Adam`. Steps are told apart by what its
iterator hands out. Widths 600 and 200, multinomial likelihood; its own batch size is 100.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from cornac.data import Dataset
from cornac.models import VAECF
from orders import Done, Orders, Windows
from scipy.sparse import load_npz


class WatchedDataset(Dataset):
    """A data set that notes each batch of users it hands out."""

    windows: Windows

    def user_iter(self, batch_size: int = 1, shuffle: bool = False) -> Iterator[np.ndarray]:
        for users in super().user_iter(batch_size, shuffle):
            self.windows.step(len(users))
            yield users


def main() -> None:
    data, batch = Path(sys.argv[1]), int(sys.argv[2])
    orders = Orders()
    entries = load_npz(data / "train.npz").tocoo()
    n_users, n_items = entries.shape
    known = WatchedDataset(
        num_users=n_users,
        num_items=n_items,
        uid_map={str(u): u for u in range(n_users)},
        iid_map={str(i): i for i in range(n_items)},
        uir_tuple=(entries.row, entries.col, entries.data.astype(float)),
        seed=0,
    )
    known.windows = Windows(orders, batch)
    model = VAECF(
        k=200,
        autoencoder_structure=[600],
        act_fn="tanh",
        likelihood="mult",
        n_epochs=1_000_000,
        batch_size=batch,
        learning_rate=1e-3,
        beta=0.2,
        seed=0,
    )
    orders.answer(ready=True)
    with suppress(Done):
        model.fit(known)


if __name__ == "__main__":
    main()
