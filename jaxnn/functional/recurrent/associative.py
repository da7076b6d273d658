"""The algorithm "associative": all states at once by a parallel prefix scan, in O(log time) sequential steps."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.cell import Cell, NotServedError
from jaxnn.functional.recurrent.task import Options, Task
from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.geometry import known
from jaxnn.kernels.linear_recurrence import linear_recurrence
from jaxnn.kernels.masks import choose, counted, restarted, zeros


def check(cell: Cell, task: Task, options: Options) -> None:
    """Raises `NotServedError` if "associative" does not serve."""
    if cell.affine is None:
        raise NotServedError("no affine form of this cell (Cell.affine)")
    if options.remat is not None:
        raise NotServedError("no support for remat: it computes all states at once, not in blocks")
    if not known(task.xs.shape[0]):
        raise NotServedError("no support for a symbolic number of steps")


def associative(cell: Cell, task: Task, options: Options) -> tuple[Any, Any]:
    r"""As `scan.scan`, for cells whose step is `a * state + b` elementwise (`Cell.affine`).

    `kernels.linear_recurrence` joins the steps in pairs, the pairs in pairs, and so on: a sequence of :math:`T` steps
    takes :math:`2 \log_2 T` joins one after another. Every option is a change of `a` and `b`:

    - A step that does not count has `a = 1` and `b = 0`.
    - If the state before a step is known, `a * state` is added to `b`, and nothing from before that step passes it, not
      even NaN. The state is known before the first step (the initial state) and at a reset.
    - At a cut of `truncate` a join takes the part before it as a constant.

    The scan takes about three times the arithmetic of a loop and keeps several arrays as large as all states. Products
    of many `a` must stay finite: a cell whose state grows without bound needs "scan". The cell's `affine`, `project`
    and `output` see all steps at once, with time as first batch axis.

    References:
        Blelloch, Prefix sums and their applications, 1990. Martin and Cundy, Parallelizing linear recurrent neural nets
        over sequence length, 2018.
    """
    check(cell, task, options)
    states = _states(cell, task, options.reverse)
    ys = cell.output(task.params, states)
    if task.masks.inside is not None:
        ys = choose(task.masks.inside, ys, zeros(ys))
    if task.xs.shape[0] == 0:
        return ys, task.state
    return ys, jax.tree.map(lambda s: s[0 if options.reverse else -1], states)


def _states(cell: Cell, task: Task, reverse: bool) -> Any:
    """The states after all steps, time first."""
    masks, time = task.masks, task.xs.shape[0]
    a, b = affine_parts(cell, task)
    if masks.inside is not None:
        a, b = choose(masks.inside, (a, b), (jax.tree.map(jnp.ones_like, a), zeros(b)))
    start, restart = jax.tree.map(lambda s: widened(s)[None], (task.state, task.restart))

    # The known states before steps; zero where none is known.
    before = choose(jnp.arange(time) == (time - 1 if reverse else 0), start, zeros(b))
    before = restarted(masks, before, restart)
    entered = jax.tree.map(lambda a, b, state: b + a * state, a, b, before)
    states = linear_recurrence(a, entered, cut=masks.reset, detached=masks.detached, reverse=reverse)
    return jax.tree.map(lambda s, like: s.astype(like.dtype), states, task.state)


def affine_parts(cell: Cell, task: Task) -> tuple[Any, Any]:
    """The cell's `a` and `b` for all steps, in the dtype of their products; raises if they do not fit."""
    xs = counted(task.masks, task.xs)
    parts = cell.affine(task.params, xs if cell.project is None else cell.project(task.params, xs))  # type: ignore[misc]
    expected: list[Any] = [jax.tree.structure(task.state)] * 2
    if [jax.tree.structure(part) for part in parts] != expected:
        raise ValueError(
            f"cell.affine: expected (a, b), each a tree like the state, {expected[0]}, got {jax.tree.structure(parts)}"
        )

    def broadcast(part: Any, state: jax.Array) -> jax.Array:
        shape = xs.shape[0], *state.shape
        try:
            return jnp.broadcast_to(jnp.asarray(part).astype(widened(state).dtype), shape)
        except ValueError:
            raise ValueError(
                f"cell.affine: expected arrays that broadcast to the state, with time first {shape}, got shape "
                f"{jnp.shape(part)}"
            ) from None

    a, b = (jax.tree.map(broadcast, part, task.state) for part in parts)
    return a, b
