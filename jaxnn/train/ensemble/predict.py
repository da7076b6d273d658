"""Outputs of every member for a data set, by one program."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.train.ensemble.program import Ensemble, make
from jaxnn.train.step.compiling import Options, Value, check_options
from jaxnn.train.step.evaluate import predict as predict_one
from jaxnn.train.step.expected import check_static
from jaxnn.train.step.state import TrainState, check_state, without_optimizer
from jaxnn.train.step.step import Preprocess


def predict(
    states: TrainState,
    data: Any,
    apply_fn: Callable[[Any, Any], Any],
    *,
    preprocess: Preprocess | None = None,
    batch_size: int = 256,
    ema: bool = False,
    members_per_chunk: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: int | None = None,
    compiler_options: Options | None = None,
) -> Any:
    """Computes the outputs of every member for every example: `train.predict` of stacked states.

    Args:
        states: Stacked, from `ensemble.create` or after training; neither changed nor donated.
        data: As for `train.predict`.
        apply_fn: As for `train.predict`.
        preprocess: As for `train.predict`.
        batch_size: As for `train.predict`.
        ema: As for `train.predict`; each member has its own average.
        members_per_chunk: As for `ensemble.make`.
        devices: As for `ensemble.make`.
        memory: As for `ensemble.make`.
        compiler_options: As for `make_step`.

    Returns:
        The results of `apply_fn`, `(members, examples, ...)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models, train
        >>> states = train.ensemble.create(
        ...     lambda key: models.MLP((4, 3), rngs=nnx.Rngs(key)), train.optimizer(steps=1), {"seed": range(5)})
        >>> train.ensemble.predict(states, jnp.ones((7, 4)), lambda model, x: model(x)).shape
        (5, 7, 3)
    """
    check_state(states, "states")
    check_static(apply_fn=apply_fn, preprocess=preprocess)
    program = _program(
        apply_fn,
        preprocess,
        batch_size,
        ema,
        members_per_chunk,
        None if devices is None else tuple(devices),
        memory,
        None if compiler_options is None else tuple(check_options(compiler_options).items()),
    )
    # The program donates its states.
    return program(jax.tree.map(jnp.copy, without_optimizer(states)), data)[1]


@lru_cache(maxsize=8, typed=True)  # each holds its compiled programs
def _program(
    apply_fn: Callable[[Any, Any], Any],
    preprocess: Preprocess | None,
    batch_size: int,
    ema: bool,
    members_per_chunk: int | None,
    devices: tuple[jax.Device, ...] | None,
    memory: int | None,
    compiler_options: tuple[tuple[str, Value], ...] | None,
) -> Ensemble:
    def outputs(state: TrainState, data: Any) -> tuple[TrainState, Any]:
        return state, predict_one(state, data, apply_fn, preprocess=preprocess, batch_size=batch_size, ema=ema)

    return make(
        outputs,
        members_per_chunk=members_per_chunk,
        devices=devices,
        memory=memory,
        compiler_options=None if compiler_options is None else dict(compiler_options),
    )
