"""Metrics, evaluator, significance and reports."""

from recae.evaluation.evaluator import evaluate
from recae.evaluation.names import ACCEPTED, DEFAULT_METRICS, Metric, parse_metric
from recae.evaluation.parts import HeldOutParts, held_out_parts
from recae.evaluation.report import Report, Segment, Summary, write_per_user
from recae.evaluation.segments import SEGMENTS
from recae.evaluation.significance import Comparison, Difference, compare_reports

__all__ = [
    "ACCEPTED",
    "Comparison",
    "DEFAULT_METRICS",
    "Difference",
    "HeldOutParts",
    "Metric",
    "Report",
    "SEGMENTS",
    "Segment",
    "Summary",
    "compare_reports",
    "evaluate",
    "held_out_parts",
    "parse_metric",
    "write_per_user",
]
