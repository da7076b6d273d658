r"""The p-norm of each window, without overflow and underflow.

In float32 the powers of 1e20 overflow and those of 1e-30 underflow. So each window is divided by a scale near its
maximum, :math:`\lVert x \rVert = m \lVert x / m \rVert`. The norm does not depend on the scale, so derivatives of any
order treat it as a constant.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.kernels.geometry import Window
from jaxnn.kernels.max_pool import max_pool
from jaxnn.kernels.sum_pool import sum_pool
from jaxnn.kernels.taps import im2col, many, padded

T = TypeVar("T")

EXACT = 60
"""Largest p for which the scale is the power of two nearest to the maximum; dividing by it is exact."""


def norm_pool(x: jax.Array, window: Window, p: float) -> jax.Array:
    """Takes the p-norm of each window of `x (batch, *spatial, channels)`, in at least float32; padding adds nothing."""
    if p == 1:
        return sum_pool(_magnitude(x), window)
    if not many(window.size):
        return _norm(x, im2col(padded(x, window), window, x.shape[1:-1]), window, p)
    # The norm over a box is the norm along one axis of the norms along the others.
    for axis in reversed(range(len(window.size))):
        alone = Window(
            _only(window.size, axis, 1),
            _only(window.stride, axis, 1),
            _only(window.padding, axis, (0, 0)),
            window.dilation,
        )
        x = _norm(x, [_side_by_side(x, alone, axis)], alone, p) if many(alone.size) else norm_pool(x, alone, p)
    return x


def _only(values: tuple[T, ...], axis: int, nothing: T) -> tuple[T, ...]:
    return tuple(value if a == axis else nothing for a, value in enumerate(values))


def _side_by_side(x: jax.Array, window: Window, axis: int) -> jax.Array:
    """Gathers the inputs of the taps of a window along one axis into a new last axis."""
    out = window.out(x.shape[1:-1])[axis]
    firsts, taps = jnp.arange(out) * window.stride[axis], jnp.arange(window.size[axis]) * window.dilation[axis]
    views = jnp.take(padded(x, window), firsts[:, None] + taps[None], axis=1 + axis)
    return jnp.moveaxis(views, 2 + axis, -1)


def _norm(x: jax.Array, taps: list[jax.Array], window: Window, p: float) -> jax.Array:
    """Takes the norm over the taps, and over the extra axis of an array of several taps."""
    info = jnp.finfo(x.dtype)
    largest = max_pool(jnp.abs(lax.stop_gradient(x)), window)
    # The scale of zeros is 1, not the smallest number: XLA squares the inverse of a constant scale, which would
    # overflow.
    scale = jnp.where(largest > 0, jnp.clip(largest, info.tiny, info.max), jnp.ones_like(largest))
    if p <= EXACT:
        scale = lax.reduce_precision(jnp.minimum(scale, info.max / 2), info.nexp, 0)

    def powers(tap: jax.Array) -> jax.Array:
        if tap.ndim == x.ndim:
            return _power(tap / scale, p)
        return _power(tap / scale[..., None], p).sum(-1)

    total = sum(map(powers, taps[1:]), start=powers(taps[0]))
    # The root's slope at zero is infinite: the inner `where` keeps it out of the gradient.
    zero = total == 0
    return jnp.where(zero, jnp.zeros_like(total), scale * jnp.where(zero, jnp.ones_like(total), total) ** (1 / p))


def _power(x: jax.Array, p: float) -> jax.Array:
    r"""Computes :math:`|x|^p`; derivatives at zero that do not exist are zero."""
    if p == int(p):
        return (x if p % 2 == 0 else _magnitude(x)) ** int(p)
    zero = x == 0
    return jnp.where(zero, jnp.zeros_like(x), jnp.where(zero, jnp.ones_like(x), jnp.abs(x)) ** p)


def _magnitude(x: jax.Array) -> jax.Array:
    """Computes `|x|` with a slope of 0 at zero, where `jnp.abs` has 1."""
    return x * jnp.sign(x)
