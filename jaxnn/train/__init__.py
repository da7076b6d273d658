"""Training that compiles whole: one pytree of state, compiled steps and epochs, and `fit`.

The names most programs need are here; each room has the rest:

- `train.losses`: losses, penalties, and the types of both.
- `train.step`: one compiled step and what it is made of.
- `train.devices`: several devices and processes.
- `train.checkpoint`: saving, resuming, signals.
- `train.run`: run folders, metrics, TensorBoard.
- `train.loop`: epochs and `fit`.
- `train.ensemble`: many runs as one program.
"""

from jaxnn import distribution as distribution
from jaxnn.train import checkpoint, devices, ensemble, loop, losses, run, step
from jaxnn.train.checkpoint import Checkpoints, load, save
from jaxnn.train.devices import parallel
from jaxnn.train.loop import STOP, Generated, early_stopping, fit, make_epoch, time_limit
from jaxnn.train.run import RunFolder
from jaxnn.train.step import (
    TrainState,
    augment,
    create_state,
    evaluate,
    export,
    image_preprocess,
    jit,
    make_step,
    optimizer,
    precision,
    predict,
)

__all__ = [
    "STOP",
    "Checkpoints",
    "Generated",
    "RunFolder",
    "TrainState",
    "augment",
    "checkpoint",
    "create_state",
    "devices",
    "early_stopping",
    "ensemble",
    "evaluate",
    "export",
    "fit",
    "image_preprocess",
    "jit",
    "load",
    "loop",
    "losses",
    "make_epoch",
    "make_step",
    "optimizer",
    "parallel",
    "precision",
    "predict",
    "run",
    "save",
    "step",
    "time_limit",
]
