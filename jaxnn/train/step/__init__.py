"""One compiled training step, and what it is made of."""

from jaxnn.train.step import augment
from jaxnn.train.step.batching import Metrics
from jaxnn.train.step.binary import binary_loss
from jaxnn.train.step.compiling import compiler_options, jit
from jaxnn.train.step.evaluate import evaluate, predict
from jaxnn.train.step.losses import classification_loss
from jaxnn.train.step.optimizers import optimizer
from jaxnn.train.step.penalties import l2, weight_mask
from jaxnn.train.step.preprocess import image_preprocess
from jaxnn.train.step.regression import regression_loss
from jaxnn.train.step.sequence import sequence_loss
from jaxnn.train.step.state import TrainState, create_state
from jaxnn.train.step.step import LossFn, Penalty, Preprocess, make_step

__all__ = [
    "LossFn",
    "Metrics",
    "Penalty",
    "Preprocess",
    "TrainState",
    "augment",
    "binary_loss",
    "classification_loss",
    "compiler_options",
    "create_state",
    "evaluate",
    "image_preprocess",
    "jit",
    "l2",
    "make_step",
    "optimizer",
    "predict",
    "regression_loss",
    "sequence_loss",
    "weight_mask",
]
