"""The LSTM's cell for `recurrence`: gates in the order i, f, g, o, without any variant.

Its weights are a named tuple of `w_x (features, 4 hidden)`, `w_h (hidden, 4 hidden)`, `b (4 hidden,)`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.recurrence import Cell, Weights, dot, dot_transposed, gates, products, projected, rows
from jaxnn.kernels.walk import Arrays, Walk, Walks, logistic, state_is_operand

Carry = tuple[jax.Array, jax.Array]


# Hidden units from which XLA:CPU multiplies faster by two halves of the weights, side by side on its threads.
HALVES = 128


class _Prepared(NamedTuple):
    weights: Weights
    w: list[jax.Array]  # of inputs and state, one above the other: one product a step, or two of half the gates
    w_h: list[jax.Array]


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
    return _Prepared(weights, _parts(jnp.concatenate([weights.w_x, weights.w_h]), 1), _parts(weights.w_h, 1))


def _parts(w: jax.Array, axis: int) -> list[jax.Array]:
    return jnp.split(w, 2 if w.shape[axis] >= 4 * HALVES else 1, axis)


def _project(w: _Prepared, xs: jax.Array) -> tuple[jax.Array, ...]:
    return gates(projected(xs, w.weights.w_x, w.weights.b), 4)


def _pre(w: _Prepared, h: jax.Array, x: jax.Array | tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    if isinstance(x, tuple):
        return tuple(a + b for a, b in zip(x, _products(h, w.w_h), strict=True))
    pre = _products(jnp.concatenate([x, h], axis=-1), w.w)
    return tuple(a + rows(b, a) for a, b in zip(pre, gates(w.weights.b, 4), strict=True))


def _products(a: jax.Array, parts: list[jax.Array]) -> tuple[jax.Array, ...]:
    return tuple(gate for w in parts for gate in gates(dot(a, w), 4 // len(parts)))


def _step(w: _Prepared, carry: Carry, x: jax.Array | tuple[jax.Array, ...]) -> tuple[Carry, _Saved]:
    h, c = carry
    i, f, g, o = _pre(w, h, x)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    new_c = f * c + i * g
    t = jnp.tanh(new_c)
    saved = _Saved(
        h=h,
        c_i=g * (i * (1 - i)),
        c_f=c * (f * (1 - f)),
        c_g=i * (1 - g * g),
        c_c=f,
        h_o=t * (o * (1 - o)),
        h_c=o * (1 - t * t),
    )
    return ((o * t).astype(h.dtype), new_c), saved


def _outside(w: Weights, d: Weights, xs: jax.Array, d_xs: jax.Array | None, s: _Saved) -> jax.Array:
    return products(s.c_c, w.b.shape[0], (d_xs, w.w_x), (xs, d.w_x), (s.h, d.w_h), bias=d.b)


def _along(w_h_t: list[jax.Array], s: _Saved, d: Carry, e: jax.Array) -> Carry:
    d_h, d_c = d
    along = [gate for w in w_h_t for gate in gates(dot_transposed(d_h, w), 4 // len(w_h_t))]
    i, f, g, o = (a + b for a, b in zip(gates(e, 4), along, strict=True))
    d_c = s.c_c * d_c + s.c_i * i + s.c_f * f + s.c_g * g
    return (s.h_c * d_c + s.h_o * o).astype(d_h.dtype), d_c


# On a GPU, tile by tile. The way back is the transpose of `_along`.


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
LSTM = Cell(_prepare, lambda weights: _parts(weights.w_h.T, 0), _project, _step, _outside, _along, _WALKS)
