"""One compiled training step, and what it is made of."""

from jaxnn.train.step import augment
from jaxnn.train.step.batching import Metrics
from jaxnn.train.step.binary import binary_loss
from jaxnn.train.step.compiling import compiler_options, jit
from jaxnn.train.step.ctc import ctc_loss
from jaxnn.train.step.detection import detection_loss, heatmap_loss
from jaxnn.train.step.evaluate import evaluate, predict
from jaxnn.train.step.export import export
from jaxnn.train.step.hyperparameters import hyperparameters, with_hyperparameters
from jaxnn.train.step.loss_scale import LossScale
from jaxnn.train.step.losses import classification_loss
from jaxnn.train.step.optimizers import optimizer
from jaxnn.train.step.penalties import l2, weight_mask
from jaxnn.train.step.precision import Precision, precision
from jaxnn.train.step.preprocess import image_preprocess
from jaxnn.train.step.quantile import quantile_loss
from jaxnn.train.step.regression import regression_loss
from jaxnn.train.step.retrace import RetraceWarning
from jaxnn.train.step.sequence import sequence_loss
from jaxnn.train.step.state import TrainState, create_state
from jaxnn.train.step.step import LossFn, Penalty, Preprocess, make_step

__all__ = [
    "LossFn",
    "LossScale",
    "Metrics",
    "Penalty",
    "Precision",
    "Preprocess",
    "RetraceWarning",
    "TrainState",
    "augment",
    "binary_loss",
    "classification_loss",
    "compiler_options",
    "create_state",
    "ctc_loss",
    "detection_loss",
    "evaluate",
    "export",
    "heatmap_loss",
    "hyperparameters",
    "image_preprocess",
    "jit",
    "l2",
    "make_step",
    "optimizer",
    "precision",
    "predict",
    "quantile_loss",
    "regression_loss",
    "sequence_loss",
    "weight_mask",
    "with_hyperparameters",
]
