"""Training loops that compile whole: one pytree of state, compiled steps and epochs, and `fit`."""

from jaxnn.train import augment, distributed, plots
from jaxnn.train.checkpoints import CheckpointError, Checkpoints, CheckpointWarning
from jaxnn.train.distributed import ProcessLostError
from jaxnn.train.epoch import epoch_order, make_epoch
from jaxnn.train.evaluate import evaluate, predict
from jaxnn.train.fit import fit
from jaxnn.train.interrupt import Interrupted
from jaxnn.train.losses import classification_loss, l2, weight_mask
from jaxnn.train.nonfinite import NonFiniteLossError
from jaxnn.train.optimizers import optimizer
from jaxnn.train.preprocess import image_preprocess
from jaxnn.train.runfolder import RunFolder
from jaxnn.train.sharding import Parallel, parallel
from jaxnn.train.state import TrainState, create_state
from jaxnn.train.step import make_step
from jaxnn.train.streaming import StreamedEpoch

__all__ = [
    "CheckpointError",
    "CheckpointWarning",
    "Checkpoints",
    "Interrupted",
    "NonFiniteLossError",
    "Parallel",
    "ProcessLostError",
    "RunFolder",
    "StreamedEpoch",
    "TrainState",
    "augment",
    "classification_loss",
    "create_state",
    "distributed",
    "epoch_order",
    "evaluate",
    "fit",
    "image_preprocess",
    "l2",
    "make_epoch",
    "make_step",
    "optimizer",
    "parallel",
    "plots",
    "predict",
    "weight_mask",
]
