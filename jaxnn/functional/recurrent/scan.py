"""The algorithm "scan": the plain reference, against which every other one is tested."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.cell import Cell
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.kernels.accumulate import narrowed, widened
from jaxnn.kernels.geometry import known
from jaxnn.kernels.masks import Masks, choose, counted, kept, restarted
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
        if masks.detached is not None:
            state = choose(masks.detached, jax.lax.stop_gradient(state), state)
        state = restarted(masks, state, task.restart)
        new = cell.step(params, state, counted(masks, x))
        return kept(masks, new, state, cell.output(params, new))

    def run(state: Any, inputs: Any) -> tuple[Any, Any]:
        if options.reverse and is_plain():
            # Converters support only scans that go forward.
            state, ys = jax.lax.scan(body, state, _flipped(inputs))
            return state, _flipped(ys)
        return jax.lax.scan(body, state, inputs, reverse=options.reverse)

    final, ys = blocks(run, task.state, (task.xs, task.masks), options)
    return ys, final


def _flipped(tree: Any) -> Any:
    return jax.tree.map(lambda a: jnp.flip(a, 0), tree)


def blocks(run: Callable[[Any, Any], tuple[Any, Any]], state: Any, inputs: Any, options: Options) -> tuple[Any, Any]:
    """Calls `run(state, inputs) -> (state, ys)` on blocks of `options.remat` steps, or on all steps at once.

    Only the state at the start of each block is kept for the backward pass; the rest is recomputed.
    """
    size, reverse = options.remat, options.reverse
    time = jax.tree.leaves(inputs)[0].shape[0]
    if size is None or (known(time) and time < size):
        return run(state, inputs)
    rest = time % size
    if not known(rest):
        raise ValueError(
            f"remat: expected a divisor of the number of steps where that is symbolic, got {size} for {time} steps; "
            f"name them '{size}*n' in jax.export.symbolic_shape, or omit remat."
        )
    whole = time - rest
    parts = jax.tree.map(lambda a: a[:whole].reshape(whole // size, size, *a.shape[1:]), inputs)
    others = jax.tree.map(lambda a: a[whole:], inputs)
    inner = jax.checkpoint(run, prevent_cse=False)  # inside a scan nothing can be shared anyway

    def run_blocks(state: Any) -> tuple[Any, Any]:
        state, ys = jax.lax.scan(inner, state, parts, reverse=reverse)
        return state, jax.tree.map(lambda a: a.reshape(whole, *a.shape[2:]), ys)

    if whole == time:
        return run_blocks(state)
    if reverse:
        state, late = run(state, others)
        state, early = run_blocks(state)
    else:
        state, early = run_blocks(state)
        state, late = run(state, others)
    return state, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), early, late)
