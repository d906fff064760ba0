"""A small fitted model and its people, and how to save them, for the tests of model directories."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from recae.data.histories import canonical_csr
from recae.data.ids import IdMap
from recae.data.interactions import Interactions
from recae.models.ease import EASE
from recae.serving import layout, save_bundle

USERS = ["u1", "007", "Ann", "é", "0"]
ITEMS = ["m1", "m2", "010", "NA", "m5", "m6"]
TITLES = ["One", None, "Ten", "Not <b>", "Five", "Six"]


def interactions() -> Interactions:
    """Five people, six items, in file order that is not item order; nobody touched m6."""
    pairs = [(0, 3), (0, 0), (1, 0), (1, 1), (1, 2), (2, 4), (2, 1), (3, 0), (3, 3), (4, 0)]
    order = {pair: place for place, pair in enumerate(pairs)}
    rows, columns = np.array(pairs).T
    matrix = canonical_csr(csr_array((np.ones(len(pairs)), (rows, columns)), shape=(5, 6)))
    entries = zip(*matrix.tocoo().coords, strict=True)
    return Interactions(
        matrix,
        IdMap(USERS),
        IdMap(ITEMS),
        np.array([order[int(u), int(i)] for u, i in entries], dtype=np.int64),
        item_table=pa.table({"item_id": ITEMS, "title": TITLES, "year": [1, 2, 3, 4, 5, 6]}),
    )


def save(directory: Path, *, l2: float = 1.0, people: bool = True, keep: int = 3) -> str:
    """Save an EASE of `interactions`; another `l2` gives another version."""
    data = interactions()
    return save_bundle(
        directory,
        EASE(l2=l2).fit(data),
        items=data.items,
        item_table=data.item_table,
        users=data.users if people else None,
        histories=data.histories() if people else None,
        popularity=np.bincount(data.matrix.indices, minlength=6).astype(np.int64),
        split={"protocol": "all"},
        metrics={"ndcg@100": {"mean": 0.4, "se": 0.01, "n": 5}, "recall@20": {"mean": None}},
        provenance={"l2": l2},
        keep=keep,
    )


def forge(directory: Path, **changed: bytes | None) -> None:
    """Rewrite files of the current version, and make all hashes right again, as an attacker can.

    Names are given with ``_`` for ``.``; None takes the file away; ``manifest_json`` is merged into
    the manifest, last.
    """
    version = (directory / "CURRENT").read_text().split()[0]
    inside = directory / version
    manifest = json.loads((inside / "manifest.json").read_bytes())
    patch = changed.pop("manifest_json", b"{}")
    for key, content in changed.items():
        name = key.replace("_", ".")
        if content is None:
            manifest["files"].pop(name)
            (inside / name).unlink()
        else:
            (inside / name).write_bytes(content)
            sha256 = layout.version_id(content)[1]
            manifest["files"][name] = {"sha256": sha256, "size": len(content)}
    assert patch is not None
    merged = json.dumps(manifest | json.loads(patch)).encode()
    (inside / "manifest.json").write_bytes(merged)
    forged, sha256 = layout.version_id(merged)
    inside.rename(directory / forged)
    (directory / "CURRENT").write_bytes(layout.pointer_line(forged, sha256))
