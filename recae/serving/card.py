"""The model card: what a person should know before using a model, as Markdown."""

import json
from collections.abc import Mapping

_ABOUT_PEOPLE = (
    "The ids and histories of {n} people are stored (`users.parquet`, `histories.safetensors`):"
    " personal data, readable by owner and group only. Whoever may ask this model may learn them."
)
_NO_PEOPLE = "No ids and no histories of people are stored; the caller sends the history."


def model_card(
    config: Mapping[str, object],
    *,
    note: str,
    n_users: int | None,
    split: Mapping[str, object] | None,
    metrics: Mapping[str, object] | None,
    provenance: Mapping[str, object],
) -> str:
    """Markdown text of the card.

    Parameters
    ----------
    config
        Content of ``config.json``.
    note
        What the model says of itself, or nothing.
    n_users
        Number of people whose histories are stored, or None.
    split, metrics, provenance
        Contents of the documents of the same name.
    """
    people = _NO_PEOPLE if n_users is None else _ABOUT_PEOPLE.format(n=n_users)
    return "\n".join(
        [
            f"# {config['model']}: a recommender of {config['n_items']} items",
            "",
            f"From a history of items to a ranked list. Written by recae {config['recae']}.",
            *(["", note] if note else []),
            "",
            "## Use",
            "",
            "```python",
            "import recae",
            'model = recae.load("DIRECTORY")  # the directory above this one',
            'model.recommend(history=["ITEM", "ITEM"], k=10)',
            "```",
            "",
            "or `recae serve DIRECTORY`. The files of this directory are checked against",
            "`manifest.json` when they are loaded: do not edit them.",
            "",
            "## Quality on held-out people",
            "",
            *_quality(metrics),
            "",
            "## Limits",
            "",
            "Trained on what people chose among what they were shown: what few people touched is",
            "recommended rarely, and habits of the data are repeated. Scores order the items of a",
            "list; they are not probabilities and not comparable between people.",
            "",
            "## People",
            "",
            people,
            "The weights keep a trace of everybody trained on until the model is trained again.",
            "",
            *_section("Hyper-parameters", config["options"]),
            *([] if split is None else _section("Split", split)),
            *_section("Provenance", provenance),
        ]
    )


def _quality(metrics: Mapping[str, object] | None) -> list[str]:
    """One row for each metric: reports by part, or figures with ``mean``, ``se`` and ``n``."""
    rows = []
    for part, report in (metrics or {}).items():
        if not isinstance(report, Mapping):
            continue
        figures = report.get("metrics")
        named = figures.items() if isinstance(figures, Mapping) else [(part, report)]
        where = part if isinstance(figures, Mapping) else ""
        rows += [
            f"| {where} | {name} | {_number(v['mean'])} | {_number(v['se'])} | {v['n']} |"
            for name, v in named
            if isinstance(v, Mapping) and {"mean", "se", "n"} <= set(v)
        ]
    if not rows:
        return ["Not measured."]
    return ["| part | metric | mean | standard error | people |", "|---|---|---|---|---|", *rows]


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, (int, float)) else "-"


def _section(title: str, value: object) -> list[str]:
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=True)
    return [f"## {title}", "", "```json", text.replace("```", "` ` `"), "```", ""]
