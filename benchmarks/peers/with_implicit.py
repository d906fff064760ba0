"""ALS of implicit with 128 factors as a contender of train_peers.py.

    python with_implicit.py DATA

`recommend` of ten items to the first people in one call, seen items left out, all cores; OpenBLAS
has one thread, as implicit asks for. The rows of these people are cut out before the clock starts.
"""

import sys
from pathlib import Path

import numpy as np
from implicit.als import AlternatingLeastSquares
from orders import Orders, Stopwatch
from scipy.sparse import csr_matrix, load_npz


def main() -> None:
    data = Path(sys.argv[1])
    orders = Orders()
    rows = csr_matrix(load_npz(data / "train.npz"))
    watch = Stopwatch()
    model = AlternatingLeastSquares(factors=128, iterations=3, random_state=0)
    model.fit(rows, show_progress=False)
    orders.answer(ready=True, fit_seconds=watch.read()["seconds"])
    while (order := orders.peek()) is not None:
        orders.take()
        people = np.arange(min(order["users"], rows.shape[0]))
        seen = rows[people]
        watch = Stopwatch()
        items, _ = model.recommend(people, seen, N=10, filter_already_liked_items=True)
        taken = watch.read()
        assert items.shape == (len(people), 10)
        orders.answer(users=len(people), **taken)


if __name__ == "__main__":
    main()
