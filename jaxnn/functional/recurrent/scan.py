"""The algorithm "scan": the plain reference, against which every other one is tested."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.cell import Cell
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.kernels.accumulate import narrowed, widened
from jaxnn.kernels.geometry import known
from jaxnn.kernels.masks import Masks, counted, entered, kept
from jaxnn.kernels.settings import is_plain


def scan(cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    """Runs the cell's `step` over time.

    Args:
        cell: The cell.
        task: The arrays of the run.
        options: The options of the run.

    Returns:
        The outputs, time first, and the final state.
    """
    # The backward scan sums the parameters' gradients in the dtype in which they enter the scan.
    wide = jax.tree.map(widened, task.params)

    def body(state: Any, inputs: tuple[Any, Masks]) -> tuple[Any, Any]:
        x, masks = inputs
        params = narrowed(wide, task.params)
        state = entered(masks, state, task.restart)
        new = cell.step(params, state, counted(masks, x))
        return kept(masks, new, state, cell.output(params, new))

    def run(part: Task) -> tuple[Any, Any]:
        inputs = part.xs, part.masks
        if options.reverse and is_plain():
            # Converters support only scans that go forward.
            final, ys = jax.lax.scan(body, part.state, _flipped(inputs))
            return _flipped(ys), final
        final, ys = jax.lax.scan(body, part.state, inputs, reverse=options.reverse)
        return ys, final

    return blocks(run, task, options)


def _flipped(tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.flip(a, 0), tree)


def blocks(run: Callable[[Task], tuple[Any, Any]], task: Task, options: Options) -> tuple[Any, Any]:
    """Calls `run(task) -> (ys, state)` on blocks of `options.remat` steps, or on all steps at once.

    Only the state at the start of each block is kept for the backward pass; the rest is recomputed. Over blocks the
    gradients of the parameters are added up in at least float32.
    """
    size, reverse, time = options.remat, options.reverse, task.xs.shape[0]
    if size is None or (known(time) and time < size):
        return run(task)
    rest = time % size
    if not known(rest):
        raise ValueError(
            f"remat: expected a divisor of the number of steps where that is symbolic, got {size} for {time} steps; "
            f"name them '{size}*n' in jax.export.symbolic_shape, or omit remat."
        )
    whole, inputs, wide = time - rest, (task.xs, task.masks), jax.tree.map(widened, task.params)
    parts = jax.tree.map(lambda a: a[:whole].reshape(whole // size, size, *a.shape[1:]), inputs)
    others = jax.tree.map(lambda a: a[whole:], inputs)

    def run_part(state: Any, inputs: Any) -> tuple[Any, Any]:
        xs, masks = inputs
        ys, state = run(Task(narrowed(wide, task.params), state, task.restart, xs, masks))
        return state, ys

    inner = jax.checkpoint(run_part, prevent_cse=False)  # inside a scan nothing can be shared anyway

    def run_blocks(state: Any) -> tuple[Any, Any]:
        state, ys = jax.lax.scan(inner, state, parts, reverse=reverse)
        return state, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), ys)

    if whole == time:
        state, ys = run_blocks(task.state)
        return ys, state
    if reverse:
        state, late = run_part(task.state, others)
        state, early = run_blocks(state)
    else:
        state, early = run_blocks(task.state)
        state, late = run_part(state, others)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, late), state
