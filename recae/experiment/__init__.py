"""From a typed config to a fitted, evaluated, saved model: where the layers meet."""

from recae.experiment.compare import ComparisonTable, Entry, compare
from recae.experiment.config import RunConfig, load_config
from recae.experiment.run import (
    Trained,
    data_summary,
    evaluate_stored,
    load,
    make_model,
    make_split,
    run_summary,
    save,
    train,
)

__all__ = [
    "ComparisonTable",
    "Entry",
    "RunConfig",
    "Trained",
    "compare",
    "data_summary",
    "evaluate_stored",
    "load",
    "load_config",
    "make_model",
    "make_split",
    "run_summary",
    "save",
    "train",
]
