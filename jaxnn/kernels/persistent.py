"""A recurrence as one GPU kernel for all time steps (`kernels.walk`), and one for the way back.

The inputs' products for all steps are one product of XLA's, before the walk. The way back walks with the state's
cotangent alone; of the forward walk it needs the states. From them the coefficients of all steps follow at once, by
`Cell.step` with time as a batch axis, and the weights' gradients are one product each, after the walk.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.recurrence import Cell, Weights
from jaxnn.kernels.settings import default_precision, settled
from jaxnn.kernels.walk import ROWS, Walk, layout_of, tiled, untiled, walk_over

Carry = tuple[jax.Array, ...]

_interpreted_context = jax.make_user_context(default_value=False)


class Persistent(NamedTuple):
    """A cell for `persistent`.

    Attributes:
        cell: The same layer for `recurrence`.
        gates: Number of the inputs' products, `cell.project`.
        constants: `(weights) -> (hidden,) arrays` that the steps read besides.
        forward: The walk from state to state.
        coefficients: `(saved) -> arrays` of a step that `back` reads.
        count: Their number.
        back: The walk of the cotangents. Its parts are the coefficients and the output's cotangent.
        values: Number of arrays that `back` writes.
        outside: `(written) -> e`: the cotangent of `cell.outside`.
    """

    cell: Cell
    gates: int
    constants: Callable[[Weights], tuple[jax.Array, ...]]
    forward: Walk
    coefficients: Callable[[Any], tuple[jax.Array, ...]]
    count: int
    back: Walk
    values: int
    outside: Callable[[list[jax.Array]], Any]


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
    """Runs the kernels in Python, on CPU: slow, for tests."""
    with _interpreted_context(True):
        yield


def is_interpreted() -> bool:
    """Whether kernels run in Python here."""
    return bool(_interpreted_context.value)


def fits(form: Persistent, hidden: int) -> bool:
    """Whether the walks of so many units fit on the chip, with masks."""
    full = -(-hidden // ROWS) * ROWS
    walks = ((form.forward, form.gates + 1), (form.back, form.count + 2))
    return all(layout_of(walk, parts, full) is not None for walk, parts in walks)


def persistent(
    form: Persistent, reverse: bool, weights: Weights, carry: Carry, xs: jax.Array, inside: jax.Array | None
) -> tuple[jax.Array, Carry]:
    """Runs a cell.

    Args:
        form: The cell.
        reverse: Whether to begin at the last step.
        weights: The cell's weights.
        carry: The state before the first step, `(batch, hidden)`.
        xs: `(time, batch, features)`.
        inside: Bool `(time, batch)`: whether a step counts; None means always.

    Returns:
        The state's first part after each step, `(time, batch, hidden)`, and the last state.
    """
    return _persistent(form, reverse, is_interpreted(), default_precision(), weights, carry, xs, inside)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _persistent(
    form: Persistent,
    reverse: bool,
    interpret: bool,
    precision: str | None,
    weights: Weights,
    carry: Carry,
    xs: jax.Array,
    inside: jax.Array | None,
) -> tuple[jax.Array, Carry]:
    (ys,), last = _forward(form, reverse, interpret, weights, carry, xs, inside, writes=1)
    return ys, last


def _save(
    form: Persistent, reverse: bool, interpret: bool, precision: str | None, *run: Any
) -> tuple[tuple[jax.Array, Carry], Any]:
    states, last = _forward(form, reverse, interpret, *run, writes=len(run[1]))
    return (states[0], last), (run, states)


def _back(form: Persistent, reverse: bool, interpret: bool, precision: str | None, saved: Any, cotangents: Any) -> Any:
    (weights, carry, xs, inside), states = saved
    with settled((weights, xs), precision):
        cell, (d_ys, d_last) = form.cell, cotangents
        prepared = cell.prepare(weights)
        before = tuple(
            jnp.concatenate([a[1:], c[None]] if reverse else [c[None], a[:-1]])
            for a, c in zip(states, carry, strict=True)
        )
        _, saved = cell.step(prepared, before, cell.project(prepared, xs))
        written, d_carry = _walk(
            form.back,
            _matrices(weights.w_h, form.gates),
            (*form.coefficients(saved), d_ys),
            (),
            tuple(a.astype(jnp.float32) for a in d_last),
            inside,
            writes=form.values,
            reverse=not reverse,
            interpret=interpret,
        )
        e = form.outside([a.astype(jnp.float32) for a in written])
        d_weights, d_xs = jax.linear_transpose(
            lambda d_weights, d_xs: cell.outside(weights, d_weights, xs, d_xs, saved), weights, xs
        )(e)
        return d_weights, tuple(a.astype(c.dtype) for a, c in zip(d_carry, carry, strict=True)), d_xs, None


_persistent.defvjp(_save, _back)


def _forward(
    form: Persistent,
    reverse: bool,
    interpret: bool,
    weights: Weights,
    carry: Carry,
    xs: jax.Array,
    inside: jax.Array | None,
    *,
    writes: int,
) -> tuple[list[jax.Array], Carry]:
    parts = form.cell.project(form.cell.prepare(weights), xs)
    w_h = jnp.swapaxes(_matrices(weights.w_h, form.gates), 1, 2)
    constants = form.constants(weights)
    written, last = _walk(
        form.forward, w_h, parts, constants, carry, inside, writes=writes, reverse=reverse, interpret=interpret
    )
    return written, tuple(last)


def _walk(
    walk: Walk,
    weights: jax.Array,
    parts: tuple[jax.Array, ...],
    constants: tuple[jax.Array, ...],
    state: Carry,
    inside: jax.Array | None,
    *,
    writes: int,
    reverse: bool,
    interpret: bool,
) -> tuple[list[jax.Array], list[jax.Array]]:
    """As `walk_over`, of arrays `(time, batch, units)`, `(units,)` and `(batch, units)`."""
    batch, units = state[0].shape
    hidden = -(-units // ROWS) * ROWS
    gap = (0, hidden - units)
    wide = [part.astype(jnp.float32) for part in parts]
    if inside is not None:
        wide.append(jnp.broadcast_to(inside[..., None], wide[0].shape).astype(jnp.float32))
    full = [jnp.broadcast_to(a.astype(jnp.float32), (batch, units)) for a in constants]
    written, last = walk_over(
        walk,
        jnp.pad(weights, ((0, 0), gap, gap)),
        jnp.stack([tiled(part, hidden) for part in wide], 2),
        tuple(tiled(a, hidden) for a in full),
        tuple(tiled(a, hidden) for a in state),
        writes=writes,
        masked=inside is not None,
        reverse=reverse,
        interpret=interpret,
    )
    return [untiled(a, batch, units) for a in written], [untiled(a, batch, units) for a in last]


def _matrices(w_h: jax.Array, gates: int) -> jax.Array:
    """The recurrent weights of each gate: `(gates, hidden, hidden)`, the states as rows."""
    return jnp.stack(jnp.split(w_h, gates, axis=1))


def logistic(a: jax.Array) -> jax.Array:
    """The sigmoid by the tanh, for which these GPUs have an instruction."""
    return 0.5 * jnp.tanh(0.5 * a) + 0.5
