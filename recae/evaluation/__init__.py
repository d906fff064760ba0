"""Metrics, evaluator, significance and reports."""
