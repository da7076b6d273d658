"""Convolution and its transposes as matrix products, one for each tap of the window.

Matrix products are equally fast inside loops and outside, for every dtype, and over a sharded batch. They loop over
blocks of the batch, so that the inputs of a tap stay in the cache and memory is bounded; `blocked=False` is for a batch
that may be sharded over devices.
"""

import functools
import math
import operator

import jax
import jax.numpy as jnp

from jaxnn.kernels.accumulate import accumulator
from jaxnn.kernels.blocks import map_blocks, sum_blocks
from jaxnn.kernels.geometry import ConvGeometry, Sizes, pad
from jaxnn.kernels.taps import col2im, im2col, padded


def conv(x: jax.Array, kernel: jax.Array, geometry: ConvGeometry, blocked: bool) -> jax.Array:
    """Maps `x (batch, *spatial, in)` and `kernel (*window, in / groups, out)` to `(batch, *out, out)`."""
    size, groups = kernel.shape[:-2], geometry.groups
    window = geometry.window(size)
    taps = kernel.reshape(math.prod(size), kernel.shape[-2], groups, -1)

    def block(x: jax.Array) -> jax.Array:
        views = im2col(padded(x, window), window, x.shape[1:-1])
        products = [
            _product("ngi,igo->ngo", _rows(view, groups), tap, geometry) for view, tap in zip(views, taps, strict=True)
        ]
        return functools.reduce(operator.add, products).reshape(*views[0].shape[:-1], -1).astype(x.dtype)

    return _over_blocks(block, x, blocked and len(taps) > 1, math.prod(window.out(x.shape[1:-1])) * kernel.shape[-1])


def conv_dx(g: jax.Array, kernel: jax.Array, spatial: Sizes, geometry: ConvGeometry, blocked: bool) -> jax.Array:
    """Maps `g (batch, *out, out)` and `kernel (*window, in / groups, out)` to `(batch, *spatial, in)`."""
    size, groups, inputs = kernel.shape[:-2], geometry.groups, kernel.shape[-2]
    if blocked and groups == 1 and geometry.window(size).tiles(spatial):
        return _tiles(g, kernel, spatial, geometry)
    taps = kernel.reshape(math.prod(size), inputs, groups, -1)

    def block(g: jax.Array) -> jax.Array:
        shares = [
            _product("ngo,igo->ngi", _rows(g, groups), tap, geometry).reshape(*g.shape[:-1], groups * inputs)
            for tap in taps
        ]
        return col2im(shares, geometry.window(size), spatial).astype(g.dtype)

    return _over_blocks(block, g, blocked and len(taps) > 1, math.prod(spatial) * inputs * groups)


def _tiles(g: jax.Array, kernel: jax.Array, spatial: Sizes, geometry: ConvGeometry) -> jax.Array:
    """`conv_dx` for windows that tile the input: one product, since each element of the input is in one window."""
    n, size, out = len(spatial), kernel.shape[:-2], g.shape[1:-1]
    shares = jnp.tensordot(
        g, kernel, ((-1,), (-1,)), precision=geometry.precision, preferred_element_type=accumulator(g.dtype)
    ).astype(g.dtype)
    pairs = [axis for i in range(n) for axis in (1 + i, 1 + n + i)]  # positions of the window, position inside of it
    shares = shares.transpose(0, *pairs, 2 * n + 1)
    dx = shares.reshape(len(g), *(o * k for o, k in zip(out, size, strict=True)), kernel.shape[-2])
    return pad(dx, [(0, all_ - o * k, 0) for all_, o, k in zip(spatial, out, size, strict=True)])


def conv_dw(x: jax.Array, g: jax.Array, size: Sizes, geometry: ConvGeometry, blocked: bool) -> jax.Array:
    """Maps `x (batch, *spatial, in)` and `g (batch, *out, out)` to `(*window, in / groups, out)`."""
    window, groups = geometry.window(size), geometry.groups

    def block(x: jax.Array, g: jax.Array) -> jax.Array:
        views = im2col(padded(x, window), window, x.shape[1:-1])
        # XLA's product of two tall matrices is faster if the smaller one is on the left.
        if x.shape[-1] < g.shape[-1]:
            left = [_product("ngi,ngo->igo", _rows(view, groups), _rows(g, groups), geometry) for view in views]
            return jnp.stack(left)
        right = [_product("ngo,ngi->ogi", _rows(g, groups), _rows(view, groups), geometry) for view in views]
        return jnp.stack(right).transpose(0, 3, 2, 1)

    if not blocked or math.prod(size) == 1:  # the input of a single tap is the input itself
        total = block(x, g)
    else:
        total = sum_blocks(block, (x, g), math.prod(x.shape[1:]) * 4)
    return total.reshape(*size, x.shape[-1] // groups, g.shape[-1]).astype(x.dtype)


def _over_blocks(block, array: jax.Array, blocked: bool, numbers: int) -> jax.Array:  # type: ignore[no-untyped-def]
    return map_blocks(block, (array,), numbers * 4) if blocked else block(array)


def _rows(x: jax.Array, groups: int) -> jax.Array:
    return x.reshape(math.prod(x.shape[:-1]), groups, x.shape[-1] // groups)


def _product(spec: str, a: jax.Array, b: jax.Array, geometry: ConvGeometry) -> jax.Array:
    """Multiplies for each group; half precision accumulates in float32."""
    options = {"precision": geometry.precision, "preferred_element_type": accumulator(a.dtype)}
    if geometry.groups > 1:
        return jnp.einsum(spec, a, b, **options)
    # Without an axis for a single group XLA:CPU recognises a plain matrix product, and copies nothing.
    left, right, out = spec.replace("->", ",").split(",")
    a, b = a.squeeze(left.index("g")), b.squeeze(right.index("g"))
    return jnp.expand_dims(jnp.einsum(spec.replace("g", ""), a, b, **options), out.index("g"))
