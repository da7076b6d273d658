"""The transposes of a convolution, each written as a forward convolution.

XLA:CPU converts convolutions to the form of its fast kernels (`dim_labels=b01f_01io->b01f`) only in the entry
computation of a program. In the body of a loop, for example a training step of a compiled epoch, the gradient of a
kernel as `jax.lax` writes it runs 30 to 200 times slower (https://github.com/jax-ml/jax/issues/12868). Written in that
form, it is as fast inside a loop as outside:

    conv_dx   g, dilated by the stride, with the kernel flipped and its channels exchanged
    conv_dw   x with g as the kernel, which sums over the batch instead of the channels

`convolve(x, kernel, geometry)` computes them.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnn.kernels.geometry import ConvGeometry, Sizes, known, lax_conv, pad

Convolve = Callable[[jax.Array, jax.Array, ConvGeometry], jax.Array]


def conv_dx(convolve: Convolve, g: jax.Array, kernel: jax.Array, spatial: Sizes, geometry: ConvGeometry) -> jax.Array:
    """Maps `g (batch, *out, out)` and `kernel (*window, in / groups, out)` to `(batch, *spatial, in)`."""
    flipped, edges = _forward(g, kernel, spatial, geometry)
    # Outputs that saw only padding are cropped. The convolution pads g, unless g is dilated.
    here = [edge if edge[2] else (min(edge[0], 0), min(edge[1], 0), 0) for edge in edges]
    there = tuple((0, 0) if edge[2] else (max(edge[0], 0), max(edge[1], 0)) for edge in edges)
    forward = dataclasses.replace(geometry, stride=(1,) * len(spatial), padding=there)
    return convolve(pad(g, here), flipped, forward)


def conv_dx_dilating(g: jax.Array, kernel: jax.Array, spatial: Sizes, geometry: ConvGeometry) -> jax.Array:
    """`conv_dx` as one convolution of `jax.lax` that dilates g; converters recognise it as a transposed convolution."""
    flipped, edges = _forward(g, kernel, spatial, geometry)
    cuts = _cuts(edges, geometry.stride)
    if any(map(sum, cuts)):
        if any(sum(cut) >= o for cut, o in zip(cuts, g.shape[1:-1], strict=True)):  # nothing is left to dilate
            return conv_dx(lax_conv, g, kernel, spatial, geometry)
        g = pad(g, [(-first, -last, 0) for first, last in cuts])
    padding = tuple(
        (low + first * s, high + last * s)
        for (low, high, _), (first, last), s in zip(edges, cuts, geometry.stride, strict=True)
    )
    forward = dataclasses.replace(geometry, stride=(1,) * len(spatial), padding=padding)
    return lax_conv(g, flipped, forward, dilate=geometry.stride)


def crops(places: Sizes, window: Sizes, spatial: Sizes, geometry: ConvGeometry) -> bool:
    """Whether `conv_dx` leaves out positions of g that saw only padding.

    `jax.lax` writes that as a convolution with negative padding, for which XLA:CPU of JAX 0.10 reads out of bounds in
    float32. Unknown sizes are assumed to need no cropping.
    """
    return any(map(sum, _cuts(_edges(places, window, spatial, geometry), geometry.stride)))


def _cuts(edges: list[tuple[int, int, int]], stride: Sizes) -> list[tuple[int, int]]:
    """Number of first and last positions of g that negative padding of the dilated g cuts off."""

    def cut(edge: int, s: int) -> int:
        return -(edge // s) if known(edge) and edge < 0 else 0

    return [(cut(low, s), cut(high, s)) for (low, high, _), s in zip(edges, stride, strict=True)]


def _forward(
    g: jax.Array, kernel: jax.Array, spatial: Sizes, geometry: ConvGeometry
) -> tuple[jax.Array, list[tuple[int, int, int]]]:
    """The kernel of `conv_dx` as a forward convolution, and the padding (low, high, interior) of g."""
    *window, inputs, outputs = kernel.shape
    groups = geometry.groups
    flipped = jnp.flip(kernel, range(len(window))).reshape(*window, inputs, groups, outputs // groups)
    flipped = flipped.swapaxes(-1, -3).reshape(*window, outputs // groups, groups * inputs)
    return flipped, _edges(g.shape[1:-1], tuple(window), spatial, geometry)


def _edges(places: Sizes, window: Sizes, spatial: Sizes, geometry: ConvGeometry) -> list[tuple[int, int, int]]:
    return [
        (d * (k - 1) - low, n + low - s * (o - 1) - 1, s - 1)
        for k, d, s, (low, _), n, o in zip(
            window, geometry.dilation, geometry.stride, geometry.padding, spatial, places, strict=True
        )
    ]


def conv_dw(
    convolve: Convolve, x: jax.Array, g: jax.Array, window: Sizes, geometry: ConvGeometry, pads: bool
) -> jax.Array:
    """Maps `x (batch, *spatial, in)` and `g (batch, *out, out)` to `(*window, in / groups, out)`.

    `convolve` pads x if `pads`; otherwise the transposition does, which copies x anyway.
    """
    n, groups = x.ndim - 2, geometry.groups
    axes = tuple(range(1, n + 1))
    edges = [
        (low, d * (k - 1) + s * (o - 1) + 1 - size - low)
        for (low, _), d, k, s, o, size in zip(
            geometry.padding, geometry.dilation, window, geometry.stride, g.shape[1:-1], x.shape[1:-1], strict=True
        )
    ]
    pads = pads and min(map(min, edges)) >= 0
    if not pads:
        x = pad(x, [(low, high, 0) for low, high in edges])
    x = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups).transpose(n + 2, *axes, n + 1, 0)
    x = x.reshape(*x.shape[:-2], -1)
    g = g.transpose(*axes, 0, n + 1)
    padding = tuple(edges) if pads else ((0, 0),) * n
    swapped = ConvGeometry(geometry.dilation, padding, geometry.stride, groups, geometry.precision)
    return convolve(x, g, swapped).transpose(*axes, 0, n + 1)
