"""Views of the input by the taps of a sliding window (im2col), and the transpose (col2im)."""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import max_dim

from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.geometry import Sizes, Window
from jaxnn.kernels.platform import inside_auto_axes

MOST_TAPS = 128
"""Most taps of a window that are compiled one by one; `jax.lax` computes larger windows."""


def many(size: Sizes) -> bool:
    """Whether a window of this size has too many taps to go through them one by one."""
    return math.prod(size) > MOST_TAPS


def padded(x: jax.Array, window: Window, value: jax.typing.ArrayLike | None = None) -> jax.Array:
    """Pads `x (batch, *spatial, channels)` as the window says, with zeros or `value`."""
    if not any(low or high for low, high in window.padding):
        return x
    fill = jnp.zeros((), x.dtype) if value is None else value
    return lax.pad(x, fill, ((0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)))


def seen(x: jax.Array, window: Window, spatial: Sizes) -> list[jax.Array]:
    """Views the padded `x` by each tap: a list of `(batch, *out, channels)`, in row-major order of the taps.

    `spatial` is the size without padding.
    """
    out = window.out(spatial)
    if not all(out):
        return [jnp.zeros((x.shape[0], *out, x.shape[-1]), x.dtype) for _ in window.taps()]
    return [
        lax.slice(
            x,
            (0, *first, 0),
            (
                x.shape[0],
                *(f + s * (o - 1) + 1 for f, s, o in zip(first, window.stride, out, strict=True)),
                x.shape[-1],
            ),
            (1, *window.stride, 1),
        )
        for first in window.taps()
    ]


def put(shares: Sequence[jax.Array], window: Window, spatial: Sizes) -> jax.Array:
    """Adds the shares of taps, each `(batch, *out, channels)`, at their inputs: `(batch, *spatial, channels)`.

    Half precision is summed in float32 and rounded once.
    """
    spec = jax.typeof(shares[0]).sharding.spec
    if any(spec[1:-1]):  # the arrays on the way have other sizes, which need not divide over explicit axes
        return inside_auto_axes(lambda *shares: _put(shares, window, spatial), *shares, spec=spec)
    return _put(shares, window, spatial)


def _put(shares: Sequence[jax.Array], window: Window, spatial: Sizes) -> jax.Array:
    batch, *out, channels = shares[0].shape
    if not all(out):
        return jnp.zeros((batch, *spatial, channels), shares[0].dtype)
    # On an array that has room for all of them, and is cut at the end: XLA's partitioner aborts the process where one
    # `lax.pad` dilates a sharded axis and crops its beginning, as it would for taps in the padding.
    starts = [max_dim(low, 0) for low, _ in window.padding]
    firsts = [
        [f - low + start for f, (low, _), start in zip(first, window.padding, starts, strict=True)]
        for first in window.taps()
    ]
    reach = [s * (o - 1) + 1 for s, o in zip(window.stride, out, strict=True)]
    stops = [start + n for start, n in zip(starts, spatial, strict=True)]
    whole = [max_dim(stop, last + r) for stop, last, r in zip(stops, firsts[-1], reach, strict=True)]
    placed = []
    for share, first in zip(shares, firsts, strict=True):
        room = [(f, w - f - r, s - 1) for f, w, r, s in zip(first, whole, reach, window.stride, strict=True)]
        placed.append(widened(lax.pad(share, jnp.zeros((), share.dtype), ((0, 0, 0), *room, (0, 0, 0)))))
    total = functools.reduce(operator.add, placed).astype(shares[0].dtype)
    return lax.slice(total, (0, *starts, 0), (batch, *stops, channels))
