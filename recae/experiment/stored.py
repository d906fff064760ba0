"""A stored model as a comparison of one, so that its report is the same page."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from recae.data.interactions import Interactions
from recae.errors import ConfigError
from recae.evaluation.names import DEFAULT_METRICS
from recae.evaluation.report import Report
from recae.evaluation.segments import SEGMENTS
from recae.experiment.data import data_summary
from recae.experiment.details import detailed, with_detail
from recae.experiment.run import evaluate_stored
from recae.experiment.table import ComparisonTable, Entry
from recae.serving import Bundle
from recae.training.checkpoint import CheckpointStore


def stored_table(
    bundle: Bundle,
    source: Any,
    *,
    directory: Path,
    metrics: Sequence[str] | None = None,
    part: Literal["test", "validation"] = "test",
    by: Sequence[str] = (),
    user_table: str | Path | None = None,
) -> tuple[ComparisonTable, Report]:
    """Judge a stored model as `evaluate_stored` does, in the detail of a report.

    Parameters
    ----------
    bundle, source
        As for `evaluate_stored`.
    directory
        Where the bundle was loaded from; the training log may lie there.
    metrics
        Those of the training when not given.
    by
        Segments of the second result.
    user_table
        As for `evaluate_stored`.

    Returns
    -------
    The model as a comparison of one, and what `evaluate_stored` returns for the same question.

    Raises
    ------
    DataError
        If the data has another fingerprint than the training data.
    ConfigError
        If the model was stored without a split, or its split has no such part.
    """
    run: Mapping[str, Any] = bundle.provenance.get("run", {})
    asked = tuple(dict.fromkeys(metrics or run.get("metrics") or DEFAULT_METRICS))
    full, split, data = evaluate_stored(
        bundle,
        source,
        metrics=with_detail(asked),
        part=part,
        by=(*by, *SEGMENTS),
        user_table=user_table,
    )
    held_out = getattr(split, part)
    report, details = detailed(
        full, asked, bundle.model, held_out, _log(directory, bundle, split.train)
    )
    fit_s = bundle.provenance.get("fit_s")
    entry = Entry(bundle.model.name, (report,), bundle.model.config.to_json(), fit_s, details)
    titled = replace(split, train=replace(split.train, item_table=bundle.item_table))
    about = data_summary(data) | {"trained": _trained(bundle)}
    segments = tuple(
        replace(s, per_user={name: v for name, v in s.per_user.items() if name in asked})
        for s in full.segments
        if s.by in by
    )
    table = ComparisonTable((entry,), asked, titled, about, part)
    return table, replace(report, segments=segments)


def _trained(bundle: Bundle) -> dict[str, object]:
    """Where the model comes from, for people."""
    stored = bundle.provenance
    found: dict[str, object] = {"model version": bundle.version}
    if "command" in stored:
        found["command"] = shlex.join(stored["command"])
    found |= {name: stored[name] for name in ("created", "platform", "python") if name in stored}
    return found | dict(stored.get("versions", {}))


def _log(directory: Path, bundle: Bundle, train: Interactions) -> tuple[Mapping[str, object], ...]:
    """Training log beside the model, if it is the log of this very model.

    The log of a later training replaces that of an earlier one, versions stay.
    """
    identity, log = CheckpointStore(directory / "run").log() or ({}, [])
    try:
        config = type(bundle.model.config).stored(identity.get("config", {}))
    except ConfigError:  # of another model
        return ()
    ours = (bundle.model.name, train.fingerprint(), bundle.model.config)
    return tuple(log) if (identity.get("model"), identity.get("data"), config) == ours else ()
