"""Networks as Flax NNX modules that map inputs to logits."""

from jaxnn.models.cifar10 import Cifar10Net
from jaxnn.models.detector import Detector
from jaxnn.models.forecaster import Forecaster
from jaxnn.models.language import LanguageModel
from jaxnn.models.lenet import LeNet, LeNet5
from jaxnn.models.mlp import MLP
from jaxnn.models.rows import RowReader
from jaxnn.models.text import TextClassifier
from jaxnn.models.transcriber import Transcriber

__all__ = [
    "MLP",
    "Cifar10Net",
    "Detector",
    "Forecaster",
    "LanguageModel",
    "LeNet",
    "LeNet5",
    "RowReader",
    "TextClassifier",
    "Transcriber",
]
