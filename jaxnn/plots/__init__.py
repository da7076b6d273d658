"""Pictures of a run, as PNG files. They need matplotlib, of the extra `experiments`."""

from jaxnn.plots.attention import attention
from jaxnn.plots.classes import confusion
from jaxnn.plots.ensemble import by_setting, reliability, spread
from jaxnn.plots.history import compare, curves
from jaxnn.plots.pictures import filters, images, predictions
from jaxnn.plots.transcripts import Heard, transcripts

__all__ = [
    "Heard",
    "attention",
    "by_setting",
    "compare",
    "confusion",
    "curves",
    "filters",
    "images",
    "predictions",
    "reliability",
    "spread",
    "transcripts",
]
