"""Draws that depend on ids and a seed, not on the order of the input rows."""

import re

import numpy as np
from jaxtyping import Bool, Int64

from recae.data.ids import IdMap
from recae.data.interactions import Interactions

_PLAIN_INTEGER = re.compile(r"0|-?[1-9][0-9]*")


def id_order(ids: IdMap) -> Int64[np.ndarray, " n"]:
    """Sort `ids`: their indices, in ascending order of the ids.

    By value when every id is a plain decimal integer (``"9"`` before ``"10"``; no sign ``+``, no
    leading zero), else by code points, as a table with integer or text ids would be sorted.

    Examples
    --------
    >>> id_order(IdMap(["10", "9"])).tolist(), id_order(IdMap(["10", "9", "x"])).tolist()
    ([1, 0], [0, 1, 2])
    """
    texts = ids.to_arrow().to_pylist()
    plain = all(_PLAIN_INTEGER.fullmatch(text) for text in texts)
    keys = [int(text) for text in texts] if plain else texts
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)


def id_rank(ids: IdMap) -> Int64[np.ndarray, " n"]:
    """Position of each id in `id_order`."""
    rank = np.empty(len(ids), dtype=np.int64)
    rank[id_order(ids)] = np.arange(len(ids))
    return rank


def cut_sizes(lengths: Int64[np.ndarray, " users"], fraction: float) -> Int64[np.ndarray, " users"]:
    """Interactions to cut from histories of these lengths: the share rounded down, at least one.

    A history of one interaction is not cut, and a cut always leaves one.

    Examples
    --------
    >>> cut_sizes(np.array([0, 1, 2, 10, 14]), 0.2).tolist()
    [0, 0, 1, 2, 2]
    """
    wanted = np.maximum(1, np.floor(lengths * fraction).astype(np.int64))
    return np.where(lengths < 2, 0, np.minimum(wanted, lengths - 1))


def draw_from_rows(
    data: Interactions,
    eligible: Bool[np.ndarray, " nnz"],
    fraction: float,
    rng: np.random.Generator,
) -> Bool[np.ndarray, " nnz"]:
    """Draw a share of the eligible entries of each user, without replacement.

    Which ones depends on the ids, the eligible entries and `rng` only: entries get their random
    numbers in the order of user id and item id, whatever the order of the input rows.

    Returns
    -------
    Mask of the drawn entries; `cut_sizes` of them in each row.
    """
    entries = np.flatnonzero(eligible)
    rows = np.repeat(np.arange(data.n_users), np.diff(data.matrix.indptr))[entries]
    by_id = np.lexsort(
        (id_rank(data.items)[data.matrix.indices[entries]], id_rank(data.users)[rows])
    )
    keys = np.empty(len(entries))
    keys[by_id] = rng.random(len(entries))
    shuffled = np.lexsort((keys, rows))
    lengths = np.bincount(rows, minlength=data.n_users)
    starts = np.cumsum(lengths) - lengths
    place = np.arange(len(entries)) - np.repeat(starts, lengths)
    drawn = np.zeros(len(eligible), dtype=np.bool_)
    drawn[entries[shuffled[place < np.repeat(cut_sizes(lengths, fraction), lengths)]]] = True
    return drawn
