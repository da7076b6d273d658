"""The simple recurrent cell for `recurrence`, for activations whose derivative is a function of their value.

Its weights are a named tuple of `w_x (features, hidden)`, `w_h (hidden, hidden)`, `b (hidden,)`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.recurrence import Cell, Weights, dot, dot_transposed, products, projected

Carry = tuple[jax.Array]


class _Prepared(NamedTuple):
    weights: Weights
    w: jax.Array


class _Saved(NamedTuple):
    h: jax.Array  # before the step
    slope: jax.Array


def _prepare(weights: Weights) -> _Prepared:
    return _Prepared(weights, jnp.concatenate([weights.w_x, weights.w_h]))


def _project(w: _Prepared, xs: jax.Array) -> tuple[jax.Array]:
    return (projected(xs, w.weights.w_x, w.weights.b),)


def _outside(w: Weights, d: Weights, xs: jax.Array, d_xs: jax.Array | None, s: _Saved) -> jax.Array:
    return products(s.slope, w.b.shape[0], (d_xs, w.w_x), (xs, d.w_x), (s.h, d.w_h), bias=d.b)


def _along(w_h_t: jax.Array, s: _Saved, d: Carry, e: jax.Array) -> Carry:
    return ((s.slope * (e + dot_transposed(d[0], w_h_t))).astype(d[0].dtype),)


def _cell(activation: Callable[..., jax.Array], slope: Callable[[jax.Array], jax.Array]) -> Cell:
    def step(w: _Prepared, carry: Carry, x: jax.Array | tuple[jax.Array]) -> tuple[Carry, _Saved]:
        (h,) = carry
        if isinstance(x, tuple):
            pre = x[0] + dot(h, w.weights.w_h)
        else:
            pre = projected(jnp.concatenate([x, h], axis=-1), w.w, w.weights.b)
        new = activation(pre)
        return (new.astype(h.dtype),), _Saved(h, slope(new))

    return Cell(_prepare, lambda weights: weights.w_h.T, _project, step, _outside, _along)


RNN: dict[Any, Cell] = {
    jnp.tanh: _cell(jnp.tanh, lambda y: 1 - y * y),
    jax.nn.relu: _cell(jax.nn.relu, lambda y: (y > 0).astype(y.dtype)),
    jax.nn.sigmoid: _cell(jax.nn.sigmoid, lambda y: y * (1 - y)),
}
"""By activation."""
