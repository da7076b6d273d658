"""The GRU's two cells for `recurrence`: gates in the order r, z, n; reset after or before the recurrent product."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.recurrence import Cell, columns, dot, dot_transposed, gates, products, rows

Carry = tuple[jax.Array]


class GRUWeights(NamedTuple):
    """`w_x (features, 3 hidden)`, `w_h (hidden, 3 hidden)`, `b (3 hidden,)`, `b_hn (hidden,)`."""

    w_x: Any
    w_h: Any
    b: Any
    b_hn: Any


def _project(w: Any, xs: jax.Array) -> tuple[jax.Array, ...]:
    pre = dot(xs, w.weights.w_x)
    return gates(pre + rows(w.weights.b, pre), 3)


def _of_x(w: Any, x: jax.Array | tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    return x if isinstance(x, tuple) else _project(w, x)


def _outside_x(w: GRUWeights, d: GRUWeights, xs: jax.Array, d_xs: jax.Array | None, like: jax.Array) -> jax.Array:
    return products(like, w.b.shape[0], (d_xs, w.w_x), (xs, d.w_x), bias=d.b)


# Reset after the product. What inputs and state add is kept apart, because n sees the state's part through r: each has
# a row of three gates, whose cotangents are the operands of the weights' products as they lie.


class _After(NamedTuple):
    weights: GRUWeights
    w_h_t: jax.Array


class _SavedAfter(NamedTuple):
    h: jax.Array  # before the step
    # The derivatives of the new h: by the pre-activations of r and z, by the inputs' and the state's part of n, by h.
    by_r: jax.Array
    by_z: jax.Array
    by_x: jax.Array
    by_m: jax.Array
    by_h: jax.Array


def _prepare_after(weights: GRUWeights) -> _After:
    return _After(weights, weights.w_h.T)


def _step_after(w: _After, carry: Carry, x: jax.Array | tuple[jax.Array, ...]) -> tuple[Carry, _SavedAfter]:
    (h,) = carry
    x_r, x_z, x_n = _of_x(w, x)
    h_r, h_z, m = gates(dot(h, w.weights.w_h), 3)
    wide = h.astype(m.dtype)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    m = m + rows(w.weights.b_hn, m)
    n = jnp.tanh(x_n + r * m)
    by_x = (1 - z) * (1 - n * n)
    by_m = by_x * r
    saved = _SavedAfter(h, by_r=by_m * m * (1 - r), by_z=(wide - n) * (z * (1 - z)), by_x=by_x, by_m=by_m, by_h=z)
    return ((wide + (1 - z) * (n - wide)).astype(h.dtype),), saved


def _outside_after(
    w: GRUWeights, d: GRUWeights, xs: jax.Array, d_xs: jax.Array | None, s: _SavedAfter
) -> tuple[jax.Array, jax.Array]:
    of_h = products(s.by_h, w.b.shape[0], (s.h, d.w_h))
    if d.b_hn is not None:
        of_h = of_h + rows(jnp.pad(d.b_hn, (w.b.shape[0] - d.b_hn.shape[0], 0)), of_h)
    return _outside_x(w, d, xs, d_xs, s.by_h), of_h


def _along_after(w: _After, s: _SavedAfter, d: Carry, e: tuple[jax.Array, jax.Array]) -> Carry:
    (d_h,) = d
    x_r, x_z, x_n = gates(e[0], 3)
    h_r, h_z, m = gates(e[1] + dot_transposed(d_h, w.w_h_t), 3)
    new = s.by_h * d_h.astype(m.dtype) + s.by_r * (x_r + h_r) + s.by_z * (x_z + h_z) + s.by_x * x_n + s.by_m * m
    return (new.astype(d_h.dtype),)


# Reset before the product: n sees q = r h.


class _Before(NamedTuple):
    weights: GRUWeights
    w_rz: jax.Array
    w_n: jax.Array
    w_rz_t: jax.Array
    w_n_t: jax.Array


class _SavedBefore(NamedTuple):
    h: jax.Array  # before the step
    q: jax.Array
    # The derivatives of q by the pre-activation of r and by h; of the new h by the pre-activations of z and n, by h.
    q_r: jax.Array
    q_h: jax.Array
    by_z: jax.Array
    by_n: jax.Array
    by_h: jax.Array


def _prepare_before(weights: GRUWeights) -> _Before:
    at = 2 * weights.b_hn.shape[0]
    w_rz, w_n = weights.w_h[:, :at], weights.w_h[:, at:]
    return _Before(weights, w_rz, w_n, w_rz.T, w_n.T)


def _step_before(w: _Before, carry: Carry, x: jax.Array | tuple[jax.Array, ...]) -> tuple[Carry, _SavedBefore]:
    (h,) = carry
    x_r, x_z, x_n = _of_x(w, x)
    h_r, h_z = gates(dot(h, w.w_rz), 2)
    wide = h.astype(h_r.dtype)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    q = (r * wide).astype(h.dtype)
    m = dot(q, w.w_n)
    n = jnp.tanh(x_n + m + rows(w.weights.b_hn, m))
    saved = _SavedBefore(
        h, q, q_r=wide * (r * (1 - r)), q_h=r, by_z=(wide - n) * (z * (1 - z)), by_n=(1 - z) * (1 - n * n), by_h=z
    )
    return ((wide + (1 - z) * (n - wide)).astype(h.dtype),), saved


def _outside_before(
    w: GRUWeights, d: GRUWeights, xs: jax.Array, d_xs: jax.Array | None, s: _SavedBefore
) -> tuple[jax.Array, jax.Array, jax.Array]:
    width = w.b.shape[0]
    hidden = width // 3
    of_h = products(s.by_h, 2 * hidden, (s.h, columns(d.w_h, 0, 2 * hidden)))
    of_q = products(s.by_h, hidden, (s.q, columns(d.w_h, 2 * hidden, width)), bias=d.b_hn)
    return _outside_x(w, d, xs, d_xs, s.by_h), of_h, of_q


def _along_before(w: _Before, s: _SavedBefore, d: Carry, e: tuple[jax.Array, jax.Array, jax.Array]) -> Carry:
    (d_h,) = d
    of_x, of_h, of_q = e
    x_r, x_z, x_n = gates(of_x, 3)
    h_r, h_z = gates(of_h + dot_transposed(d_h, w.w_rz_t), 2)
    wide = d_h.astype(h_r.dtype)
    d_q = (s.q_h * wide + s.q_r * (x_r + h_r)).astype(d_h.dtype)
    d_n = x_n + (of_q + dot_transposed(d_q, w.w_n_t))
    return ((s.by_h * wide + s.by_z * (x_z + h_z) + s.by_n * d_n).astype(d_h.dtype),)


RESET_AFTER = Cell(_prepare_after, _project, _step_after, _outside_after, _along_after)
RESET_BEFORE = Cell(_prepare_before, _project, _step_before, _outside_before, _along_before)
