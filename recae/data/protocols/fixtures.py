"""The files of the Mult-VAE authors, rendered from a split: their hashes prove it exact."""

import hashlib
from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from recae.data.interactions import Interactions
from recae.data.protocols.drawing import id_order
from recae.data.split import HeldOut, Split
from recae.errors import ConfigError

# Of the copies in github.com/psywaves/EVCF, datasets/ML_20m, commit f2a62fb5.
ML_20M_SHA256 = {
    "unique_sid.txt": "b9f95107e156c2feaf78439ae302001abf13bdb480aeedcb0e4d8382f2f8b76f",
    "validation_te.csv": "bec3f6dfbe876ec2224e98458ffe2ff74c453ef1894644757c1e3ca747a26adf",
    "test_te.csv": "df4a9ddc77c79bab4a581adec7ff1487de146d47b42c35c393696842252435c2",
}


def published_files(split: Split, data: Interactions) -> Iterator[tuple[str, bytes]]:
    """Render ``unique_sid.txt``, ``validation_te.csv``, ``test_te.csv`` as the notebook does.

    ``unique_sid.txt`` lists the item ids of the vocabulary. The others are CSV with the header
    ``uid,sid``: user numbers of the permuted order (training users first, then validation, then
    test) and item numbers, users in ascending order of id, the items of a user in input order.

    Parameters
    ----------
    split
        What the protocol ``mult-vae`` made of `data`.
    data
        The same interactions: they know the input order.

    Raises
    ------
    ConfigError
        If the split is of another protocol or of other data.
    """
    if split.protocol != "mult-vae" or split.validation is None or split.test is None:
        raise ConfigError(
            f"the split is of protocol {split.protocol!r}; these files are of mult-vae"
        )
    if split.fingerprint != data.fingerprint():
        raise ConfigError("the split was made of other data than the interactions given")
    items = split.train.items.ids_at(range(len(split.train.items)))
    yield "unique_sid.txt", "".join(f"{item}\n" for item in items).encode()
    first_user = split.train.n_users
    for name, part in (("validation", split.validation), ("test", split.test)):
        yield f"{name}_te.csv", _target_csv(part, split, data, first_user).encode()
        first_user += len(part)


def fixture_hashes(split: Split, data: Interactions) -> dict[str, str]:
    """SHA-256, in hex, of each of the `published_files`.

    For MovieLens 20M, with ratings of 4 and more and the default options, they are `ML_20M_SHA256`.
    """
    return {name: hashlib.sha256(text).hexdigest() for name, text in published_files(split, data)}


def _target_csv(part: HeldOut, split: Split, data: Interactions, first_user: int) -> str:
    place = np.empty(len(part), dtype=np.int64)
    place[id_order(part.users)] = np.arange(len(part))
    users = np.repeat(np.arange(len(part)), np.diff(part.target.indptr))
    items = part.target.indices
    user_idx = data.users.indices_of(part.users.ids_at(range(len(part))))
    item_idx = data.items.indices_of(split.train.items.ids_at(range(part.n_items)))
    order = _input_order(data, user_idx[users], item_idx[items])
    rows = np.lexsort((order, place[users]))
    pairs = zip((users[rows] + first_user).tolist(), items[rows].tolist(), strict=True)
    return "uid,sid\n" + "".join(f"{user},{item}\n" for user, item in pairs)


def _input_order(data: Interactions, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    # One more than the input position, so that no stored value is zero.
    places = csr_array(
        (data.order + 1, data.matrix.indices, data.matrix.indptr), shape=data.matrix.shape
    )
    return np.asarray(places[users, items]).ravel()
