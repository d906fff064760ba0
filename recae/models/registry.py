"""Names of the models, and how to make one from its name."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, TypeVar

from recae.errors import ConfigError

if TYPE_CHECKING:
    from recae.options import Options
    from recae.ranking.recommender import Recommender

R = TypeVar("R")
MODELS = {
    "popular": "recae.models.popular:Popularity",
    "random": "recae.models.random_lists:Random",
    "item-knn": "recae.models.item_knn:ItemKNN",
    "als": "recae.models.als:ALS",
    "bpr": "recae.models.bpr:BPR",
    "gf-cf": "recae.models.gf_cf:GFCF",
    "ease": "recae.models.ease:EASE",
    "edlae": "recae.models.edlae:EDLAE",
    "vanilla-ae": "recae.models.vanilla_ae:VanillaAE",
    "mult-dae": "recae.models.mult_vae:MultDAE",
    "mult-vae": "recae.models.mult_vae:MultVAE",
    "recvae": "recae.models.recvae:RecVAE",
}


ENTRY_POINTS = "recae.models"  # group in which an installed package names its models
_REGISTERED: "dict[str, type[Recommender]]" = {}


def register(model: "type[R]") -> "type[R]":
    """Make a model of another package known by its name; can be used as a decorator.

    It is then trained, evaluated, saved, loaded and served like those of the package. A process
    that opens a directory of it must know it too: by this call, by the entry point group
    ``recae.models`` of an installed package, or by ``recae --import MODULE``. A model directory
    never names code to import.

    Raises
    ------
    ConfigError
        If it is no `Recommender`, lacks a method, has no name of its own, its name is one of the
        package's, or its ``Config`` is no class of options.

    Examples
    --------
    >>> import numpy as np
    >>> import recae
    >>> class Newest(recae.Recommender):
    ...     name = "newest"
    ...
    ...     def fit(self, train):
    ...         self.places = np.arange(train.n_items, dtype=float)
    ...         return self
    ...
    ...     def scores(self, histories):
    ...         return np.tile(self.places, (len(histories), 1))
    >>> recae.register(Newest).name
    'newest'
    >>> Newest().fit(recae.sample())
    <Newest(), 1000 items>
    >>> unregister("newest")
    """
    from recae.options import Options
    from recae.ranking.recommender import Recommender

    if not (isinstance(model, type) and issubclass(model, Recommender)):
        raise ConfigError(f"{model!r} is not a subclass of recae.Recommender")
    name = getattr(model, "name", None)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{model.__name__} has no name: give the class one, name = 'my-model'")
    missing = sorted(getattr(model, "__abstractmethods__", ()))
    if missing:
        raise ConfigError(f"{model.__name__} has no {missing[0]}: give the class one")
    config = model.Config
    if not (isinstance(config, type) and issubclass(config, Options)):
        raise ConfigError(
            f"{model.__name__}.Config is {config!r:.60}; a class that extends Options"
        )
    if "__dataclass_fields__" not in vars(config):
        raise ConfigError(
            f"{config.__name__} is no dataclass: decorate it by"
            " @dataclass(frozen=True, slots=True, kw_only=True)"
        )
    if name in MODELS and name not in _REGISTERED:
        raise ConfigError(f"there is a model {name!r} already")
    _REGISTERED[name] = model
    MODELS[name] = f"{model.__module__}:{model.__qualname__}"
    return model


def unregister(name: str) -> None:
    """Forget a registered model."""
    del _REGISTERED[name], MODELS[name]


def registered() -> list[str]:
    """Registered models, as ``module:class``."""
    return [MODELS[name] for name in _REGISTERED]


def find_installed() -> None:
    """Add the models that installed packages name."""
    for point in entry_points(group=ENTRY_POINTS):
        MODELS.setdefault(point.name, point.value)


def refuse_unknown(name: object) -> None:
    """Refuse a name that no model has, without importing a model.

    Raises
    ------
    ConfigError
        If there is no such model.
    """
    named = isinstance(name, str)  # of a config file it may be anything
    if named and name not in MODELS:
        find_installed()
    if not named or name not in MODELS:
        near = get_close_matches(str(name).lower().replace("_", "-"), MODELS, n=1)
        meant = f" ({near[0]}?)" if near else ""
        raise ConfigError(
            f"there is no model {name!r}{meant}; there are {', '.join(MODELS)}; one of yours is"
            " known by recae.register or recae --import MODULE"
        )


def model_class(name: str) -> "type[Recommender]":
    """Class of the model called `name`.

    Raises
    ------
    ConfigError
        If there is none.
    """
    refuse_unknown(name)
    if name in _REGISTERED:
        return _REGISTERED[name]
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
    kind = model_class(name)
    return kind.configured(kind.Config.of(options or {}, where=kind.__name__))
