"""The data that all contenders get: a made-up matrix, and for some people a part held out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from scipy.sparse import csr_array, save_npz

from recae.data.synthetic import MatrixShape, ml20m_shape

SEED = 0
HELD_OUT = 0.2  # of the history of each person who is evaluated


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, in numbers."""

    n_users: int
    n_items: int
    n_train: int
    n_people: int
    n_targets: int


def write_data(folder: Path, shape: MatrixShape, n_people: int) -> Written:
    """Write ``train.npz``, ``people.npy``, ``target.npz`` and the same for RecBole.

    The target of each of `n_people` random users with at least five interactions is a fifth of
    them, at random; the training matrix is all the rest, of all users.
    """
    matrix = ml20m_shape(SEED, shape)
    rng = np.random.default_rng(SEED)
    able = np.flatnonzero(np.diff(matrix.indptr) >= 5)
    people = np.sort(rng.choice(able, n_people, replace=False))
    held = np.zeros(matrix.nnz, dtype=bool)
    for user in people:
        start, end = matrix.indptr[user], matrix.indptr[user + 1]
        held[start + rng.permutation(end - start)[: int(HELD_OUT * (end - start))]] = True
    train, target = _kept(matrix, ~held), _kept(matrix, held)
    save_npz(folder / "train.npz", train, compressed=False)
    save_npz(folder / "target.npz", target[people], compressed=False)
    np.save(folder / "people.npy", people)
    (folder / "n_items").write_text(str(shape.n_items))
    atomic = folder / "bench"
    atomic.mkdir()
    nothing = csr_array(matrix.shape, dtype=np.float32)
    for name, part in (("train", train), ("none", nothing), ("target", target)):
        _write_atomic(atomic / f"bench.{name}.inter", part)
    return Written(*map(int, matrix.shape), int(train.nnz), n_people, int(target.nnz))


def _kept(matrix: csr_array, keep: np.ndarray) -> csr_array:
    kept = matrix.copy()
    kept.data = keep.astype(np.float32)
    kept.eliminate_zeros()
    return kept


def _write_atomic(path: Path, matrix: csr_array) -> None:
    """Write what RecBole calls an atomic file."""
    entries = matrix.tocoo()
    table = pa.table({"user_id:token": entries.row, "item_id:token": entries.col})
    options = pa_csv.WriteOptions(delimiter="\t", quoting_style="none", quoting_header="none")
    pa_csv.write_csv(table, path, options)
