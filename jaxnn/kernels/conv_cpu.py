"""Convolution and its transposes for XLA:CPU, as matrix products over the taps of the window.

XLA:CPU computes the transposes of a convolution well only at the top level of a program; inside a compiled loop, where
a training step of a whole-epoch scan lives, they run 5 to 50 times slower
(https://github.com/jax-ml/jax/issues/12868). Matrix products run alike everywhere.

Two formulations serve, and `COLUMNS_BELOW` chooses: with few input channels all taps are laid side by side into one
matrix (im2col), whose product has a long inner dimension; with many, each tap is its own product, and nothing is
copied wide. Both go over the batch in blocks, so that their temporaries stay in cache and memory stays bounded; not
`blocked` is for a batch that is spread over devices.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.kernels.accumulate import accumulator
from jaxnn.kernels.blocks import map_blocks, sum_blocks
from jaxnn.kernels.geometry import ConvGeometry, Sizes, lax_conv
from jaxnn.kernels.taps import padded, put, seen

COLUMNS_BELOW = 16
"""Input channels of a group below which the taps are laid side by side."""


def conv(x: jax.Array, kernel: jax.Array, *, geometry: ConvGeometry, members: bool, blocked: bool) -> jax.Array:
    """`x (batch, *spatial, in)`, `kernel (*window, in / groups, out)` -> `(batch, *out, out)`."""
    if members:
        return jax.vmap(lambda x, k: _conv_columns(x, k, geometry, blocked))(x, kernel)
    if geometry.groups == 1 and kernel.shape[-2] < COLUMNS_BELOW:
        return _conv_columns(x, kernel, geometry, blocked)
    return lax_conv(x, kernel, geometry)


def conv_dx(
    g: jax.Array, kernel: jax.Array, *, spatial: Sizes, geometry: ConvGeometry, members: bool, blocked: bool
) -> jax.Array:
    """`g (batch, *out, out)`, `kernel (*window, in / groups, out)` -> `(batch, *spatial, in)`."""
    if members:
        return jax.vmap(lambda g, k: _conv_dx(g, k, spatial, geometry, blocked))(g, kernel)
    return _conv_dx(g, kernel, spatial, geometry, blocked)


def conv_dw(
    x: jax.Array, g: jax.Array, *, window: Sizes, geometry: ConvGeometry, members: bool, blocked: bool
) -> jax.Array:
    """`x (batch, *spatial, in)`, `g (batch, *out, out)` -> `(*window, in / groups, out)`."""
    if members:
        return jax.vmap(lambda x, g: _conv_dw(x, g, window, geometry, blocked))(x, g)
    return _conv_dw(x, g, window, geometry, blocked)


def _conv_columns(x: jax.Array, kernel: jax.Array, geometry: ConvGeometry, blocked: bool) -> jax.Array:
    groups, inputs, outputs = geometry.groups, kernel.shape[-2], kernel.shape[-1]
    size = kernel.shape[:-2]
    matrix = kernel.reshape(math.prod(size) * inputs, groups, outputs // groups)

    def block(x: jax.Array) -> jax.Array:
        y = _product("bngk,kgo->bngo", _columns(x, size, geometry), matrix, geometry)
        out = geometry.window(size).out(x.shape[1:-1])
        return y.reshape(x.shape[0], *out, outputs).astype(x.dtype)

    return map_blocks(block, (x,), _column_bytes(x, size, geometry)) if blocked else block(x)


def _conv_dx(g: jax.Array, kernel: jax.Array, spatial: Sizes, geometry: ConvGeometry, blocked: bool) -> jax.Array:
    size, groups, inputs = kernel.shape[:-2], geometry.groups, kernel.shape[-2]
    taps = kernel.reshape(math.prod(size), inputs, groups, kernel.shape[-1] // groups)

    def block(g: jax.Array) -> jax.Array:
        batch, *out = g.shape[:-1]
        split = g.reshape(batch, math.prod(out), groups, g.shape[-1] // groups)
        # One product for all taps; each tap's share is then put where the window saw it.
        shares = _product("bngo,tigo->bntgi", split, taps, geometry)
        shares = shares.reshape(batch, *out, math.prod(size), groups * inputs)
        each = [shares[..., t, :] for t in range(math.prod(size))]
        return put(each, geometry.window(size), spatial).astype(g.dtype)

    if not blocked:
        return block(g)
    return map_blocks(block, (g,), math.prod((*g.shape[1:-1], *size, groups, inputs, 4)))


def _conv_dw(x: jax.Array, g: jax.Array, size: Sizes, geometry: ConvGeometry, blocked: bool) -> jax.Array:
    groups, inputs, outputs = geometry.groups, x.shape[-1] // geometry.groups, g.shape[-1]
    window = geometry.window(size)

    def by_groups(g: jax.Array) -> jax.Array:
        return g.reshape(g.shape[0], math.prod(g.shape[1:-1]), groups, outputs // groups)

    def block_of_columns(x: jax.Array, g: jax.Array) -> jax.Array:
        # A sum over examples of one product each: a single product over batch and space is one very long sum, slower.
        return _product("bngk,bngo->bkgo", _columns(x, size, geometry), by_groups(g), geometry).sum(0)

    def block_of_taps(x: jax.Array, g: jax.Array) -> jax.Array:
        g = by_groups(g)
        # (out, in) rather than (in, out): the order in which XLA's product of two tall matrices is fast.
        products = [
            _product("bngo,bngi->goi", g, tap.reshape(*g.shape[:2], groups, inputs), geometry)
            for tap in seen(padded(x, window), window, x.shape[1:-1])
        ]
        return jnp.stack(products).transpose(0, 3, 1, 2)

    block, size_of_one = block_of_taps, math.prod(x.shape[1:]) * 4
    if inputs < COLUMNS_BELOW:
        block, size_of_one = block_of_columns, _column_bytes(x, size, geometry)
    total = sum_blocks(block, (x, g), size_of_one) if blocked else block(x, g)
    return total.reshape(*size, inputs, outputs).astype(x.dtype)


def _columns(x: jax.Array, size: Sizes, geometry: ConvGeometry) -> jax.Array:
    """Every window as one row (im2col): `(batch, windows, groups, taps in / groups)`.

    Built along the last spatial axis first, so that each further axis copies long pieces.
    """
    groups, channels, window = geometry.groups, x.shape[-1], geometry.window(size)
    out = window.out(x.shape[1:-1])
    if not all(out):
        return jnp.zeros((x.shape[0], 0, groups, math.prod(size) * channels // groups), x.dtype)
    x = padded(x, window)
    x = x.reshape(*x.shape[:-1], groups, channels // groups)
    for axis in reversed(range(len(size))):
        s, d, o = window.stride[axis], window.dilation[axis], out[axis]
        pieces = [lax.slice_in_dim(x, t * d, t * d + s * (o - 1) + 1, s, axis=1 + axis) for t in range(size[axis])]
        x = jnp.concatenate(pieces, axis=-1)
    return x.reshape(x.shape[0], math.prod(out), groups, x.shape[-1])


def _column_bytes(x: jax.Array, size: Sizes, geometry: ConvGeometry) -> int:
    return math.prod((*geometry.window(size).out(x.shape[1:-1]), *size, x.shape[-1], 4))


def _product(spec: str, a: jax.Array, b: jax.Array, geometry: ConvGeometry) -> jax.Array:
    """A product, axis g the groups, that accumulates half precision in float32."""
    options = {"precision": geometry.precision, "preferred_element_type": accumulator(a.dtype)}
    if geometry.groups > 1:
        return jnp.einsum(spec, a, b, **options)
    # Without the axis of one group XLA:CPU sees a plain matrix product, and copies nothing to make it one.
    left, right, out = spec.replace("->", ",").split(",")
    a, b = a.squeeze(left.index("g")), b.squeeze(right.index("g"))
    return jnp.expand_dims(jnp.einsum(spec.replace("g", ""), a, b, **options), out.index("g"))
