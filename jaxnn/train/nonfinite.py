"""A lost loss: where it was lost, and what to try."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.data.stream import Stream

Record = dict[str, int | float]
History = list[Record]


class NonFiniteLossError(RuntimeError):
    """The loss or gradient became NaN or infinite.

    Attributes:
        epoch: The epoch in which it did, from 1.
        step: The step in which it did, from 1; the last of the epoch if only the test loss shows it.
        history: The records of the epochs so far, that one included.
    """

    def __init__(self, message: str, *, epoch: int, step: int, history: History):
        super().__init__(message)
        self.epoch, self.step, self.history = epoch, step, history


def first_lost(per_step: Mapping[str, np.ndarray], last: int) -> tuple[int, str, float] | None:
    """The first step whose loss or gradient is not finite, which of them it is and what it became; or None.

    Args:
        per_step: Metrics, `(steps,)`.
        last: The number of the last of these steps, from 1.
    """
    lost = ~(np.isfinite(per_step["loss"]) & np.isfinite(per_step["grad_norm"]))
    if not lost.any():
        return None
    index = int(lost.argmax())
    what = "loss" if not np.isfinite(per_step["loss"][index]) else "gradient"
    value = per_step["loss" if what == "loss" else "grad_norm"][index]
    return last - len(lost) + 1 + index, what, float(value)


def stop(found: tuple[int, str, float], history: History, data: Any) -> None:
    """Raises for what `first_lost` found, in the last epoch of the history."""
    step, what, value = found
    epoch = int(history[-1]["epoch"])
    if _has_non_finite(data):
        advice = "the training data itself holds NaN or infinity: clean it first"
    else:
        advice = (
            "try a learning rate 3 to 10 times lower, a warm-up, or optax.clip_by_global_norm(1.0) before "
            "the optimiser; "
            "jax.config.update('jax_debug_nans', True) shows the operation that made the first NaN"
        )
    raise NonFiniteLossError(
        f"the {what} became {value} in epoch {epoch}, step {step}, and training was stopped; {advice}",
        epoch=epoch,
        step=step,
        history=history,
    )


def _has_non_finite(data: Any) -> bool:
    if isinstance(data, Stream):
        return False  # it would have to be read whole
    floats = [x for x in jax.tree.leaves(data) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return not all(bool(jnp.isfinite(x).all()) for x in floats)
