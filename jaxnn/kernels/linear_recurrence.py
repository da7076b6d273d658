"""A linear recurrence over all steps at once, by a parallel prefix scan: O(log time) sequential operations.

Two steps of `h' = A h + b` make one step of the same form, `A₂ (A₁ h + b₁) + b₂`, so steps can be combined pair by
pair, as in a tree sum (`jax.lax.associative_scan`).
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.kernels.masks import choose, zeros


def linear_recurrence(
    a: Any,
    b: Any,
    start: Any = None,
    *,
    cut: jax.Array | None = None,
    detached: jax.Array | None = None,
    reverse: bool = False,
) -> Any:
    r"""Solves a linear recurrence for all steps.

    .. math:: h_t = A_t h_{t-1} + b_t

    Args:
        a: :math:`A_t`, an array or a tree of arrays: of the shape of `b` where every element acts on itself alone, and
            `(time, n, n, ...)` for `b (time, n, ...)` where the `n` elements of axis 1 act on each other.
        b: :math:`b_t`, an array or a tree of arrays `(time, ...)`.
        start: :math:`h_{-1}`, of the shape of `b` without time; zeros by default.
        cut: Bool, `(time, ...)` of leading axes of `b`: where :math:`h_t = b_t`, and nothing from before passes, not
            even NaN; nowhere by default. Every element acts on itself alone then.
        detached: Bool, as `cut`: where derivatives take :math:`h_{t-1}` for a constant; nowhere by default.
        reverse: Whether to go from the last step to the first.

    Returns:
        :math:`h_t`, of the shape of `b`.

    References:
        Blelloch: Prefix sums and their applications, 1990.

    Example:
        >>> import jax.numpy as jnp
        >>> linear_recurrence(jnp.full(4, 0.5), jnp.ones(4), jnp.float32(4)).tolist()
        [3.0, 2.5, 2.25, 2.125]
    """
    if start is not None:
        b = jax.tree.map(lambda a, b, h: _with_start(a, b, h, reverse), a, b, start)

    def join(early: Any, late: Any) -> Any:
        (cut, detached, *before), (cut_late, detached_late, a, b) = early, late
        if detached_late is not None:
            before = choose(detached_late, jax.lax.stop_gradient(before), before)
            detached = detached | detached_late
        if cut_late is not None:
            # Zeros, not a product with zero, which would keep NaN.
            before, cut = choose(cut_late, zeros(before), before), cut | cut_late
        a_before, b_before = before
        joined = jax.tree.map(_joined, a, a_before, b_before)
        return cut, detached, joined, jax.tree.map(lambda a, b1, b2: applied(a, b1) + b2, a, b_before, b)

    return jax.lax.associative_scan(join, (cut, detached, a, b), reverse=reverse)[3]


def applied(a: jax.Array, h: jax.Array) -> jax.Array:
    """Computes `A_t h_t` for all steps, with `a` as in `linear_recurrence`."""
    # Elementwise products and sums: blocks are small, and one fusion is faster than matrix products.
    return a * h if a.ndim == h.ndim else jnp.sum(a * h[:, None], axis=2)


def _joined(a2: jax.Array, a1: jax.Array, like: jax.Array) -> jax.Array:
    return a2 * a1 if a1.ndim == like.ndim else jnp.sum(a2[:, :, :, None] * a1[:, None], axis=2)


def _with_start(a: jax.Array, b: jax.Array, start: jax.Array, reverse: bool) -> jax.Array:
    if reverse:
        return jnp.concatenate([b[:-1], b[-1:] + applied(a[-1:], start[None])])
    return jnp.concatenate([b[:1] + applied(a[:1], start[None]), b[1:]])
