"""`RunConfig`: everything that decides a run, from a TOML file, ``--set`` and flags."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from recae.errors import ConfigError
from recae.evaluation.names import DEFAULT_METRICS, OwnMetric, parse_metrics
from recae.models.registry import MODELS, config_class, refuse_unknown
from recae.options import Options, takes_text


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """A resolved run; saved with the model.

    Attributes
    ----------
    model
        Name of the model that is trained.
    protocol
        Name of the split protocol.
    seed
        Seed of initial weights, batches and noise.
    metrics
        What is reported, first one first.
    read
        Options of `recae.data.readers.ReadOptions`.
    split
        Options of the protocol.
    models
        Options by model name.
    """

    model: str = "mult-vae"
    protocol: str = "strong"
    seed: int = 42
    metrics: tuple[str, ...] = DEFAULT_METRICS
    read: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def options(self, model: str) -> dict[str, Any]:
        """Options given for the model called `model`; `make_model` adds the seed of the run."""
        return dict(self.models.get(model, {}))

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        return asdict(self) | {"metrics": list(self.metrics)}


def load_config(
    path: Path | None = None,
    settings: Iterable[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Resolve a run: flags over ``--set`` over the TOML file over defaults.

    Parameters
    ----------
    path
        TOML file: top-level ``model``, ``protocol``, ``seed``, ``metrics``; tables ``[read]``,
        ``[split]`` and one for each model, ``[mult-vae]``, ``[ease]``, ...
    settings
        ``TABLE.KEY=VALUE`` or ``KEY=VALUE`` with a TOML value; a bare word is a text. A text option
        takes what is written, ``read.user_col=1`` say.
    flags
        Values by dotted name, such as ``{"read.min_rating": 4.0}``; None values are not given.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a name or value is not accepted.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = _toml_file(path)
    written: dict[str, str] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {setting!r} is not of the form TABLE.KEY=VALUE")
        name, text = name.strip(), text.strip()
        written[name] = text
        _put(values, name, _toml_value(text), f"--set {setting!r}")
    for name, value in (flags or {}).items():
        if value is not None:
            written.pop(name, None)
            _put(values, name, value, name)
    return _checked(values, written)


def _checked(values: dict[str, Any], written: Mapping[str, str]) -> RunConfig:
    top = {"model", "protocol", "seed", "metrics"}
    tables = {"read", "split", *MODELS}
    unknown = sorted(set(values) - top - tables)
    if unknown:
        raise ConfigError(
            f"there is no setting {unknown[0]!r}; there are {', '.join(sorted(top))}"
            f" and the tables {', '.join(sorted(tables))}"
        )
    for name in tables & set(values):
        if not isinstance(values[name], dict):
            raise ConfigError(f"{name} is {values[name]!r}; a table is expected")
    default = RunConfig()
    model = values.get("model", default.model)
    refuse_unknown(model)
    # pyarrow and pandas come with these: not before the names above are known to be right
    from recae.data.protocols.registry import protocol_class
    from recae.data.readers import ReadOptions

    split_kind = protocol_class(values.get("protocol", default.protocol))
    seed = values.get("seed", default.seed)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"seed is {seed!r}; 0 or above is accepted")
    models = {name: values[name] for name in MODELS if name in values}
    kinds: dict[str, type[Options]] = {"read": ReadOptions, "split": split_kind}
    for table, kind in {**kinds, **{name: config_class(name) for name in models}}.items():
        given = values.get(table, {})
        texts = {n for n, v in given.items() if not isinstance(v, str) and takes_text(kind, n)}
        given.update({n: written[f"{table}.{n}"] for n in texts if f"{table}.{n}" in written})
        accepted = kind.of(given, where=table)
        given.update({n: getattr(accepted, n) for n in texts})  # dates are no JSON
    metrics = values.get("metrics", default.metrics)
    if isinstance(metrics, str):
        metrics = [name.strip() for name in metrics.split(",") if name.strip()]
    if not isinstance(metrics, list | tuple) or not all(isinstance(m, str) for m in metrics):
        raise ConfigError(f"metrics is {metrics!r}; a list of names is expected")
    stopping = [of["validation_metric"] for of in models.values() if "validation_metric" in of]
    refuse_ungraded([*metrics, *stopping], values.get("read", {}))
    return RunConfig(
        model=model,
        protocol=split_kind.name,
        seed=seed,
        metrics=tuple(metrics),
        read=values.get("read", {}),
        split=values.get("split", {}),
        models=models,
    )


def refuse_ungraded(metrics: Iterable[str | OwnMetric], read: Mapping[str, Any]) -> None:
    """Refuse a graded metric of data that was read without its grades.

    Raises
    ------
    ConfigError
        If `metrics` holds one and `read`, the options of the reading, has no ``keep_ratings``; or
        if a metric is unknown.
    """
    for metric in parse_metrics(metrics):
        if metric.graded and not read.get("keep_ratings"):
            raise ConfigError(
                f"{metric.name} needs ratings, and all values are 1 unless they are kept"
                " (read.keep_ratings, --keep-ratings)"
            )


_MAX_BYTES = 1 << 20


def _toml_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigError(f"the config {path} has more than {_MAX_BYTES >> 20} MiB")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise ConfigError(f"the config {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config {path} is not TOML: {error}") from error


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: dict[str, Any], name: str, value: Any, given: str) -> None:
    *path, last = name.split(".")
    place = values
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{given}: {part!r} is not a table")
    place[last] = value
