"""The algorithm "cudnn": the LSTM of NVIDIA's cuDNN, for LSTM cells without variants."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.cell import Cell, NotServedError
from jaxnn.functional.recurrent.served import Arrays, check_uncut, fused_form, run_rows
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.kernels import cudnn as kernel
from jaxnn.kernels import cudnn_trial
from jaxnn.kernels.geometry import known
from jaxnn.kernels.masks import choose
from jaxnn.kernels.settings import is_plain


def check(cell: Cell, task: Task) -> None:
    """Raises `NotServedError` if "cudnn" does not serve."""
    known_cell, _ = fused_form(cell, task)
    if known_cell is not kernel.CELL:
        raise NotServedError("no support for this cell, only for an LSTM")
    if other := {a.dtype.name for a in jax.tree.leaves((task.params, task.state, task.xs))} - {"float32"}:
        raise NotServedError(f"no support for {', '.join(sorted(other))}, only for float32")
    check_uncut(task)
    sizes = *task.xs.shape, *(n for a in jax.tree.leaves(task.state) for n in a.shape)
    if not all(map(known, sizes)):
        raise NotServedError("no support for symbolic sizes")
    if task.xs.shape[-1] == 0 or jax.tree.leaves(task.state)[0].shape[-1] == 0:
        raise NotServedError("no support for layers without features or units")
    if is_plain():
        raise NotServedError("no support for `kernels.plain`")
    if lacks := cudnn_trial.missing():
        raise NotServedError(lacks)


def cudnn(cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    """As `scan.scan`."""
    check(cell, task)
    return run_rows(partial(_run, options.reverse), cell, task, options)


def _run(
    reverse: bool, weights: Any, state: Arrays, xs: jax.Array, inside: jax.Array | None
) -> tuple[jax.Array, Arrays]:
    """Moves the steps that count to the front of each sequence, in forward order, and runs them."""
    if reverse:
        xs, inside = jnp.flip(xs, 0), None if inside is None else jnp.flip(inside, 0)
    if inside is None:
        lengths = jnp.full(xs.shape[1], len(xs), jnp.int32)
        ys, state = kernel.run(jnp.moveaxis(xs, 1, 0), state, weights, lengths)
        ys = jnp.moveaxis(ys, 0, 1)
    else:
        lengths = jnp.sum(inside, axis=0, dtype=jnp.int32)
        order = jnp.argsort(~inside, axis=0, stable=True)
        # cuDNN refuses sequences without a step, so these run one, whose results are dropped.
        some = jnp.maximum(lengths, jnp.ones_like(lengths))
        ys, new = kernel.run(jnp.moveaxis(_taken(xs, order), 1, 0), state, weights, some)
        ys = _taken(jnp.moveaxis(ys, 0, 1), jnp.argsort(order, axis=0))
        state = choose(lengths > 0, new, state)
    return jnp.flip(ys, 0) if reverse else ys, state


def _taken(array: jax.Array, steps: jax.Array) -> jax.Array:
    """Reorders the steps of `array (time, sequences, features)`; `steps (time, sequences)` are permutations."""
    sequences = jnp.broadcast_to(jnp.arange(steps.shape[1], dtype=steps.dtype)[None], steps.shape)
    return array.at[steps, sequences].get(unique_indices=True, mode="promise_in_bounds")
