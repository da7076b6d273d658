"""Convolution and its transposes for XLA:CPU, element by element over the taps of the window.

With few input channels in each group (one in a depthwise convolution, or in a grey picture), a tap is an elementwise
multiplication, and too thin for a fast product of matrices. Such code is fastest over whole pictures with all channels
at once.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.kernels import canonical
from jaxnn.kernels.accumulate import accumulator
from jaxnn.kernels.choices import LARGE_BYTES
from jaxnn.kernels.geometry import ConvGeometry, Sizes
from jaxnn.kernels.platform import varying_as
from jaxnn.kernels.taps import col2im, im2col, padded_once

BARRIERS_HOLD = jax.__version_info__ >= (0, 11, 2)
"""Whether XLA:CPU respects an optimization barrier when it fuses work for YNNPACK."""


def conv(x: jax.Array, kernel: jax.Array, geometry: ConvGeometry, blocked: bool) -> jax.Array:
    """Maps `x (batch, *spatial, in)` and `kernel (*window, in / groups, out)` to `(batch, *out, out)`.

    The result is kept apart from what follows. Otherwise XLA:CPU makes part of the sum an operand of a fusion that
    YNNPACK computes, a pool or a mean over the picture for example, and the whole takes up to five times as long.
    """
    window, wide = geometry.window(kernel.shape[:-2]), accumulator(x.dtype)
    inputs, outputs = kernel.shape[-2:]

    def whole(x: jax.Array) -> jax.Array:
        taps = im2col(padded_once(x, window), window, x.shape[1:-1])
        weights = kernel.astype(wide).reshape(len(taps), inputs, *(1,) * (x.ndim - 1), outputs)
        return sum(
            _outputs(tap.astype(wide), channel, inputs, geometry.groups, outputs) * weight
            for tap, each in zip(taps, weights, strict=True)
            for channel, weight in enumerate(each)
        ).astype(x.dtype)

    if BARRIERS_HOLD or not blocked:
        return lax.optimization_barrier(whole(x))
    # A branch that is always taken. XLA fuses nothing with it, and runs it on all threads, unlike a loop over blocks,
    # whose writes it runs on one.
    always = lax.optimization_barrier(jnp.array(True))
    shape = (len(x), *window.out(x.shape[1:-1]), outputs)
    return lax.cond(always, whole, lambda x: varying_as(x, jnp.zeros(shape, x.dtype)), x)


def conv_dx(g: jax.Array, kernel: jax.Array, spatial: Sizes, geometry: ConvGeometry) -> jax.Array:
    """Maps `g (batch, *out, out)` and `kernel (*window, 1, out)` to `(batch, *spatial, in)`.

    With a stride, each channel is convolved alone: out = in.
    """
    if set(geometry.stride) == {1}:
        return canonical.conv_dx(partial(conv, blocked=False), g, kernel, spatial, geometry)
    window, wide = geometry.window(kernel.shape[:-2]), accumulator(g.dtype)
    weights = kernel.astype(wide).reshape(math.prod(kernel.shape[:-2]), *(1,) * (g.ndim - 1), -1)
    shares = [g.astype(wide) * weight for weight in weights]
    return col2im(shares, window, spatial).astype(g.dtype)


def conv_dw(x: jax.Array, g: jax.Array, size: Sizes, geometry: ConvGeometry, blocked: bool) -> jax.Array:
    """Maps `x (batch, *spatial, channels)` and `g (batch, *out, out)` to `(*window, 1, out)`."""
    window, wide = geometry.window(size), accumulator(x.dtype)
    large = math.prod((*g.shape[1:], *size, 4)) > LARGE_BYTES

    def products(x: jax.Array, g: jax.Array) -> list[jax.Array]:
        return [
            _outputs(tap.astype(wide), 0, 1, geometry.groups, g.shape[-1]) * g.astype(wide)
            for tap in im2col(x, window, spatial)
        ]

    spatial, x = x.shape[1:-1], padded_once(x, window)
    if blocked and not large:
        # Summed per example first: XLA:CPU sums over all but the last axis one element at a time.
        def one(i: jax.Array, sums: list[jax.Array]) -> list[jax.Array]:
            example = (lax.dynamic_slice_in_dim(array, i, 1) for array in (x, g))
            return [total + product for total, product in zip(sums, products(*example), strict=True)]

        start = varying_as(x, jnp.zeros((1, *g.shape[1:]), wide))
        sums = lax.fori_loop(0, x.shape[0], one, [start] * math.prod(size))
    else:
        sums = products(x, g)
    return jnp.stack([total.sum(range(g.ndim - 1)) for total in sums]).reshape(*size, 1, -1).astype(x.dtype)


def _outputs(x: jax.Array, channel: int, inputs: int, groups: int, outputs: int) -> jax.Array:
    """Aligns one input channel of each group with the outputs: `(..., inputs * groups)` -> `(..., outputs or 1)`."""
    if inputs > 1:
        x = lax.slice_in_dim(x, channel, None, inputs, axis=x.ndim - 1)
    return x if outputs == groups or groups == 1 else jnp.repeat(x, outputs // groups, axis=-1)
