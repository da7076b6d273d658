"""Training loops that compile whole: one pytree of state, compiled steps and epochs, and `fit`."""

from jaxnn.train import augment, distributed, plots
from jaxnn.train.calibration import Reliability, Scores, reliability, scores
from jaxnn.train.checkpoints import CheckpointError, Checkpoints, CheckpointWarning, Position
from jaxnn.train.compiling import compiler_options, jit
from jaxnn.train.cost import Cost, cost
from jaxnn.train.distributed import ProcessLostError
from jaxnn.train.ensemble import make_ensemble
from jaxnn.train.epoch import epoch_order, make_epoch
from jaxnn.train.evaluate import evaluate, predict
from jaxnn.train.fit import fit
from jaxnn.train.fit_ensemble import diverged, fit_ensemble
from jaxnn.train.flops import flops
from jaxnn.train.interrupt import Interrupted
from jaxnn.train.losses import classification_loss, l2, weight_mask
from jaxnn.train.members import create_ensemble, grid, member
from jaxnn.train.nonfinite import NonFiniteLossError
from jaxnn.train.optimizers import optimizer
from jaxnn.train.preprocess import image_preprocess
from jaxnn.train.runfolder import RunFolder
from jaxnn.train.saver import Saver
from jaxnn.train.sharding import Parallel, parallel
from jaxnn.train.shortage import OutOfMemoryError
from jaxnn.train.state import TrainState, create_state
from jaxnn.train.step import make_step
from jaxnn.train.streaming import StreamedEpoch
from jaxnn.train.summary import summary
from jaxnn.train.tensorboard import TensorBoard

__all__ = [
    "CheckpointError",
    "CheckpointWarning",
    "Checkpoints",
    "Cost",
    "Interrupted",
    "NonFiniteLossError",
    "OutOfMemoryError",
    "Parallel",
    "Position",
    "ProcessLostError",
    "Reliability",
    "RunFolder",
    "Saver",
    "Scores",
    "StreamedEpoch",
    "TensorBoard",
    "TrainState",
    "augment",
    "classification_loss",
    "compiler_options",
    "cost",
    "create_ensemble",
    "create_state",
    "distributed",
    "diverged",
    "epoch_order",
    "evaluate",
    "fit",
    "fit_ensemble",
    "flops",
    "grid",
    "image_preprocess",
    "jit",
    "l2",
    "make_ensemble",
    "make_epoch",
    "make_step",
    "member",
    "optimizer",
    "parallel",
    "plots",
    "predict",
    "reliability",
    "scores",
    "summary",
    "weight_mask",
]
