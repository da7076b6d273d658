"""The LSTM's cell for `recurrence`: gates in the order i, f, g, o, without any variant."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.recurrence import Cell, dot, dot_transposed, products, rows


class LSTMWeights(NamedTuple):
    """`w_x (features, 4 hidden)`, `w_h (hidden, 4 hidden)`, `b (4 hidden,)`."""

    w_x: Any
    w_h: Any
    b: Any


class _Prepared(NamedTuple):
    w: jax.Array  # of inputs and state, one above the other: one product a step
    b: jax.Array
    w_h_t: jax.Array


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
    return _Prepared(jnp.concatenate([weights.w_x, weights.w_h]), weights.b, weights.w_h.T)


def _step(w: _Prepared, carry: tuple[jax.Array, jax.Array], x: jax.Array) -> tuple[tuple[jax.Array, jax.Array], _Saved]:
    h, c = carry
    pre = dot(jnp.concatenate([x, h], axis=-1), w.w)
    i, f, g, o = jnp.split(pre + rows(w.b, pre), 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    new_c = f * c + i * g
    t = jnp.tanh(new_c)
    saved = _Saved(
        h, c_i=g * (i * (1 - i)), c_f=c * (f * (1 - f)), c_g=i * (1 - g * g), c_c=f, h_o=t * (o * (1 - o)),
        h_c=o * (1 - t * t),
    )  # fmt: skip
    return ((o * t).astype(h.dtype), new_c), saved


def _outside(weights: LSTMWeights, d: LSTMWeights, xs: jax.Array, d_xs: jax.Array | None, saved: _Saved) -> jax.Array:
    e = products((d_xs, weights.w_x), (xs, d.w_x), (saved.h, d.w_h))
    if e is None:
        e = jnp.zeros((*saved.c_c.shape[:-1], weights.b.shape[0]), saved.c_c.dtype)
    return e if d.b is None else e + rows(d.b, e)


def _along(w: _Prepared, s: _Saved, d: tuple[jax.Array, jax.Array], e: jax.Array) -> tuple[jax.Array, jax.Array]:
    d_h, d_c = d
    i, f, g, o = jnp.split(e + dot_transposed(d_h, w.w_h_t), 4, axis=-1)
    d_c = s.c_c * d_c + s.c_i * i + s.c_f * f + s.c_g * g
    return (s.h_c * d_c + s.h_o * o).astype(d_h.dtype), d_c


LSTM = Cell(_prepare, _step, _outside, _along)
