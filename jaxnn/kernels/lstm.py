"""The LSTM's cell for `recurrence`: gates in the order i, f, g, o, without any variant.

Its weights are a named tuple of `w_x (features, 4 hidden)`, `w_h (hidden, 4 hidden)`, `b (4 hidden,)`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.recurrence import (
    Cell,
    Weights,
    columns_of,
    dot,
    dot_halved,
    dot_transposed,
    dot_units_first,
    gates,
    halves,
    products,
    projected,
    rows,
    units_first,
    units_last,
)
from jaxnn.kernels.walk import Arrays, Walk, Walks, logistic, state_is_operand

Carry = tuple[jax.Array, jax.Array]


class _Prepared(NamedTuple):
    weights: Weights
    w: jax.Array  # of inputs and state, one above the other: one product a step
    halves: tuple[jax.Array, ...]  # for `dot_halved`


class _Saved(NamedTuple):
    h: jax.Array  # before the step
    # The derivatives: of c by the pre-activations of i, f, g and by the c before; of h by that of o and by c.
    c_i: jax.Array
    c_f: jax.Array
    c_g: jax.Array
    c_c: jax.Array
    h_o: jax.Array
    h_c: jax.Array


def _prepare(weights: Weights) -> _Prepared:
    w = jnp.concatenate([weights.w_x, weights.w_h])
    return _Prepared(weights, w, halves(w))


def _project(w: _Prepared, xs: jax.Array) -> tuple[jax.Array, ...]:
    return gates(projected(xs, w.weights.w_x, w.weights.b), 4)


def _step(w: _Prepared, carry: Carry, x: jax.Array | tuple[jax.Array, ...]) -> tuple[Carry, _Saved]:
    h, c = carry
    if isinstance(x, tuple):
        return _gated(x, gates(dot(h, w.weights.w_h), 4), h, c, h)
    pre = gates(dot_halved(jnp.concatenate([x, h], axis=-1), w.w, w.halves), 4)
    return _gated(pre, [rows(b, a) for a, b in zip(pre, gates(w.weights.b, 4), strict=True)], h, c, h)


def _gated(
    pre: Sequence[jax.Array], more: Sequence[jax.Array], h: jax.Array, c: jax.Array, saved: jax.Array
) -> tuple[Carry, _Saved]:
    i, f, g, o = (a + b for a, b in zip(pre, more, strict=True))
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    new_c = f * c + i * g
    t = jnp.tanh(new_c)
    slopes = _Saved(
        h=saved,
        c_i=g * (i * (1 - i)),
        c_f=c * (f * (1 - f)),
        c_g=i * (1 - g * g),
        c_c=f,
        h_o=t * (o * (1 - o)),
        h_c=o * (1 - t * t),
    )
    return ((o * t).astype(h.dtype), new_c), slopes


def _outside(w: Weights, d: Weights, xs: jax.Array, d_xs: jax.Array | None, s: _Saved) -> jax.Array:
    return products(s.c_c, w.b.shape[0], (d_xs, w.w_x), (xs, d.w_x), (s.h, d.w_h), bias=d.b)


def _along(w_h_t: jax.Array, s: _Saved, d: Carry, e: jax.Array) -> Carry:
    return _followed(gates(e, 4), gates(dot_transposed(d[0], w_h_t), 4), s, d)


def _followed(outside: Sequence[jax.Array], along: Sequence[jax.Array], s: _Saved, d: Carry) -> Carry:
    d_h, d_c = d
    i, f, g, o = (a + b for a, b in zip(outside, along, strict=True))
    d_c = s.c_c * d_c + s.c_i * i + s.c_f * f + s.c_g * g
    return (s.h_c * d_c + s.h_o * o).astype(d_h.dtype), d_c


# Units first: inputs and states are columns, (units, *batch). The products outside of time still read and write rows.


def _prepare_units_first(weights: Weights) -> _Prepared:
    return _Prepared(weights, jnp.concatenate([weights.w_x, weights.w_h]).T, ())


def _step_units_first(w: _Prepared, carry: Carry, x: jax.Array) -> tuple[Carry, _Saved]:
    h, c = carry
    pre = jnp.split(dot_units_first(w.w, 1, jnp.concatenate([x, h])), 4)
    bias = [columns_of(b, a) for a, b in zip(pre, gates(w.weights.b, 4), strict=True)]
    return _gated(pre, bias, h, c, units_last(h))


def _outside_units_first(w: Weights, d: Weights, xs: jax.Array, d_xs: jax.Array | None, s: _Saved) -> jax.Array:
    xs, d_xs = units_last(xs, 1), None if d_xs is None else units_last(d_xs, 1)
    return _outside(w, d, xs, d_xs, s._replace(c_c=units_last(s.c_c, 1)))


def _along_units_first(w_h: jax.Array, s: _Saved, d: Carry, e: jax.Array) -> Carry:
    return _followed(jnp.split(units_first(e), 4), jnp.split(dot_units_first(w_h, 0, d[0]), 4), s, d)


UNITS_FIRST = Cell(
    _prepare_units_first, lambda weights: weights.w_h, None, _step_units_first, _outside_units_first, _along_units_first
)


# On a GPU, tile by tile. The backward walk is the transpose of `_along`.


def _forward(x: Arrays, state: Arrays, others: Arrays, m: Arrays) -> Arrays:
    h, c = state
    i, f, g, o = (a + b for a, b in zip(x, m, strict=True))
    c = logistic(f) * c + logistic(i) * jnp.tanh(g)
    return (logistic(o) * jnp.tanh(c)).astype(h.dtype), c


def _back(x: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    c_i, c_f, c_g, c_c, h_o, h_c, y = x
    h, c = state
    h = h + y
    c = c + h_c * h
    return (c_i * c, c_f * c, c_g * c, h_o * h), (c_c * c,)


_WALKS = Walks(
    forward=Walk(4, 1, 4, state_is_operand, _forward, writes=2, writes_state=True),
    constants=lambda weights: (),
    back=Walk(1, 4, 7, _back, lambda x, state, others, m: (*m, *others), writes=4, writes_state=False),
    coefficients=lambda s: (s.c_i, s.c_f, s.c_g, s.c_c, s.h_o, s.h_c),
    outside=lambda written: jnp.concatenate(written, axis=-1),
)

LSTM = Cell(_prepare, lambda weights: weights.w_h.T, _project, _step, _outside, _along, _WALKS, UNITS_FIRST)
