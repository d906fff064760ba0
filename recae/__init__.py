"""Autoencoder recommenders, equal to their papers: CSV in, recommendations over HTTP out.

The names below are loaded when first asked for, so that importing `recae` imports no torch.

Examples
--------
>>> import recae
>>> data = recae.sample()
>>> split = recae.split(data, "strong", rng=0)
>>> model = recae.EASE(l2=50).fit(split.train)
>>> report = recae.evaluate(model, split.test, metrics=["recall@20"])
>>> report["recall@20"].n == len(split.test)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recae.version import VERSION as _VERSION

if TYPE_CHECKING:
    from recae.data.histories import Histories
    from recae.data.ids import IdMap
    from recae.data.interactions import Interactions
    from recae.data.protocols import split
    from recae.data.readers import read_interactions
    from recae.data.sample import sample
    from recae.data.split import HeldOut, Split
    from recae.evaluation.evaluator import evaluate
    from recae.experiment.compare import compare
    from recae.experiment.run import load, save
    from recae.models.als import ALS
    from recae.models.bpr import BPR
    from recae.models.ease import EASE
    from recae.models.edlae import EDLAE
    from recae.models.gf_cf import GFCF
    from recae.models.item_knn import ItemKNN
    from recae.models.mult_vae import MultDAE, MultVAE
    from recae.models.popular import Popularity
    from recae.models.random_lists import Random
    from recae.models.registry import register
    from recae.models.vanilla_ae import VanillaAE
    from recae.ranking.recommender import Recommender
    from recae.ranking.topk import TopK

__version__ = _VERSION

_PUBLIC = {
    "ALS": "recae.models.als",
    "BPR": "recae.models.bpr",
    "EASE": "recae.models.ease",
    "EDLAE": "recae.models.edlae",
    "GFCF": "recae.models.gf_cf",
    "HeldOut": "recae.data.split",
    "Histories": "recae.data.histories",
    "IdMap": "recae.data.ids",
    "Interactions": "recae.data.interactions",
    "ItemKNN": "recae.models.item_knn",
    "MultDAE": "recae.models.mult_vae",
    "MultVAE": "recae.models.mult_vae",
    "Popularity": "recae.models.popular",
    "Random": "recae.models.random_lists",
    "Recommender": "recae.ranking.recommender",
    "Split": "recae.data.split",
    "TopK": "recae.ranking.topk",
    "VanillaAE": "recae.models.vanilla_ae",
    "compare": "recae.experiment.compare",
    "evaluate": "recae.evaluation.evaluator",
    "load": "recae.experiment.run",
    "read_interactions": "recae.data.readers",
    "register": "recae.models.registry",
    "sample": "recae.data.sample",
    "save": "recae.experiment.run",
    "split": "recae.data.protocols",
}

__all__ = [
    "ALS",
    "BPR",
    "EASE",
    "EDLAE",
    "GFCF",
    "HeldOut",
    "Histories",
    "IdMap",
    "Interactions",
    "ItemKNN",
    "MultDAE",
    "MultVAE",
    "Popularity",
    "Random",
    "Recommender",
    "Split",
    "TopK",
    "VanillaAE",
    "compare",
    "evaluate",
    "load",
    "read_interactions",
    "register",
    "sample",
    "save",
    "split",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'recae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
