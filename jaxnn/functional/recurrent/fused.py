"""The algorithm "fused": cells with derivatives by hand, which are faster (`kernels.recurrence`)."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.cell import Activation, Cell, NotServedError
from jaxnn.functional.recurrent.scan import blocks
from jaxnn.functional.recurrent.served import fused_form
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.kernels.recurrence import Run, recurrence


def check_activations(activation: Activation, gate_activation: Activation) -> None:
    """Raises `NotServedError` if the kernels do not have the derivatives of a gated cell's activations."""
    if activation is not jnp.tanh:
        raise NotServedError("no support for activations other than tanh")
    if gate_activation is not jax.nn.sigmoid:
        raise NotServedError("no support for gate activations other than sigmoid")


def fused(cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    """As `scan.scan`."""
    fused_form(cell, task)  # before anything is traced

    def run(part: Task) -> tuple[jax.Array, Any]:
        kernel, weights = fused_form(cell, part)
        carry, structure = jax.tree.flatten(part.state)
        restart = None if part.restart is None else tuple(jax.tree.leaves(part.restart))
        ys, last = recurrence(kernel, options.reverse, Run(weights, tuple(carry), restart, part.xs, part.masks))
        return ys, jax.tree.unflatten(structure, last)

    return blocks(run, task, options)
