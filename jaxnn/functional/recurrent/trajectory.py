r"""All steps of a recurrence at once: one step from each state, and the derivative of states that satisfy all of them.

The states of a sequence solve the equations :math:`h_t = f(h_{t-1}, x_t, \theta)`. Whatever method found them, their
derivative solves the linear equations

.. math:: \dot h_t = J_t \dot h_{t-1} + \partial f / \partial (x, \theta) \cdot (\dot x, \dot\theta)

(the implicit function theorem). Masks are part of :math:`f`: a step that does not count has :math:`J = 1`, a reset has
:math:`J = 0`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxnn.functional.recurrent.cell import State
from jaxnn.functional.recurrent.jacobian import coefficients, filled, groups, ungrouped
from jaxnn.functional.recurrent.task import Task
from jaxnn.kernels.accumulate import accumulator, broadcast
from jaxnn.kernels.implicit import implicit
from jaxnn.kernels.linear_recurrence import linear_recurrence
from jaxnn.kernels.masks import Masks, choose, entered
from jaxnn.kernels.settings import default_precision, settled


class Equations(NamedTuple):
    """The part of a trajectory's equations that is known while tracing.

    The arrays are those of a `Task`, whose `xs` is the input of `step`: an array, or the result of `Cell.project`.

    Attributes:
        step: `(params, state, x) -> state`.
        reverse: Whether time goes from the last step to the first.
        jacobian: `Cell.jacobian`: the structure of the derivative of `step` by the state; None if nothing is known.
    """

    step: Callable[..., State]
    reverse: bool
    jacobian: Any


def step_of(equations: Equations, params: Any, restart: State, before: State, x: Any, masks: Masks) -> State:
    """Runs one step with its masks."""
    before = entered(masks, before, restart)
    new = equations.step(params, before, x)
    return new if masks.inside is None else choose(masks.inside, new, before)


def step_from(equations: Equations, task: Task, before: State) -> State:
    """The state after one step from each of `before (time, ...)`, all steps at once."""
    time = length(before)
    restart = jax.tree.map(lambda a: jnp.broadcast_to(a, (time, *a.shape)), task.restart)

    def step(params: Any, *arrays: Any) -> State:
        return step_of(equations, params, *arrays)

    return at_every_step(step, task.params, restart, before, task.xs, task.masks)


def one_by_one(equations: Equations, task: Task) -> State:
    """The states of all steps, each computed from the last."""

    def body(state: State, inputs: Any) -> tuple[State, State]:
        new = step_of(equations, task.params, task.restart, state, *inputs)
        return new, new

    return jax.lax.scan(body, task.state, (task.xs, task.masks), reverse=equations.reverse)[1]


def shifted(start: State, states: State, reverse: bool) -> State:
    """The state before each step, of the states after each."""

    def shift(first: jax.Array, rest: jax.Array) -> jax.Array:
        return jnp.concatenate([rest[1:], first[None]] if reverse else [first[None], rest[:-1]])

    return jax.tree.map(shift, start, states)


def at_every_step(function: Callable[..., Any], params: Any, *arrays: Any) -> Any:
    """`function(params, *arrays)` for every step of arrays `(time, ...)`."""
    leaves, tree = jax.tree.flatten(params)
    time = length(arrays)
    # The gradient of a vector is summed over all steps, here in float32. A matrix enters by a product, which sums in
    # float32 already.
    each = [
        jnp.issubdtype(leaf.dtype, jnp.floating) and accumulator(leaf.dtype) != leaf.dtype and leaf.ndim <= 1
        for leaf in leaves
    ]
    leaves = [broadcast(a, (time, *a.shape)) if own else a for a, own in zip(leaves, each, strict=True)]
    axes: Sequence[int | None] = [0 if own else None for own in each]

    def one(leaves: Any, arrays: Any) -> Any:
        return function(jax.tree.unflatten(tree, leaves), *arrays)

    return jax.vmap(one, in_axes=(axes, 0))(leaves, arrays)


def length(tree: Any) -> int:
    """The number of steps of arrays `(time, ...)`."""
    return jax.tree.leaves(tree)[0].shape[0]


def differentiable(equations: Equations, precision: str | None, states: State, task: Task) -> State:
    """States that satisfy the equations, with the derivative that this gives them.

    Args:
        equations: The equations.
        precision: `default_precision()` where the states are computed.
        states: The states after every step, `(time, *batch, ...)`; how they were found is not differentiated.
        task: The arrays of the equations, by which the states are differentiated.

    Returns:
        `states`.
    """
    leaves, tree = jax.tree.flatten(states)
    arrays, tree_of_task = jax.tree.flatten(task)

    def tangent(states: Sequence[Any], arrays: Sequence[Any], d_arrays: Sequence[Any]) -> Sequence[Any]:
        task, d_task = (jax.tree.unflatten(tree_of_task, leaves) for leaves in (arrays, d_arrays))
        with settled(task, precision or default_precision()):
            return jax.tree.leaves(_tangent(equations, jax.tree.unflatten(tree, states), task, d_task))

    return jax.tree.unflatten(tree, implicit(tangent, leaves, arrays))


def _tangent(equations: Equations, states: State, task: Task, d_task: Task) -> State:
    before = shifted(task.state, states, equations.reverse)
    added = _outside(equations, before, task, d_task)
    start = jax.tree.map(lambda a, d: filled(a, 0.0) if isinstance(d, SymbolicZero) else d, task.state, d_task.state)
    structure = equations.jacobian
    if structure is None:
        return _along(equations, before, task, start, added)
    _, push = jax.linearize(partial(step_from, equations, task), before)
    a = coefficients(structure, push, before)
    first = [group[0] for group in groups(structure, jax.tree.map(lambda d: d[None], start))]
    d = linear_recurrence(a, groups(structure, added), first, reverse=equations.reverse)
    return ungrouped(structure, d, states)


def _outside(equations: Equations, before: State, task: Task, d_task: Task) -> State:
    """The change of the state after each step by the tangents of parameters and inputs, for given states before it."""
    leaves, tree = jax.tree.flatten((task.params, task.restart, task.xs))
    d_leaves = jax.tree.leaves((d_task.params, d_task.restart, d_task.xs))
    moving = [i for i, d in enumerate(d_leaves) if not isinstance(d, SymbolicZero)]
    if not moving:
        return jax.tree.map(lambda a: filled(a, 0.0), before)

    def run(*moved: jax.Array) -> State:
        given = dict(zip(moving, moved, strict=True))
        params, restart, xs = jax.tree.unflatten(tree, [given.get(i, leaf) for i, leaf in enumerate(leaves)])
        return step_from(equations, task._replace(params=params, restart=restart, xs=xs), before)

    return jax.jvp(run, [leaves[i] for i in moving], [d_leaves[i] for i in moving])[1]


def _along(equations: Equations, before: State, task: Task, start: State, added: State) -> State:
    """Solves the linear equations with a Jacobian of any structure, one step after the other."""

    def body(d: State, step: Any) -> tuple[State, State]:
        before, added, x, masks = step

        def advance(state: State) -> State:
            return step_of(equations, task.params, task.restart, state, x, masks)

        _, moved = jax.jvp(advance, (before,), (d,))
        d = jax.tree.map(jnp.add, moved, added)
        return d, d

    return jax.lax.scan(body, start, (before, added, task.xs, task.masks), reverse=equations.reverse)[1]
