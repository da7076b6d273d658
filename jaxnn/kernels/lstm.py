"""The LSTM's cell for `recurrence`: gates in the order i, f, g, o, without any variant."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.recurrence import Cell, dot, dot_transposed, gates, products, rows

Carry = tuple[jax.Array, jax.Array]


class LSTMWeights(NamedTuple):
    """`w_x (features, 4 hidden)`, `w_h (hidden, 4 hidden)`, `b (4 hidden,)`."""

    w_x: Any
    w_h: Any
    b: Any


class _Prepared(NamedTuple):
    weights: LSTMWeights
    w: jax.Array  # of inputs and state, one above the other: one product a step


class _Saved(NamedTuple):
    h: jax.Array  # before the step
    # The derivatives: of c by the pre-activations of i, f, g and by the c before; of h by that of o and by c.
    c_i: jax.Array
    c_f: jax.Array
    c_g: jax.Array
    c_c: jax.Array
    h_o: jax.Array
    h_c: jax.Array


def _prepare(weights: LSTMWeights) -> _Prepared:
    return _Prepared(weights, jnp.concatenate([weights.w_x, weights.w_h]))


def _project(w: _Prepared, xs: jax.Array) -> tuple[jax.Array, ...]:
    pre = dot(xs, w.weights.w_x)
    return gates(pre + rows(w.weights.b, pre), 4)


def _pre(w: _Prepared, h: jax.Array, x: jax.Array | tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    if isinstance(x, tuple):
        return tuple(a + b for a, b in zip(x, gates(dot(h, w.weights.w_h), 4), strict=True))
    pre = dot(jnp.concatenate([x, h], axis=-1), w.w)
    return gates(pre + rows(w.weights.b, pre), 4)


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


def _outside(w: LSTMWeights, d: LSTMWeights, xs: jax.Array, d_xs: jax.Array | None, s: _Saved) -> jax.Array:
    return products(s.c_c, w.b.shape[0], (d_xs, w.w_x), (xs, d.w_x), (s.h, d.w_h), bias=d.b)


def _along(w_h_t: jax.Array, s: _Saved, d: Carry, e: jax.Array) -> Carry:
    d_h, d_c = d
    i, f, g, o = gates(e + dot_transposed(d_h, w_h_t), 4)
    d_c = s.c_c * d_c + s.c_i * i + s.c_f * f + s.c_g * g
    return (s.h_c * d_c + s.h_o * o).astype(d_h.dtype), d_c


LSTM = Cell(_prepare, lambda weights: weights.w_h.T, _project, _step, _outside, _along)
