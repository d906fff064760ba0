"""Interactions built from a frame by the shortest route, for tests that need no reader."""

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from recae.data.ids import IdMap
from recae.data.interactions import Interactions


def interactions_from(frame: pd.DataFrame) -> Interactions:
    """Columns ``user``, ``item``, if there ``time`` (microseconds) and ``part``; no repeats."""
    users, user_ids = pd.factorize(frame["user"])
    items, item_ids = pd.factorize(frame["item"])
    entries = np.lexsort((items, users))
    indptr = np.concatenate(([0], np.cumsum(np.bincount(users, minlength=len(user_ids)))))
    matrix = csr_array(
        (np.ones(len(frame), dtype=np.float32), items[entries], indptr.astype(np.int64)),
        shape=(len(user_ids), len(item_ids)),
    )
    matrix.has_canonical_format = True

    def column(name, dtype):
        return frame[name].to_numpy(dtype)[entries] if name in frame else None

    return Interactions(
        matrix=matrix,
        users=IdMap([str(u) for u in user_ids]),
        items=IdMap([str(i) for i in item_ids]),
        order=entries.astype(np.int64),
        times=column("time", np.int64),
        part=column("part", np.int8),
    )
