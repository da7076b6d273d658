"""The algorithm "fused": cells with derivatives by hand, which are faster (`kernels.recurrence`)."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.cell import Activation, Cell, NotServedError
from jaxnn.functional.recurrent.scan import blocks
from jaxnn.functional.recurrent.served import check_output, check_unsharded
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.kernels.accumulate import narrowed, widened
from jaxnn.kernels.masks import Masks
from jaxnn.kernels.recurrence import Run, recurrence


def check(cell: Cell, task: Task) -> None:
    """Raises `NotServedError` if "fused" does not serve."""
    if cell.fused is None:
        raise NotServedError("no fused form of this cell (Cell.fused)")
    check_output(cell)
    cell.fused(task.params)
    check_unsharded(task)


def check_activations(activation: Activation, gate_activation: Activation) -> None:
    """Raises `NotServedError` if the kernels do not have the derivatives of a gated cell's activations."""
    if activation is not jnp.tanh:
        raise NotServedError("no support for activations other than tanh")
    if gate_activation is not jax.nn.sigmoid:
        raise NotServedError("no support for gate activations other than sigmoid")


def fused(cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    """As `scan.scan`."""
    check(cell, task)
    # As in `scan.scan`: over blocks of steps the gradients of the weights are added up in float32.
    wide = jax.tree.map(widened, task.params)
    restart = None if task.restart is None else tuple(jax.tree.leaves(task.restart))

    def run(carry: Any, inputs: tuple[jax.Array, Masks]) -> tuple[Any, jax.Array]:
        kernel, weights = cell.fused(narrowed(wide, task.params))  # type: ignore[misc]
        ys, carry = recurrence(kernel, options.reverse, Run(weights, carry, restart, *inputs))
        return carry, ys

    leaves, shape = jax.tree.flatten(task.state)
    final, ys = blocks(run, tuple(leaves), (task.xs, task.masks), options)
    return ys, jax.tree.unflatten(shape, final)
