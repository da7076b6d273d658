"""The shared parts of the algorithms for `fused` forms: checks, and merging any number of batch axes into one."""

import math
from collections.abc import Callable
from typing import Any

import jax

from jaxnn.functional.recurrent.cell import Cell, NotServedError, first_leaf
from jaxnn.functional.recurrent.scan import blocks, scan
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.functional.sharding import sharded
from jaxnn.kernels.masks import Masks, choose, counted, zeros

Kernel = Callable[[tuple[jax.Array, ...], jax.Array, jax.Array | None], tuple[jax.Array, tuple[jax.Array, ...]]]
"""`(state, xs, inside) -> (ys, state)`, for arrays `(rows, units)`, `(time, rows, features)` and `(time, rows)`."""


def check_output(cell: Cell) -> None:
    """Raises `NotServedError` unless the output is the state's first array."""
    if cell.output is not first_leaf:
        raise NotServedError("no support for an output other than the state's first array (Cell.output)")


def check_uncut(task: Task) -> None:
    """Raises `NotServedError` if `resets` or `truncate` cut the sequence or its derivative between two steps."""
    if task.masks.reset is not None:
        raise NotServedError("no support for resets")
    if task.masks.detached is not None:
        raise NotServedError("no support for truncate")


def check_unsharded(task: Task) -> None:
    """Raises `NotServedError` on an explicit mesh.

    Shardings are part of types there, so merging axes, for example time and batch into the rows of a product, would
    need a new sharding.
    """
    if sharded(task):
        raise NotServedError("no support for arrays that are sharded over an explicit mesh")


def run_rows(kernel: Kernel, cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    """Runs a kernel that takes one batch axis, as `scan.scan`; without steps or sequences it runs the scan."""
    if 0 in task.xs.shape[:-1]:
        return scan(cell, task, options)
    batch = task.xs.shape[1:-1]
    rows = math.prod(batch)

    def run(state: tuple[jax.Array, ...], inputs: tuple[jax.Array, Masks]) -> tuple[Any, jax.Array]:
        xs, masks = inputs
        merged = counted(masks, xs).reshape(len(xs), rows, xs.shape[-1])
        inside = None if masks.inside is None else masks.inside.reshape(len(xs), rows)
        ys, last = kernel(tuple(a.reshape(rows, a.shape[-1]) for a in state), merged, inside)
        ys = ys.reshape(len(xs), *batch, ys.shape[-1])
        if masks.inside is not None:
            ys = choose(masks.inside, ys, zeros(ys))
        return tuple(a.reshape(*batch, a.shape[-1]) for a in last), ys

    leaves, structure = jax.tree.flatten(task.state)
    final, ys = blocks(run, tuple(leaves), (task.xs, task.masks), options)
    return ys, jax.tree.unflatten(structure, final)
