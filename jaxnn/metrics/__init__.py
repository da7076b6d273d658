"""Metrics on the host, in NumPy: of detections, forecasts and transcripts."""

from jaxnn.metrics.detection import AveragePrecision, box_iou, match_boxes, mean_average_precision
from jaxnn.metrics.forecasts import coverage, interval_score, mase, naive_error
from jaxnn.metrics.transcripts import character_error_rate, edit_distance, word_error_rate

__all__ = [
    "AveragePrecision",
    "box_iou",
    "character_error_rate",
    "coverage",
    "edit_distance",
    "interval_score",
    "mase",
    "match_boxes",
    "mean_average_precision",
    "naive_error",
    "word_error_rate",
]
