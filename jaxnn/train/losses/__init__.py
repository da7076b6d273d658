"""Losses of a batch, penalties on the weights, and their types."""

from jaxnn.train.losses.binary import binary
from jaxnn.train.losses.classification import classification
from jaxnn.train.losses.ctc import ctc
from jaxnn.train.losses.detection import detection, heatmap
from jaxnn.train.losses.penalties import l2, weight_mask
from jaxnn.train.losses.quantile import quantile
from jaxnn.train.losses.regression import regression
from jaxnn.train.losses.sequence import sequence
from jaxnn.train.losses.types import LossFn, Metrics, Penalty

__all__ = [
    "LossFn",
    "Metrics",
    "Penalty",
    "binary",
    "classification",
    "ctc",
    "detection",
    "heatmap",
    "l2",
    "quantile",
    "regression",
    "sequence",
    "weight_mask",
]
