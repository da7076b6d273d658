"""Losses and gradients that are NaN or infinite: the step in which they appear, and advice."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.train.losses import fields
from jaxnn.train.run.record import History
from jaxnn.train.step.labels import LabelCheck

Lost = tuple[int, str, float]
"""The step, what was not finite in it (loss, gradient or test loss), and its value."""


class NonFiniteLossError(RuntimeError):
    """The loss or gradient became NaN or infinite.

    Args:
        message: What happened, and what to try.
        epoch: The epoch in which it happened, from 1.
        step: The step in which it happened, from 1.
        history: The records so far.

    Attributes:
        epoch: The epoch in which it happened, from 1.
        step: The step in which it happened, from 1; the last of the epoch if only the test loss is not finite.
        history: The records so far, including the one of that epoch.
    """

    def __init__(self, message: str, *, epoch: int, step: int, history: History):
        super().__init__(message)
        self.epoch, self.step, self.history = epoch, step, history


def first_lost(per_step: Mapping[str, np.ndarray], last: int) -> Lost | None:
    """Finds the first step whose loss or gradient is not finite, in metrics `(steps,)` that end with step `last`."""
    lost = ~(np.isfinite(per_step["loss"]) & np.isfinite(per_step["grad_norm"]))
    if not lost.any():
        return None
    index = int(lost.argmax())
    what = "loss" if not np.isfinite(per_step["loss"][index]) else "gradient"
    value = per_step["loss" if what == "loss" else "grad_norm"][index]
    return last - len(lost) + 1 + index, what, float(value)


def advice(data: Any, check: LabelCheck, name: str = "training", numbers: np.ndarray | None = None) -> str:
    """Advises what to try: checks the labels, then the inputs, and otherwise advises a lower learning rate.

    `data` is the data set called `name`, or a batch of it with the examples of these `numbers`.
    """
    if fault := check.found(data, numbers):
        return f"labels of the {name} data are not classes: {fault}"
    for path, x in jax.tree.leaves_with_path(data):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            continue
        finite = jnp.isfinite(x).reshape(x.shape[0], -1).all(1)
        if not bool(finite.all()):
            first = int(jnp.argmin(finite))
            where = f"{jax.tree_util.keystr(path)} in example {first if numbers is None else numbers[first]}".strip()
            return f"the {name} data itself holds NaN or infinity, the first {where}: clean it first."
    before = "" if check.knows else _ranges(data)
    return before + (
        "try a learning rate 3 to 10 times lower, a warm-up, or optax.clip_by_global_norm(1.0) before the optimiser; "
        "jax.config.update('jax_debug_nans', True) shows the operation that made the first NaN."
    )


def _ranges(data: Any) -> str:
    """Describes the range of integer labels whose number of classes only the loss function knows."""
    try:
        labels = fields.get(data, fields.find(data, "targets"))
    except ValueError:
        labels = None
    found = [
        f"{jax.tree_util.keystr(path)}, from {int(x.min())} to {int(x.max())},"
        for path, x in jax.tree.leaves_with_path(data)
        if jnp.issubdtype(x.dtype, jnp.integer)
        and (x is labels or re.search("label|target|sequence", jax.tree_util.keystr(path)))
    ]
    return f"see first that {' and '.join(found)} are classes that the model has logits for; then " if found else ""
