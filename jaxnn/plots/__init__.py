"""Pictures of a run, as PNG files. They need matplotlib, from the extra `experiments`."""

from jaxnn.plots.attention import attention
from jaxnn.plots.classes import confusion
from jaxnn.plots.detections import detections
from jaxnn.plots.ensemble import by_setting, reliability, spread
from jaxnn.plots.forecasts import Forecasted, forecasts
from jaxnn.plots.highlights import highlights
from jaxnn.plots.history import compare, curves
from jaxnn.plots.pictures import filters, images, predictions
from jaxnn.plots.transcripts import Heard, transcripts

__all__ = [
    "Forecasted",
    "Heard",
    "attention",
    "by_setting",
    "compare",
    "confusion",
    "curves",
    "detections",
    "filters",
    "forecasts",
    "highlights",
    "images",
    "predictions",
    "reliability",
    "spread",
    "transcripts",
]
