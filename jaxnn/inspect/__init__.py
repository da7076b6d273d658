"""What a model or a program costs, and how far its probabilities can be trusted."""

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
