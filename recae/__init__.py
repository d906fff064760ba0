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

from recae.models.registry import MODELS as _MODELS
from recae.version import VERSION as _VERSION

if TYPE_CHECKING:  # what `_PUBLIC` says, for type checkers and editors; a test compares the two
    from recae.data.histories import Histories as Histories
    from recae.data.ids import IdMap as IdMap
    from recae.data.interactions import Interactions as Interactions
    from recae.data.protocols import split as split
    from recae.data.readers import read_interactions as read_interactions
    from recae.data.sample import sample as sample
    from recae.data.split import HeldOut as HeldOut
    from recae.data.split import Split as Split
    from recae.evaluation.evaluator import evaluate as evaluate
    from recae.experiment.compare import compare as compare
    from recae.experiment.run import load as load
    from recae.experiment.run import save as save
    from recae.models.als import ALS as ALS
    from recae.models.bpr import BPR as BPR
    from recae.models.ease import EASE as EASE
    from recae.models.edlae import EDLAE as EDLAE
    from recae.models.gf_cf import GFCF as GFCF
    from recae.models.item_knn import ItemKNN as ItemKNN
    from recae.models.mult_vae import MultDAE as MultDAE
    from recae.models.mult_vae import MultVAE as MultVAE
    from recae.models.popular import Popularity as Popularity
    from recae.models.random_lists import Random as Random
    from recae.models.recvae import RecVAE as RecVAE
    from recae.models.registry import register as register
    from recae.models.vanilla_ae import VanillaAE as VanillaAE
    from recae.ranking.recommender import Recommender as Recommender
    from recae.ranking.topk import TopK as TopK

__version__ = _VERSION

_PUBLIC = {
    "HeldOut": "recae.data.split",
    "Histories": "recae.data.histories",
    "IdMap": "recae.data.ids",
    "Interactions": "recae.data.interactions",
    "Recommender": "recae.ranking.recommender",
    "Split": "recae.data.split",
    "TopK": "recae.ranking.topk",
    "compare": "recae.experiment.compare",
    "evaluate": "recae.evaluation.evaluator",
    "load": "recae.experiment.run",
    "read_interactions": "recae.data.readers",
    "register": "recae.models.registry",
    "sample": "recae.data.sample",
    "save": "recae.experiment.run",
    "split": "recae.data.protocols",
} | {name: module for module, _, name in (place.partition(":") for place in _MODELS.values())}

__all__ = sorted(_PUBLIC)  # type checkers read the block above


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'recae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
