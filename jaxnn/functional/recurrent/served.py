"""The shared parts of the algorithms for `fused` forms: checks, and merging any number of batch axes into one."""

import math
from collections.abc import Callable
from typing import Any

import jax

from jaxnn.functional.recurrent.cell import Cell, NotServedError, first_leaf
from jaxnn.functional.recurrent.scan import blocks, scan
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.functional.sharding import sharded
from jaxnn.kernels.masks import choose, counted, zeros

Arrays = tuple[jax.Array, ...]
Kernel = Callable[[Any, Arrays, jax.Array, jax.Array | None], tuple[jax.Array, Arrays]]
"""`(weights, state, xs, inside) -> (ys, state)`, with `(rows, units)`, `(time, rows, features)` and `(time, rows)`."""


def fused_form(cell: Cell, task: Task) -> tuple[Any, Any]:
    """The kernels' cell and its weights; raises `NotServedError` if kernels do not serve.

    On an explicit mesh shardings are part of types, so merging axes, for example time and batch into the rows of a
    product, would need a new sharding.
    """
    if cell.fused is None:
        raise NotServedError("no fused form of this cell (Cell.fused)")
    if cell.output is not first_leaf:
        raise NotServedError("no support for an output other than the state's first array (Cell.output)")
    if sharded(task):
        raise NotServedError("no support for arrays that are sharded over an explicit mesh")
    return cell.fused(task.params)


def check_uncut(task: Task) -> None:
    """Raises `NotServedError` if `resets` or `truncate` cut the sequence or its derivative between two steps."""
    if task.masks.reset is not None:
        raise NotServedError("no support for resets")
    if task.masks.detached is not None:
        raise NotServedError("no support for truncate")


def run_rows(kernel: Kernel, cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    """Runs a kernel that takes one batch axis, as `scan.scan`; without steps or sequences it runs the scan."""
    if 0 in task.xs.shape[:-1]:
        return scan(cell, task, options)
    batch = task.xs.shape[1:-1]
    rows = math.prod(batch)

    def run(part: Task) -> tuple[jax.Array, Any]:
        _, weights = fused_form(cell, part)
        xs, inside, (leaves, structure) = counted(part.masks, part.xs), part.masks.inside, jax.tree.flatten(part.state)
        ys, last = kernel(
            weights,
            tuple(a.reshape(rows, a.shape[-1]) for a in leaves),
            xs.reshape(len(xs), rows, xs.shape[-1]),
            None if inside is None else inside.reshape(len(xs), rows),
        )
        ys = ys.reshape(len(xs), *batch, ys.shape[-1])
        if inside is not None:
            ys = choose(inside, ys, zeros(ys))
        return ys, jax.tree.unflatten(structure, [a.reshape(*batch, a.shape[-1]) for a in last])

    return blocks(run, task, options)
