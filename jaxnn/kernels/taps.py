"""Views of the input by the taps of a sliding window (im2col), and the transpose (col2im)."""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.geometry import Sizes, Window, pad
from jaxnn.kernels.platform import inside_auto_axes

MOST_TAPS = 128
"""Largest number of taps to compile one by one; `jax.lax` computes larger windows."""


def many(size: Sizes) -> bool:
    """Whether a window of this size has too many taps to compile them one by one."""
    return math.prod(size) > MOST_TAPS


def padded(x: jax.Array, window: Window, value: jax.typing.ArrayLike = 0) -> jax.Array:
    """Pads `x (batch, *spatial, channels)` as the window says."""
    if not any(low or high for low, high in window.padding):
        return x
    return pad(x, [(low, high, 0) for low, high in window.padding], value)


def padded_once(x: jax.Array, window: Window) -> jax.Array:
    """Pads `x` with zeros, in a program for XLA:CPU that computes `x` once.

    A tap without padding is a slice of `x` itself, even if a caller padded `x`. XLA:CPU would recompute `x` for each
    such tap, and with it all windows before: nine in a row over reflected padding took a hundred times as long.
    """
    return lax.optimization_barrier(padded(x, window))


def im2col(x: jax.Array, window: Window, spatial: Sizes) -> list[jax.Array]:
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


def col2im(shares: Sequence[jax.Array], window: Window, spatial: Sizes) -> jax.Array:
    """Adds the contributions of taps, each `(batch, *out, channels)`, to their inputs: `(batch, *spatial, channels)`.

    Half precision is summed in float32 and rounded once.
    """
    spec = jax.typeof(shares[0]).sharding.spec
    if any(spec[1:-1]):  # intermediate arrays have other sizes, which need not divide over explicit axes
        return inside_auto_axes(lambda *shares: _col2im(shares, window, spatial), *shares, spec=spec)
    return _col2im(shares, window, spatial)


def _col2im(shares: Sequence[jax.Array], window: Window, spatial: Sizes) -> jax.Array:
    batch, *out, channels = shares[0].shape
    if not all(out):
        return jnp.zeros((batch, *spatial, channels), shares[0].dtype)
    placed = []
    for share, first in zip(shares, window.taps(), strict=True):
        middle = []
        for f, (low, _), s, o, n in zip(first, window.padding, window.stride, out, spatial, strict=True):
            # Negative if the tap is in the padding, which is cropped.
            middle.append((f - low, n - (f - low + s * (o - 1) + 1), s - 1))
        placed.append(widened(pad(share, middle)))
    return functools.reduce(operator.add, placed).astype(shares[0].dtype)
