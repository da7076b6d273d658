"""The GRU's two cells for `recurrence`: gates in the order r, z, n; reset after or before the recurrent product.

Its weights are a named tuple of `w_x (features, 3 hidden)`, `w_h (hidden, 3 hidden)`, `b (3 hidden,)`, `b_hn
(hidden,)`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxnn.kernels.recurrence import Cell, Weights, columns, dot, dot_transposed, gates, products, projected, rows
from jaxnn.kernels.walk import Arrays, Walk, Walks, logistic, state_is_operand

Carry = tuple[jax.Array]


def _project(w: Weights, xs: jax.Array) -> tuple[jax.Array, ...]:
    return gates(projected(xs, w.w_x, w.b), 3)


def _of_x(w: Weights, x: jax.Array | tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    return x if isinstance(x, tuple) else _project(w, x)


# Reset after the product: r multiplies m, the state's part of the pre-activation of n, so the two parts are separate.


class _SavedAfter(NamedTuple):
    h: jax.Array  # before the step
    # The derivatives of the new h: by the pre-activations of r and z, by the inputs' and the state's part of n, by h.
    by_r: jax.Array
    by_z: jax.Array
    by_x: jax.Array
    by_m: jax.Array
    by_h: jax.Array


def _step_after(w: Weights, carry: Carry, x: jax.Array | tuple[jax.Array, ...]) -> tuple[Carry, _SavedAfter]:
    (h,) = carry
    x_r, x_z, x_n = _of_x(w, x)
    h_r, h_z, m = gates(dot(h, w.w_h), 3)
    wide = h.astype(m.dtype)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    m = m + rows(w.b_hn, m)
    n = jnp.tanh(x_n + r * m)
    by_x = (1 - z) * (1 - n * n)
    by_m = by_x * r
    saved = _SavedAfter(h, by_r=by_m * m * (1 - r), by_z=(wide - n) * (z * (1 - z)), by_x=by_x, by_m=by_m, by_h=z)
    return ((wide + (1 - z) * (n - wide)).astype(h.dtype),), saved


def _outside_after(
    w: Weights, d: Weights, xs: jax.Array, d_xs: jax.Array | None, s: _SavedAfter
) -> tuple[jax.Array, jax.Array, jax.Array]:
    width = w.b.shape[0]
    at = 2 * width // 3
    (x_rz, x_n), (d_rz, d_n), (h_rz, h_n) = ((columns(a, 0, at), columns(a, at, width)) for a in (w.w_x, d.w_x, d.w_h))
    return (
        products(s.by_h, at, (d_xs, x_rz), (xs, d_rz), (s.h, h_rz), bias=columns(d.b, 0, at)),
        products(s.by_h, width - at, (d_xs, x_n), (xs, d_n), bias=columns(d.b, at, width)),
        products(s.by_h, width - at, (s.h, h_n), bias=d.b_hn),
    )


def _along_after(w_h_t: jax.Array, s: _SavedAfter, d: Carry, e: tuple[jax.Array, jax.Array, jax.Array]) -> Carry:
    (d_h,) = d
    of_h = gates(dot_transposed(d_h, w_h_t), 3)
    r, z, m = (a + b for a, b in zip(of_h, (*gates(e[0], 2), e[2]), strict=True))
    new = s.by_h * d_h.astype(m.dtype) + s.by_r * r + s.by_z * z + s.by_x * e[1] + s.by_m * m
    return (new.astype(d_h.dtype),)


# On a GPU, tile by tile. The backward walk is the transpose of `_along_after`.


def _forward(x: Arrays, state: Arrays, others: Arrays, m: Arrays) -> Arrays:
    (h,), (x_r, x_z, x_n, b_hn) = state, x
    r, z = logistic(x_r + m[0]), logistic(x_z + m[1])
    n = jnp.tanh(x_n + r * (m[2] + b_hn))
    wide = h.astype(n.dtype)
    return ((wide + (1 - z) * (n - wide)).astype(h.dtype),)


def _back(x: Arrays, state: Arrays) -> tuple[Arrays, Arrays]:
    by_r, by_z, by_x, by_m, by_h, y = x
    h = state[0] + y
    return (by_r * h, by_z * h, by_m * h, by_x * h), (by_h * h,)


_WALKS_AFTER = Walks(
    forward=Walk(3, 1, 3, state_is_operand, _forward, writes=1, writes_state=True),
    constants=lambda weights: (weights.b_hn,),
    back=Walk(1, 3, 6, _back, lambda x, state, others, m: (m[0] + others[0],), writes=4, writes_state=False),
    coefficients=lambda s: (s.by_r, s.by_z, s.by_x, s.by_m, s.by_h),
    outside=lambda written: (jnp.concatenate(written[:2], axis=-1), written[3], written[2]),
)


# Reset before the product: n depends on q = r h.


class _SavedBefore(NamedTuple):
    h: jax.Array  # before the step
    q: jax.Array
    # The derivatives of q by the pre-activation of r and by h; of the new h by the pre-activations of z and n, by h.
    q_r: jax.Array
    q_h: jax.Array
    by_z: jax.Array
    by_n: jax.Array
    by_h: jax.Array


def _halves(w_h: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Splits the recurrent weights into those of r and z, and those of n."""
    at = 2 * w_h.shape[0]
    return w_h[:, :at], w_h[:, at:]


def _prepare_before(weights: Weights) -> tuple[Weights, tuple[jax.Array, jax.Array]]:
    return weights, _halves(weights.w_h)


def _transpose_before(weights: Weights) -> tuple[jax.Array, jax.Array]:
    w_rz, w_n = _halves(weights.w_h)
    return w_rz.T, w_n.T


def _step_before(
    prepared: tuple[Weights, tuple[jax.Array, jax.Array]], carry: Carry, x: jax.Array | tuple[jax.Array, ...]
) -> tuple[Carry, _SavedBefore]:
    (h,) = carry
    w, (w_rz, w_n) = prepared
    x_r, x_z, x_n = _of_x(w, x)
    h_r, h_z = gates(dot(h, w_rz), 2)
    wide = h.astype(h_r.dtype)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    q = (r * wide).astype(h.dtype)
    m = dot(q, w_n)
    n = jnp.tanh(x_n + m + rows(w.b_hn, m))
    saved = _SavedBefore(
        h, q, q_r=wide * (r * (1 - r)), q_h=r, by_z=(wide - n) * (z * (1 - z)), by_n=(1 - z) * (1 - n * n), by_h=z
    )
    return ((wide + (1 - z) * (n - wide)).astype(h.dtype),), saved


def _outside_before(
    w: Weights, d: Weights, xs: jax.Array, d_xs: jax.Array | None, s: _SavedBefore
) -> tuple[jax.Array, jax.Array, jax.Array]:
    width = w.b.shape[0]
    hidden = width // 3
    of_h = products(s.by_h, 2 * hidden, (s.h, columns(d.w_h, 0, 2 * hidden)))
    of_q = products(s.by_h, hidden, (s.q, columns(d.w_h, 2 * hidden, width)), bias=d.b_hn)
    return products(s.by_h, width, (d_xs, w.w_x), (xs, d.w_x), bias=d.b), of_h, of_q


def _along_before(
    transposed: tuple[jax.Array, jax.Array], s: _SavedBefore, d: Carry, e: tuple[jax.Array, jax.Array, jax.Array]
) -> Carry:
    w_rz_t, w_n_t = transposed
    (d_h,) = d
    of_x, of_h, of_q = e
    x_r, x_z, x_n = gates(of_x, 3)
    h_r, h_z = gates(of_h + dot_transposed(d_h, w_rz_t), 2)
    wide = d_h.astype(h_r.dtype)
    d_q = (s.q_h * wide + s.q_r * (x_r + h_r)).astype(d_h.dtype)
    d_n = x_n + (of_q + dot_transposed(d_q, w_n_t))
    return ((s.by_h * wide + s.by_z * (x_z + h_z) + s.by_n * d_n).astype(d_h.dtype),)


RESET_AFTER = Cell(
    lambda weights: weights,
    lambda weights: weights.w_h.T,
    _project,
    _step_after,
    _outside_after,
    _along_after,
    _WALKS_AFTER,
)
RESET_BEFORE = Cell(
    _prepare_before,
    _transpose_before,
    lambda prepared, xs: _project(prepared[0], xs),
    _step_before,
    _outside_before,
    _along_before,
)
