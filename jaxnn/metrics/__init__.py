"""Evaluation on the host, in NumPy: how good predictions are, by the measures that each field reports."""

from jaxnn.metrics.forecasts import coverage, interval_score, mase, naive_error

__all__ = ["coverage", "interval_score", "mase", "naive_error"]
