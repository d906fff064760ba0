"""Metrics, evaluator, significance and reports."""

from recae.evaluation.evaluator import evaluate
from recae.evaluation.names import ACCEPTED, DEFAULT_METRICS, Metric, parse_metric
from recae.evaluation.report import Report, Segment, Summary, write_per_user

__all__ = [
    "ACCEPTED",
    "DEFAULT_METRICS",
    "Metric",
    "Report",
    "Segment",
    "Summary",
    "evaluate",
    "parse_metric",
    "write_per_user",
]
