"""A `RunConfig` as the text of a config file."""

import json
from collections.abc import Mapping
from typing import Any

from recae.experiment.config import RunConfig


def config_text(config: RunConfig) -> str:
    """Text of a TOML file from which `load_config` makes `config` again.

    Options that are None are left out: TOML has no such value, and None is their default.

    Examples
    --------
    >>> print(config_text(RunConfig(model="ease", models={"ease": {"l2": 300.0}})))
    model = "ease"
    protocol = "strong"
    seed = 42
    metrics = ["ndcg@100", "recall@20", "recall@50"]
    <BLANKLINE>
    [ease]
    l2 = 300.0
    <BLANKLINE>
    """
    top = {
        "model": config.model,
        "protocol": config.protocol,
        "seed": config.seed,
        "metrics": config.metrics,
    }
    tables = {"read": config.read, "split": config.split, **config.models}
    blocks = [_lines(top)]
    blocks += [f"[{name}]\n{_lines(table)}" for name, table in tables.items() if table]
    return "\n".join(blocks)


def _lines(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_value(v)}\n" for key, v in table.items() if v is not None)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(v) for v in value)}]"
    if isinstance(value, float):
        return repr(value)
    # JSON writes the rest as TOML does, but for one control character
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
