"""Why an item scores what it does: what changes when an item is taken out of the history."""

import numpy as np
from jaxtyping import Float32, Float64, Int64
from scipy.sparse import csr_array

from recae.data.histories import Histories
from recae.ranking.recommender import Recommender


def leave_one_out(history: Histories, places: Int64[np.ndarray, " n"]) -> Histories:
    """One history whole, and then without each of its stored entries at `places`.

    Parameters
    ----------
    history
        One row.
    places
        Positions among its stored entries.

    Returns
    -------
    ``1 + n`` rows.
    """
    matrix = history.matrix
    kept = np.ones((1 + len(places), matrix.nnz), dtype=np.bool_)
    kept[np.arange(1, 1 + len(places)), places] = False
    entries = np.nonzero(kept)[1]
    indptr = np.concatenate(([0], np.cumsum(kept.sum(axis=1)))).astype(np.int64)
    rows = csr_array(
        (matrix.data[entries], matrix.indices[entries], indptr),
        shape=(len(kept), history.n_items),
    )
    return Histories(rows, None if history.order is None else history.order[entries])


def score_changes(
    model: Recommender,
    history: Histories,
    targets: Int64[np.ndarray, " targets"],
    places: Int64[np.ndarray, " n"],
) -> tuple[Float32[np.ndarray, " targets"], Float64[np.ndarray, "n targets"]]:
    """Exact scores of `targets`, and how much of each is lost without the entries at `places`.

    All by one call of the model over ``1 + n`` histories. The scores are those that rank, so a
    change is exactly the difference between two lists that people can get.

    Parameters
    ----------
    model
        A fitted model.
    history
        One row.
    targets
        Item indices.
    places
        Positions among the stored entries of the history, each left out once.

    Returns
    -------
    scores
        Of `targets` for the whole history.
    changes
        Score with the entry less the score without it: positive where the entry speaks for the
        target, 0 where the model does not look at it.
    """
    histories = leave_one_out(history, places)
    rows = np.repeat(np.arange(len(histories), dtype=np.int64), len(targets))
    exact = model.scorer(histories).exact(rows, np.tile(targets, len(histories)))
    scores = exact.reshape(len(histories), len(targets))
    changes: np.ndarray = scores[:1].astype(np.float64) - scores[1:].astype(np.float64)
    return scores[0], changes
