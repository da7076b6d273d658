"""The sum over each window and its transpose, which XLA:CPU would compute as another sliding window."""

import functools
import math
import operator

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.geometry import Sizes, Window, lax_reduce, pad
from jaxnn.kernels.platform import batch_leading, bind, by_platform, linear_in_first, transpose
from jaxnn.kernels.taps import col2im, im2col, many, padded_once


def sum_pool(x: jax.Array, window: Window) -> jax.Array:
    """Sums each window: maps `(batch, *spatial, channels)` to `(batch, *out, channels)`; padding counts zero."""
    return bind(sum_pool_p, x, window=window, spatial=x.shape[1:-1])


def _pool(x: jax.Array, *, window: Window, spatial: Sizes) -> jax.Array:
    del spatial
    return lax_reduce(x, 0.0, lax.add, window)


def _spread(g: jax.Array, *, window: Window, spatial: Sizes) -> jax.Array:
    if any(d > 1 for d in window.dilation) and not many(window.size):
        # XLA's simplifier gives the gradient of a dilated window over padding alone to an input between its taps.
        return col2im([g] * math.prod(window.size), window, spatial)
    shape = (g.shape[0], *spatial, g.shape[-1])
    return transpose(lambda x: _pool(x, window=window, spatial=spatial), shape, g, jax.typeof(g).sharding.spec)


def _pool_taps(x: jax.Array, *, window: Window, spatial: Sizes) -> jax.Array:
    if many(window.size):
        return _pool(x, window=window, spatial=spatial)
    return functools.reduce(operator.add, im2col(padded_once(x, window), window, spatial))


def _spread_taps(g: jax.Array, *, window: Window, spatial: Sizes) -> jax.Array:
    if not window.tiles(spatial):
        if many(window.size):
            return _spread(g, window=window, spatial=spatial)
        if set(window.stride) == {1}:
            back = _pool_taps(widened(g), window=window.mirrored(), spatial=g.shape[1:-1])
            return back.astype(g.dtype)
        return col2im([g] * math.prod(window.size), window, spatial)
    for axis, size in enumerate(window.size, start=1):
        g = jnp.repeat(g, size, axis=axis)
    return pad(g, [(0, n - w, 0) for n, w in zip(spatial, g.shape[1:-1], strict=True)])


sum_pool_p = by_platform("sum_pool", _pool, _pool_taps)
spread_p = by_platform("sum_pool_spread", _spread, _spread_taps)

for _primitive in (sum_pool_p, spread_p):
    batch_leading(_primitive)
linear_in_first(sum_pool_p, spread_p)
linear_in_first(spread_p, sum_pool_p)
