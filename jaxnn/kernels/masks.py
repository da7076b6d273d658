"""Masks, resets and truncation around each step of a recurrence, whatever its cell."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.accumulate import narrowed


class Masks(NamedTuple):
    """Which steps count, reset the state or stop derivatives; `None` means never.

    Attributes:
        inside: `(time, *batch)`: whether the step counts. Otherwise the state stays and the output is zero.
        reset: `(time, *batch)`: whether the state is set back to the start of a sequence before the step.
        detached: `(time,)`: whether derivatives stop before the step.
    """

    inside: jax.Array | None = None
    reset: jax.Array | None = None
    detached: jax.Array | None = None


def choose(mask: jax.Array, new: Any, old: Any) -> Any:
    """Chooses between two trees of arrays by a mask of their leading axes, or by a scalar bool."""

    def one(a: jax.Array, b: jax.Array) -> jax.Array:
        expanded = jax.lax.expand_dims(mask, range(mask.ndim, a.ndim)) if mask.ndim else mask
        return jnp.where(expanded, a, b)

    return jax.tree.map(one, new, old)


def zeros(tree: Any) -> Any:
    """Replaces every array by zeros."""
    return jax.tree.map(jnp.zeros_like, tree)


def counted(masks: Masks, xs: Any) -> Any:
    """Sets the inputs that do not count to zero: even NaN must reach neither values nor derivatives."""
    return xs if masks.inside is None else choose(masks.inside, xs, zeros(xs))


def entered(masks: Masks, state: Any, start: Any) -> Any:
    """The state that a step sees: without derivatives where they stop, and `restarted`."""
    if masks.detached is not None:
        state = choose(masks.detached, jax.lax.stop_gradient(state), state)
    return restarted(masks, state, start)


def restarted(masks: Masks, state: Any, start: Any) -> Any:
    """A state, or its tangent, reset where a sequence begins.

    Args:
        masks: Whether a sequence begins.
        state: The state before the step.
        start: The state after a reset, `widened`, as every step adds to its gradient. None without resets.
    """
    return state if masks.reset is None else choose(masks.reset, narrowed(start, state), state)


def kept(masks: Masks, new: Any, old: Any, y: Any) -> tuple[Any, Any]:
    """The state and the output after a step: the old state and zero if the step does not count."""
    if masks.inside is None:
        return new, y
    return choose(masks.inside, new, old), choose(masks.inside, y, zeros(y))
