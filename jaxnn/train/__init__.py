"""Training loops that compile whole: one pytree of state, compiled steps and epochs, and `fit`."""

from jaxnn.train import augment, plots
from jaxnn.train.ensemble import make_ensemble
from jaxnn.train.epoch import epoch_order, make_epoch
from jaxnn.train.evaluate import evaluate, predict
from jaxnn.train.fit import NonFiniteLossError, fit
from jaxnn.train.losses import classification_loss, l2, weight_mask
from jaxnn.train.members import create_ensemble, grid, member
from jaxnn.train.optimizers import optimizer
from jaxnn.train.preprocess import image_preprocess
from jaxnn.train.runfolder import RunFolder
from jaxnn.train.state import TrainState, create_state
from jaxnn.train.step import make_step

__all__ = [
    "NonFiniteLossError",
    "RunFolder",
    "TrainState",
    "augment",
    "classification_loss",
    "create_ensemble",
    "create_state",
    "epoch_order",
    "evaluate",
    "fit",
    "grid",
    "image_preprocess",
    "l2",
    "make_ensemble",
    "make_epoch",
    "make_step",
    "member",
    "optimizer",
    "plots",
    "predict",
    "weight_mask",
]
