"""A comparison as Markdown, for a pull request or a wiki."""

import json
import shlex
from collections.abc import Iterable, Sequence

from recae.evaluation.names import parse_metric
from recae.experiment.report import headline
from recae.experiment.run import run_summary
from recae.experiment.table import ComparisonTable


def comparison_markdown(table: ComparisonTable, *, command: Sequence[str] = ()) -> str:
    """Who wins, all figures and what they are figures of; see `ComparisonTable.to_markdown`."""
    exam = table.entries[0].reports[0].exam()
    split = table.split
    run = run_summary()
    versions = {"python": run["python"], **dict(run["versions"])}  # type: ignore[call-overload]  # a JSON object
    made = [
        f"Mean ± standard error over {exam['users']} {table.part} users, 95% bootstrap interval;"
        f" {exam['users_without_targets']} of them have no targets.",
        f"Protocol {split.protocol} {json.dumps(dict(split.options))}, data"
        f" {split.fingerprint[:12]}, exam {str(exam['fingerprint'])[:12]}.",
        f"Made {run['created']} with {', '.join(f'{n} {v}' for n, v in versions.items())}.",
        *([f"Command: `{shlex.join(command)}`"] if command else []),
    ]
    blocks: list[Iterable[str]] = [
        [headline(table)],
        _table(table.rows(intervals=True)),
        [f"- `{name}`: {parse_metric(name).definition}" for name in table.metrics],
        [f"- {difference}" for difference in table.differences().differences],
        _table(table.parts().rows()),
        [f"- {line}" for line in made],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = (f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |" for row in rows)
    return [head, f"|---|{'---:|' * (len(rows[0]) - 1)}", *body]
