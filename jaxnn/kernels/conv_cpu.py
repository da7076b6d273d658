"""Convolution and its transposes for XLA:CPU: by oneDNN, or as matrix products over the taps of the window.

XLA:CPU computes a convolution of few channels on one thread, and its transposes well only at the top level of a
program: inside a compiled loop, where a training step of a whole-epoch scan lives, they run 5 to 50 times slower
(https://github.com/jax-ml/jax/issues/12868). `onednn` serves where it can be called and is the fastest. Matrix products
run everywhere, alike in loops and out of them, on all threads.

    conv      all taps side by side in one matrix (im2col), times the kernel; or XLA's own (`xla_serves`)
    conv_dx   one product gives every tap's share, which is put back where the tap saw
    conv_dw   the same matrix of all taps, transposed, times the cotangent

All go over the batch in blocks, so that their temporaries stay in cache and memory stays bounded; not `blocked` is for
a batch that is spread over devices. Not `library` is for what must not call oneDNN. What would be large for a single
example, `LARGE_BYTES`, is computed without being laid out: by XLA's own convolution and tap by tap. Where each channel
is convolved alone there is no product of matrices, and `depthwise_cpu` serves.
"""

import math
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxnn.kernels import depthwise_cpu, onednn
from jaxnn.kernels.accumulate import accumulator
from jaxnn.kernels.blocks import LARGE_BYTES, Buffer, map_blocks, sum_blocks, unset
from jaxnn.kernels.geometry import ConvGeometry, Sizes, lax_conv
from jaxnn.kernels.platform import varying_as
from jaxnn.kernels.taps import padded, put, seen

SMALL_BYTES = 1 << 24
"""Columns of a whole batch below which a loop over blocks costs more than it saves, if the result is as wide."""

MANY_BYTES = 1 << 23
"""Columns of one example above which a loop has them once: several of them fit no cache and take much memory."""

SHORT = 16
"""Channels below which pieces are so short that they are joined axis by axis: copies of longer and longer pieces.

Longer ones are written each to its place in a buffer that a loop over blocks keeps: one copy, where joining makes two.
"""


def conv(
    x: jax.Array, kernel: jax.Array, *, geometry: ConvGeometry, members: bool, blocked: bool, library: bool
) -> jax.Array:
    """`x (batch, *spatial, in)`, `kernel (*window, in / groups, out)` -> `(batch, *out, out)`."""

    def one(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if library and onednn.serves(x, kernel, geometry):
            return onednn.conv(x, kernel, geometry)
        return _conv_columns(x, kernel, geometry, blocked)

    if members:
        return _members(one, x, kernel, blocked)
    if depthwise_cpu.serves(kernel.shape[-2], kernel.shape[-1], geometry):
        return depthwise_cpu.conv(x, kernel, geometry)
    large = _column_bytes(x, kernel.shape[:-2], geometry) > LARGE_BYTES
    if (geometry.groups > 1 or xla_serves(kernel) or large) and not (library and onednn.serves(x, kernel, geometry)):
        return lax_conv(x, kernel, geometry)
    return one(x, kernel)


def conv_dx(
    g: jax.Array,
    kernel: jax.Array,
    *,
    spatial: Sizes,
    geometry: ConvGeometry,
    members: bool,
    blocked: bool,
    library: bool,
) -> jax.Array:
    """`g (batch, *out, out)`, `kernel (*window, in / groups, out)` -> `(batch, *spatial, in)`."""

    def one(g: jax.Array, kernel: jax.Array) -> jax.Array:
        if library and onednn.serves_dx(g, kernel, geometry):
            return onednn.conv_dx(g, kernel, spatial, geometry)
        return _conv_dx(g, kernel, spatial, geometry, blocked)

    if members:
        return _members(one, g, kernel, blocked)
    if depthwise_cpu.serves(kernel.shape[-2], kernel.shape[-1], geometry):
        return depthwise_cpu.conv_dx(g, kernel, spatial, geometry)
    return one(g, kernel)


def conv_dw(
    x: jax.Array,
    g: jax.Array,
    *,
    window: Sizes,
    geometry: ConvGeometry,
    members: bool,
    blocked: bool,
    library: bool,
) -> jax.Array:
    """`x (batch, *spatial, in)`, `g (batch, *out, out)` -> `(*window, in / groups, out)`."""

    def one(x: jax.Array, g: jax.Array) -> jax.Array:
        if library and onednn.serves_dw(x, g, window, geometry, threads()):
            return onednn.conv_dw(x, g, window, geometry)
        return _conv_dw(x, g, window, geometry, blocked)

    if members:
        return _members(one, x, g, blocked)
    if depthwise_cpu.serves(x.shape[-1] // geometry.groups, g.shape[-1], geometry):
        return depthwise_cpu.conv_dw(x, g, window, geometry, blocked)
    return one(x, g)


def _members(
    function: Callable[[jax.Array, jax.Array], jax.Array], a: jax.Array, b: jax.Array, blocked: bool
) -> jax.Array:
    """The function of each member's operands: their products are separate ones anyway.

    One after another, so that what stays in cache for one network does so for an ensemble of them, unless members may
    be spread over devices.
    """
    return lax.map(lambda both: function(*both), (a, b)) if blocked else jax.vmap(function)(a, b)


def _conv_columns(x: jax.Array, kernel: jax.Array, geometry: ConvGeometry, blocked: bool) -> jax.Array:
    groups, inputs, outputs = geometry.groups, kernel.shape[-2], kernel.shape[-1]
    size = kernel.shape[:-2]
    matrix = kernel.reshape(math.prod(size) * inputs, groups, outputs // groups)

    def buffered(buffer: jax.Array | None, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        columns = _columns(x, size, geometry, buffer)
        rows = columns.reshape(x.shape[0], math.prod(columns.shape[1:-1]) // groups, groups, columns.shape[-1])
        y = _product("bngk,kgo->bngo", rows, matrix, geometry)
        out = geometry.window(size).out(x.shape[1:-1])
        return columns, y.reshape(x.shape[0], *out, outputs).astype(x.dtype)

    def block(x: jax.Array) -> jax.Array:
        return buffered(None, x)[1]

    bytes_an_example = _column_bytes(x, size, geometry)
    # Columns no wider than the result cost less time than a loop's copy of the result.
    small = math.prod(size) * x.shape[-1] <= outputs and x.shape[0] * bytes_an_example <= SMALL_BYTES
    if not blocked or small or math.prod(size) == 1:  # a single tap's columns are the input itself
        return block(x)
    if _long(x, geometry) and bytes_an_example <= MANY_BYTES:
        return map_blocks(buffered, (x,), bytes_an_example, _column_buffer(x, size, geometry))
    return map_blocks(block, (x,), bytes_an_example)


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

    def by_taps(g: jax.Array) -> jax.Array:
        # The same with one tap's share at a time, on a canvas that holds all places of the window.
        out, step = g.shape[1:-1], geometry.stride
        canvas = tuple(
            (o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(out, step, geometry.dilation, size, strict=True)
        )
        split = g.reshape(-1, groups, g.shape[-1] // groups)
        firsts = jnp.asarray(list(geometry.window(size).taps()))

        def one(t: jax.Array, dx: jax.Array) -> jax.Array:
            share = _product("ngo,igo->ngi", split, taps[t], geometry).reshape(*g.shape[:-1], groups * inputs)
            share = lax.pad(share, jnp.zeros((), share.dtype), ((0, 0, 0), *((0, 0, s - 1) for s in step), (0, 0, 0)))
            at = (0, *firsts[t], 0)
            return lax.dynamic_update_slice(dx, lax.dynamic_slice(dx, at, share.shape) + share, at)

        start = jnp.zeros((g.shape[0], *canvas, groups * inputs), accumulator(g.dtype))
        dx = lax.fori_loop(0, math.prod(size), one, varying_as(g, start))
        edges = [(-low, n + low - c, 0) for (low, _), n, c in zip(geometry.padding, spatial, canvas, strict=True)]
        return lax.pad(dx, jnp.zeros((), dx.dtype), ((0, 0, 0), *edges, (0, 0, 0))).astype(g.dtype)

    bytes_an_example = math.prod((*g.shape[1:-1], *size, groups, inputs, 4))
    if not blocked or math.prod(size) == 1:
        return block(g)
    return map_blocks(by_taps if bytes_an_example > LARGE_BYTES else block, (g,), bytes_an_example)


def _conv_dw(x: jax.Array, g: jax.Array, size: Sizes, geometry: ConvGeometry, blocked: bool) -> jax.Array:
    groups, inputs, outputs = geometry.groups, x.shape[-1] // geometry.groups, g.shape[-1]
    window, bytes_an_example = geometry.window(size), _column_bytes(x, size, geometry)

    def by_groups(x: jax.Array) -> jax.Array:
        return x.reshape(-1, groups, x.shape[-1] // groups)

    def buffered(buffer: jax.Array | None, x: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        columns = _columns(x, size, geometry, buffer)
        rows = columns.reshape(-1, groups, columns.shape[-1])
        # XLA's product of two tall matrices is the faster the smaller its left operand.
        if rows.shape[-1] * groups < outputs:
            return columns, _product("ngk,ngo->kgo", rows, by_groups(g), geometry)
        return columns, _product("ngo,ngk->ogk", by_groups(g), rows, geometry).transpose(2, 1, 0)

    def block_of_columns(x: jax.Array, g: jax.Array) -> jax.Array:
        return buffered(None, x, g)[1]

    def block_of_taps(x: jax.Array, g: jax.Array) -> jax.Array:
        taps = seen(padded(x, window), window, x.shape[1:-1])
        products = [_product("ngo,ngi->goi", by_groups(g), by_groups(tap), geometry) for tap in taps]
        return jnp.stack(products).transpose(0, 3, 1, 2)

    def tap_by_tap(x: jax.Array, g: jax.Array) -> jax.Array:
        x = padded(x, window)
        reach = tuple((o - 1) * s + 1 for o, s in zip(g.shape[1:-1], window.stride, strict=True))

        def one(first: jax.Array) -> jax.Array:
            tap = lax.dynamic_slice(x, (0, *first, 0), (x.shape[0], *reach, x.shape[-1]))
            tap = lax.slice(tap, (0,) * tap.ndim, tap.shape, (1, *window.stride, 1))
            return _product("ngo,ngi->goi", by_groups(g), by_groups(tap), geometry)

        return lax.map(one, jnp.asarray(list(window.taps()))).transpose(0, 3, 1, 2)

    block = block_of_columns
    if bytes_an_example > LARGE_BYTES:
        block = tap_by_tap
    elif groups > 1:
        block, bytes_an_example = block_of_taps, math.prod(x.shape[1:]) * 4
    if not blocked or math.prod(size) == 1:
        total = block(x, g)
    elif _long(x, geometry) and bytes_an_example <= MANY_BYTES:
        total = sum_blocks(buffered, (x, g), bytes_an_example, _column_buffer(x, size, geometry))
    else:
        total = sum_blocks(block, (x, g), bytes_an_example)
    return total.reshape(*size, inputs, outputs).astype(x.dtype)


def _columns(x: jax.Array, size: Sizes, geometry: ConvGeometry, buffer: jax.Array | None = None) -> jax.Array:
    """Every window as one row (im2col): `(batch, *out, taps in)`, or `(..., groups, taps in / groups)`.

    With a buffer of that shape, what each tap sees is written there.
    """
    groups, channels, window = geometry.groups, x.shape[-1], geometry.window(size)
    out, spatial = window.out(x.shape[1:-1]), x.shape[1:-1]
    by_groups = (groups,) if groups > 1 else ()
    x = padded(x, window)
    if _long(x, geometry):
        taps = seen(x, window, spatial)
        if buffer is None:
            return jnp.concatenate(taps, axis=-1)
        for t, tap in enumerate(taps):
            buffer = lax.dynamic_update_slice_in_dim(buffer, tap, t * channels, axis=-1)
        return buffer
    x = x.reshape(*x.shape[:-1], *by_groups, channels // groups)
    for axis in reversed(range(len(size))):
        s, d, o = window.stride[axis], window.dilation[axis], out[axis]
        pieces = [lax.slice_in_dim(x, t * d, t * d + s * (o - 1) + 1, s, axis=1 + axis) for t in range(size[axis])]
        x = jnp.concatenate(pieces, axis=-1)
    return x


def _long(x: jax.Array, geometry: ConvGeometry) -> bool:
    return geometry.groups == 1 and x.shape[-1] >= SHORT


def _column_buffer(x: jax.Array, size: Sizes, geometry: ConvGeometry) -> Buffer:
    out = geometry.window(size).out(x.shape[1:-1])
    return lambda block: unset(x, (block, *out, math.prod(size) * x.shape[-1]), x.dtype)


def xla_serves(kernel: jax.Array) -> bool:
    """Whether XLA's own convolution is at least as fast as its products, in loops too.

    It makes no copies of what the window sees. But with two spatial axes it works on one thread, unless both sides have
    128 channels.
    """
    *window, inputs, outputs = kernel.shape
    if math.prod(window) == 1 or kernel.dtype not in (jnp.float32, jnp.float64):
        return False
    if len(window) == 1:
        return inputs >= 32 and kernel.dtype == jnp.float32
    if len(window) > 2:
        return False
    if inputs == 1:  # copies of single numbers are slow
        return outputs % 16 == 0
    if threads() == 1:
        return inputs >= 64 or math.prod(window) >= 25
    return min(inputs, outputs) >= 128


def threads() -> int:
    """How many XLA:CPU computes with."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
