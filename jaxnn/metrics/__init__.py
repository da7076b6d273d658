"""How good predictions are, computed on the host with NumPy."""

from jaxnn.metrics.detection import AveragePrecision, box_iou, match_boxes, mean_average_precision

__all__ = ["AveragePrecision", "box_iou", "match_boxes", "mean_average_precision"]
