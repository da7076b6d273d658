"""Costs of models and programs, calibration of probabilities, occlusion, and how far back gradients reach."""

from jaxnn.inspect.calibration import Reliability, Scores, reliability, scores
from jaxnn.inspect.cost import Cost, cost
from jaxnn.inspect.flops import flops
from jaxnn.inspect.occlusion import occlusion
from jaxnn.inspect.reach import reach
from jaxnn.inspect.summary import summary

__all__ = [
    "Cost",
    "Reliability",
    "Scores",
    "cost",
    "flops",
    "occlusion",
    "reach",
    "reliability",
    "scores",
    "summary",
]
