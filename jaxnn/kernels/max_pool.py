"""Max pooling with a gradient that is fast on CPU too.

The derivative takes, for each window, the tangent at the window's winner. `jax.lax` finds the winner anew in
`select_and_gather` and `select_and_scatter`, which XLA:CPU computes one element at a time; there the winner is found
tap by tap instead, in operations that vectorise. Both play the same tournament: the first maximum of a window, in
row-major order, wins.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad

from jaxnn.kernels.geometry import Window
from jaxnn.kernels.platform import batch_leading, bind, by_platform, linear_in_first
from jaxnn.kernels.taps import many, padded, put, seen


def max_pool(x: jax.Array, window: Window) -> jax.Array:
    """The maximum of each window: `(batch, *spatial, channels)` -> `(batch, *out, channels)`."""
    return bind(max_pool_p, x, window=window)


def lowest(dtype: Any) -> np.ndarray:
    """The neutral element of the maximum."""
    return np.asarray(-np.inf if jnp.issubdtype(dtype, jnp.floating) else jnp.iinfo(dtype).min, dtype)


def _pool(x: jax.Array, *, window: Window) -> jax.Array:
    return lax.reduce_window(
        x,
        lowest(x.dtype),
        lax.max,
        (1, *window.size, 1),
        (1, *window.stride, 1),
        ((0, 0), *window.padding, (0, 0)),
        window_dilation=(1, *window.dilation, 1),
    )


# The tangent at the winner, and its transpose: the cotangent at the winner, zero elsewhere.


def _take(tangent: jax.Array, x: jax.Array, *, window: Window) -> jax.Array:
    return jax.jvp(lambda x: _pool(x, window=window), (x,), (tangent,))[1]


def _give(g: jax.Array, x: jax.Array, *, window: Window) -> jax.Array:
    if any(d > 1 for d in window.dilation):  # select_and_scatter knows no dilation
        return _give_by_taps(g, x, window)
    return jax.vjp(lambda x: _pool(x, window=window), x)[1](g)[0]


def _take_taps(tangent: jax.Array, x: jax.Array, *, window: Window) -> jax.Array:
    if many(window.size):
        return _take(tangent, x, window=window)
    winner = _winner(x, window)
    taken = jnp.zeros(winner.shape, tangent.dtype)
    for t, tap in enumerate(seen(padded(tangent, window), window, x.shape[1:-1])):
        taken = jnp.where(winner == t, tap, taken)
    return taken


def _give_taps(g: jax.Array, x: jax.Array, *, window: Window) -> jax.Array:
    return _give(g, x, window=window) if many(window.size) else _give_by_taps(g, x, window)


def _give_by_taps(g: jax.Array, x: jax.Array, window: Window) -> jax.Array:
    winner = _winner(x, window)
    zero = jnp.zeros((), g.dtype)
    if not window.tiles(x.shape[1:-1]):
        taps = range(len(list(window.taps())))
        return put([jnp.where(winner == t, g, zero) for t in taps], window, x.shape[1:-1])
    # Tiles: every input element belongs to one window, so it asks that window whether it won.
    out, n = winner.shape[1:-1], len(window.size)
    number = jnp.arange(len(list(window.taps())), dtype=winner.dtype).reshape(window.size)
    spread = tuple(v for axis in range(n) for v in (1 + 2 * axis, 2 + 2 * axis))
    tiled = (g.shape[0], *(v for pair in zip(out, window.size, strict=True) for v in pair), g.shape[-1])
    keep = (0, *spread[::2], 2 * n + 1)
    won = lax.broadcast_in_dim(winner, tiled, keep) == lax.broadcast_in_dim(number, tiled, spread[1::2])
    given = jnp.where(won, lax.broadcast_in_dim(g, tiled, keep), zero)
    whole = given.reshape(g.shape[0], *(o * k for o, k in zip(out, window.size, strict=True)), g.shape[-1])
    left = [(0, i - w, 0) for i, w in zip(x.shape, whole.shape, strict=True)]
    return lax.pad(whole, zero, left)


def _winner(x: jax.Array, window: Window) -> jax.Array:
    """The number of the winning tap of each window, by the tournament that XLA's select plays: `held >= next` holds."""
    taps = seen(padded(x, window, lowest(x.dtype)), window, x.shape[1:-1])
    best, winner = taps[0], jnp.zeros(taps[0].shape, jnp.int8 if len(taps) < 128 else jnp.int32)
    for t, tap in enumerate(taps[1:], start=1):
        held = best >= tap
        winner = jnp.where(held, winner, jnp.asarray(t, winner.dtype))
        best = jnp.where(held, best, tap)
    return winner


max_pool_p = by_platform("max_pool", _pool, _pool)
take_p = by_platform("max_pool_take", _take, _take_taps)
give_p = by_platform("max_pool_give", _give, _give_taps)

for _primitive in (max_pool_p, take_p, give_p):
    batch_leading(_primitive)
linear_in_first(take_p, give_p)
linear_in_first(give_p, take_p)
ad.defjvp(max_pool_p, lambda tangent, x, *, window: bind(take_p, tangent, x, window=window))
