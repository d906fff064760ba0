"""Names of the models, and how to make one from its name."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from recae.errors import ConfigError

if TYPE_CHECKING:
    from recae.options import Options
    from recae.ranking.recommender import Recommender

MODELS = {
    "popular": "recae.models.popular:Popularity",
    "random": "recae.models.random_lists:Random",
    "item-knn": "recae.models.item_knn:ItemKNN",
    "als": "recae.models.als:ALS",
    "bpr": "recae.models.bpr:BPR",
    "gf-cf": "recae.models.gf_cf:GFCF",
    "ease": "recae.models.ease:EASE",
    "mult-dae": "recae.models.mult_vae:MultDAE",
    "mult-vae": "recae.models.mult_vae:MultVAE",
}


def refuse_unknown(name: str) -> None:
    """Refuse a name that no model has, without importing a model.

    Raises
    ------
    ConfigError
        If there is no such model.
    """
    if name not in MODELS:
        raise ConfigError(f"there is no model {name!r}; there are {', '.join(MODELS)}")


def model_class(name: str) -> "type[Recommender]":
    """Class of the model called `name`.

    Raises
    ------
    ConfigError
        If there is none.
    """
    refuse_unknown(name)
    module, _, attribute = MODELS[name].partition(":")
    found: type[Recommender] = getattr(import_module(module), attribute)
    return found


def config_class(name: str) -> "type[Options]":
    """Options of the model called `name`."""
    return model_class(name).Config


def create(name: str, options: Mapping[str, object] | None = None) -> "Recommender":
    """Unfitted model called `name`, with `options` of its config.

    Raises
    ------
    ConfigError
        If the name, an option or a value is not accepted.
    """
    return model_class(name)(**options or {})
