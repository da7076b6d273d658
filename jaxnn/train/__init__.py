"""Training that compiles whole: one pytree of state, compiled steps and epochs, and `fit`.

The names most programs need are here; each room has the rest:

- `train.step`: one compiled step and what it is made of.
- `train.devices`: several devices and processes.
- `train.checkpoint`: saving, resuming, signals.
- `train.run`: run folders, metrics, TensorBoard.
- `train.loop`: epochs and `fit`.
- `train.ensemble`: many runs as one program.
"""

from jaxnn.train import checkpoint, devices, ensemble, loop, run, step
from jaxnn.train.checkpoint import Checkpoints
from jaxnn.train.devices import distributed, parallel
from jaxnn.train.ensemble import create_ensemble, fit_ensemble, grid, make_ensemble, member
from jaxnn.train.loop import STOP, Generated, early_stopping, fit, make_epoch, time_limit
from jaxnn.train.run import RunFolder
from jaxnn.train.step import (
    TrainState,
    augment,
    binary_loss,
    classification_loss,
    create_state,
    ctc_loss,
    evaluate,
    image_preprocess,
    jit,
    l2,
    make_step,
    optimizer,
    precision,
    predict,
    regression_loss,
    sequence_loss,
)

__all__ = [
    "STOP",
    "Checkpoints",
    "Generated",
    "RunFolder",
    "TrainState",
    "augment",
    "binary_loss",
    "checkpoint",
    "classification_loss",
    "create_ensemble",
    "create_state",
    "ctc_loss",
    "devices",
    "distributed",
    "early_stopping",
    "ensemble",
    "evaluate",
    "fit",
    "fit_ensemble",
    "grid",
    "image_preprocess",
    "jit",
    "l2",
    "loop",
    "make_ensemble",
    "make_epoch",
    "make_step",
    "member",
    "optimizer",
    "parallel",
    "precision",
    "predict",
    "regression_loss",
    "run",
    "sequence_loss",
    "step",
    "time_limit",
]
