"""Training that compiles whole: one pytree of state, compiled steps and epochs, and `fit`.

The names most programs need are here; each room has the rest:

- `train.step`: one compiled step and what it is made of.
- `train.devices`: several devices and processes.
- `train.checkpoint`: saving, resuming, signals.
- `train.run`: run folders, metrics, TensorBoard.
- `train.loop`: epochs and `fit`.
- `train.ensemble`: many runs as one program.
"""

from jaxnn import distribution as distribution
from jaxnn.train import checkpoint, devices, ensemble, loop, run, step
from jaxnn.train.checkpoint import Checkpoints, load, save
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
    detection_loss,
    evaluate,
    export,
    image_preprocess,
    jit,
    l2,
    make_step,
    optimizer,
    precision,
    predict,
    quantile_loss,
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
    "detection_loss",
    "devices",
    "distributed",
    "early_stopping",
    "ensemble",
    "evaluate",
    "export",
    "fit",
    "fit_ensemble",
    "grid",
    "image_preprocess",
    "jit",
    "l2",
    "load",
    "loop",
    "make_ensemble",
    "make_epoch",
    "make_step",
    "member",
    "optimizer",
    "parallel",
    "precision",
    "predict",
    "quantile_loss",
    "regression_loss",
    "run",
    "save",
    "sequence_loss",
    "step",
    "time_limit",
]
