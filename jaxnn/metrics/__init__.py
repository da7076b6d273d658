"""Evaluation on the host, in NumPy: how good predictions are, by the measures that each field reports."""

from jaxnn.metrics.detection import AveragePrecision, box_iou, match_boxes, mean_average_precision
from jaxnn.metrics.forecasts import coverage, interval_score, mase, naive_error

__all__ = [
    "AveragePrecision",
    "box_iou",
    "coverage",
    "interval_score",
    "mase",
    "match_boxes",
    "mean_average_precision",
    "naive_error",
]
