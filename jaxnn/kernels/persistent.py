"""A recurrence as one GPU kernel for all time steps, and one for the backward pass (`kernels.walk_gpu`).

The products with the inputs of all steps are one XLA product before the walk. The backward walk carries only the
state's cotangent, and needs only the states of the forward walk. From these `Cell.step`, with time as a batch axis,
computes the coefficients of all steps at once. After the walk, each weight's gradient is one product.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.recurrence import Carry, Cell, Weights
from jaxnn.kernels.settings import default_precision, settled
from jaxnn.kernels.walk import Arrays, Walk, padded, tiled, untiled
from jaxnn.kernels.walk_gpu import walk_over

# Whether kernels run in Python on CPU: slow, for tests.
interpreted = jax.make_user_context(default_value=False)


class _How(NamedTuple):
    cell: Cell
    reverse: bool
    interpret: bool
    precision: str | None


def persistent(
    cell: Cell, reverse: bool, weights: Weights, carry: Carry, xs: jax.Array, inside: jax.Array | None
) -> tuple[jax.Array, Carry]:
    """Runs a cell that has `walks`; it has reverse-mode derivatives only.

    Args:
        cell: The cell.
        reverse: Whether to begin at the last step.
        weights: The cell's weights, in half precision.
        carry: The state before the first step, `(batch, hidden)`.
        xs: `(time, batch, features)`.
        inside: Bool `(time, batch)`: whether a step counts; None means always.

    Returns:
        The first part of the state after each step, `(time, batch, hidden)`, and the last state.
    """
    return _persistent(_How(cell, reverse, interpreted.value, default_precision()), weights, carry, xs, inside)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _persistent(
    how: _How, weights: Weights, carry: Carry, xs: jax.Array, inside: jax.Array | None
) -> tuple[jax.Array, Carry]:
    (ys,), last = _forward(how, weights, carry, xs, inside, writes=1)
    return ys, last


def _save(
    how: _How, weights: Weights, carry: Carry, xs: jax.Array, inside: jax.Array | None
) -> tuple[tuple[jax.Array, Carry], Any]:
    states, last = _forward(how, weights, carry, xs, inside, writes=len(carry))
    return (states[0], last), (weights, carry, xs, inside, states)


def _back(how: _How, kept: Any, cotangents: tuple[jax.Array, Carry]) -> Any:
    weights, carry, xs, inside, states = kept
    cell, (d_ys, d_last), walks = how.cell, cotangents, _walks(how.cell)
    with settled((weights, xs), how.precision):
        prepared = cell.prepare(weights)
        before = tuple(
            jnp.concatenate([after[1:], first[None]] if how.reverse else [first[None], after[:-1]])
            for after, first in zip(states, carry, strict=True)
        )
        _, saved = cell.step(prepared, before, cell.project(prepared, xs))  # type: ignore[misc]
        written, d_carry = _walk(
            walks.back,
            _matrices(walks.forward, weights),
            (*walks.coefficients(saved), d_ys),
            (),
            tuple(a.astype(jnp.float32) for a in d_last),
            inside,
            writes=walks.back.writes,
            reverse=not how.reverse,
            interpret=how.interpret,
        )
        e = walks.outside([a.astype(jnp.float32) for a in written])

        def outside(d_weights: Weights, d_xs: jax.Array) -> Any:
            return cell.outside(weights, d_weights, xs, d_xs, saved)

        d_weights, d_xs = jax.linear_transpose(outside, weights, xs)(e)
    return d_weights, tuple(a.astype(b.dtype) for a, b in zip(d_carry, carry, strict=True)), d_xs, None


_persistent.defvjp(_save, _back)


def _forward(
    how: _How, weights: Weights, carry: Carry, xs: jax.Array, inside: jax.Array | None, *, writes: int
) -> tuple[list[jax.Array], Carry]:
    cell, walks = how.cell, _walks(how.cell)
    written, last = _walk(
        walks.forward,
        jnp.swapaxes(_matrices(walks.forward, weights), 1, 2),
        cell.project(cell.prepare(weights), xs),  # type: ignore[misc]
        walks.constants(weights),
        carry,
        inside,
        writes=writes,
        reverse=how.reverse,
        interpret=how.interpret,
    )
    return written, tuple(last)


def _walk(
    walk: Walk,
    weights: jax.Array,
    parts: Arrays,
    constants: Arrays,
    state: Arrays,
    inside: jax.Array | None,
    *,
    writes: int,
    reverse: bool,
    interpret: bool,
) -> tuple[list[jax.Array], list[jax.Array]]:
    """As `walk_over`, of arrays `(time, batch, units)`, `(units,)` and `(batch, units)`."""
    batch, units = state[0].shape
    gap = (0, padded(units) - units)
    wide = [part.astype(jnp.float32) for part in parts]
    if inside is not None:
        wide.append(jnp.broadcast_to(inside[..., None], wide[0].shape).astype(jnp.float32))
    full = [jnp.broadcast_to(a.astype(jnp.float32), (batch, units)) for a in constants]
    written, last = walk_over(
        walk,
        jnp.pad(weights, ((0, 0), gap, gap)),
        jnp.stack([tiled(part) for part in wide], 2),
        tuple(tiled(a) for a in full),
        tuple(tiled(a) for a in state),
        writes=writes,
        masked=inside is not None,
        reverse=reverse,
        interpret=interpret,
    )
    return [untiled(a, batch, units) for a in written], [untiled(a, batch, units) for a in last]


def _matrices(forward: Walk, weights: Weights) -> jax.Array:
    """The recurrent weights of each gate: `(gates, hidden, hidden)`, the states as rows."""
    return jnp.stack(jnp.split(weights.w_h, forward.products, axis=1))


def _walks(cell: Cell) -> Any:
    assert cell.walks is not None
    return cell.walks
