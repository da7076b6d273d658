"""Costs of models and programs, and calibration of their probabilities."""

from jaxnn.inspect.calibration import Reliability, Scores, reliability, scores
from jaxnn.inspect.cost import Cost, cost
from jaxnn.inspect.flops import flops
from jaxnn.inspect.summary import summary

__all__ = [
    "Cost",
    "Reliability",
    "Scores",
    "cost",
    "flops",
    "reliability",
    "scores",
    "summary",
]
