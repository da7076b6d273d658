"""One compiled training step, and what it is made of."""

from jaxnn.train.step import augment
from jaxnn.train.step.compiling import compiler_options, jit
from jaxnn.train.step.evaluate import evaluate, predict
from jaxnn.train.step.export import export
from jaxnn.train.step.hyperparameters import hyperparameters, with_hyperparameters
from jaxnn.train.step.loss_scale import LossScale
from jaxnn.train.step.optimizers import optimizer
from jaxnn.train.step.precision import Precision, precision
from jaxnn.train.step.preprocess import image_preprocess
from jaxnn.train.step.retrace import RetraceWarning
from jaxnn.train.step.state import TrainState, create_state
from jaxnn.train.step.step import Preprocess, make_step

__all__ = [
    "LossScale",
    "Precision",
    "Preprocess",
    "RetraceWarning",
    "TrainState",
    "augment",
    "compiler_options",
    "create_state",
    "evaluate",
    "export",
    "hyperparameters",
    "image_preprocess",
    "jit",
    "make_step",
    "optimizer",
    "precision",
    "predict",
    "with_hyperparameters",
]
