"""Convolution and its transposes for XLA:CPU, in the formulation that `choices` names.

elementwise  element by element, for few input channels in each group (`elementwise_cpu`)
taps         products of matrices, one for each tap of the window (`tap_products`)
canonical    XLA's convolution, in the form for which it has fast kernels (`canonical`)

`sharded` says that XLA shards the program over several devices.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from jaxnn.kernels import canonical, elementwise_cpu, tap_products
from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.choices import Formulation, Pass, Work, choose
from jaxnn.kernels.geometry import ConvGeometry, Sizes, lax_conv
from jaxnn.kernels.settings import convolutions_by_eigen
from jaxnn.kernels.taps import many


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    geometry: ConvGeometry,
    members: bool,
    differentiated: bool,
    sharded: bool,
) -> jax.Array:
    """Maps `x (batch, *spatial, in)` and `kernel (*window, in / groups, out)` to `(batch, *out, out)`."""

    def one(x: jax.Array, kernel: jax.Array) -> jax.Array:
        spatial = x.shape[1:-1]
        places = geometry.window(kernel.shape[:-2]).out(spatial)
        how = _how("conv", x, spatial, places, kernel.shape, geometry, members, sharded, differentiated)
        return compute_conv(how, x, kernel, geometry, blocked=not sharded)

    return _members(one, x, kernel, sharded) if members else one(x, kernel)


def conv_dx(
    g: jax.Array, kernel: jax.Array, *, spatial: Sizes, geometry: ConvGeometry, members: bool, sharded: bool
) -> jax.Array:
    """Maps `g (batch, *out, out)` and `kernel (*window, in / groups, out)` to `(batch, *spatial, in)`."""

    def one(g: jax.Array, kernel: jax.Array) -> jax.Array:
        how = _how("conv_dx", g, spatial, g.shape[1:-1], kernel.shape, geometry, members, sharded)
        return compute_conv_dx(how, g, kernel, spatial, geometry, blocked=not sharded)

    return _members(one, g, kernel, sharded) if members else one(g, kernel)


def conv_dw(
    x: jax.Array, g: jax.Array, *, window: Sizes, geometry: ConvGeometry, members: bool, sharded: bool
) -> jax.Array:
    """Maps `x (batch, *spatial, in)` and `g (batch, *out, out)` to `(*window, in / groups, out)`."""

    def one(x: jax.Array, g: jax.Array) -> jax.Array:
        kernel = (*window, x.shape[-1] // geometry.groups, g.shape[-1])
        how = _how("conv_dw", x, x.shape[1:-1], g.shape[1:-1], kernel, geometry, members, sharded)
        return compute_conv_dw(how, x, g, window, geometry, blocked=not sharded)

    return _members(one, x, g, sharded) if members else one(x, g)


def compute_conv(
    how: Formulation, x: jax.Array, kernel: jax.Array, geometry: ConvGeometry, blocked: bool = True
) -> jax.Array:
    """Computes `conv` in a formulation."""
    if how == "elementwise":
        return elementwise_cpu.conv(x, kernel, geometry, blocked)
    if how == "taps":
        return tap_products.conv(x, kernel, geometry, blocked)
    return _convolve(x, kernel, geometry)


def compute_conv_dx(
    how: Formulation, g: jax.Array, kernel: jax.Array, spatial: Sizes, geometry: ConvGeometry, blocked: bool = True
) -> jax.Array:
    """Computes `conv_dx` in a formulation."""
    if how == "elementwise":
        return elementwise_cpu.conv_dx(g, kernel, spatial, geometry)
    if how == "taps":
        return tap_products.conv_dx(g, kernel, spatial, geometry, blocked)
    return canonical.conv_dx(_convolve, g, kernel, spatial, geometry)


def compute_conv_dw(
    how: Formulation, x: jax.Array, g: jax.Array, window: Sizes, geometry: ConvGeometry, blocked: bool = True
) -> jax.Array:
    """Computes `conv_dw` in a formulation."""
    if how == "elementwise":
        return elementwise_cpu.conv_dw(x, g, window, geometry, blocked)
    if how == "taps":
        return tap_products.conv_dw(x, g, window, geometry, blocked)
    # Eigen pads few channels slowly, and the examples are channels here: 3x3, 56x56x64 to 64, batch 4: 10.1 instead of
    # 6.1 ms. With a stride, with 16 examples, and by YNNPACK, padding before takes 1.0 to 1.5 times as long.
    slowly = convolutions_by_eigen() and x.shape[0] < 16 and set(geometry.stride) == {1}
    return canonical.conv_dw(_convolve, x, g, window, geometry, pads=not slowly)


def _how(
    kind: Pass,
    array: jax.Array,
    spatial: Sizes,
    places: Sizes,
    kernel: tuple[int, ...],
    geometry: ConvGeometry,
    members: bool,
    sharded: bool,
    differentiated: bool = False,
) -> Formulation:
    *window, inputs, outputs = kernel
    work = Work(
        kind=kind,
        dtype=array.dtype.name,
        batch=array.shape[0],
        spatial=tuple(spatial),
        places=tuple(places),
        window=tuple(window),
        inputs=inputs,
        outputs=outputs,
        stride=geometry.stride,
        groups=geometry.groups,
        tiles=not sharded and geometry.tiles(tuple(window)),
        differentiated=not sharded and differentiated,
        eigen=not sharded and convolutions_by_eigen(),
    )
    # Only matrix products are sharded well in every case: over a batch that they sum over, over members, and with
    # groups, for which XLA gathers the whole batch, unless each has one channel.
    apart = members or kind == "conv_dw" or (geometry.groups > 1 and inputs > 1)
    if sharded and apart and not work.elementwise and not many(work.window):
        return "taps"
    return choose(work)


def _convolve(x: jax.Array, kernel: jax.Array, geometry: ConvGeometry) -> jax.Array:
    # Eigen would accumulate half precision in half precision.
    return lax_conv(widened(x), widened(kernel), geometry).astype(x.dtype)


def _members(function: Callable[[Any, Any], jax.Array], a: jax.Array, b: jax.Array, sharded: bool) -> jax.Array:
    """Maps a function over the members of an ensemble.

    The members run one after another, so that an ensemble uses the cache like one network, unless members may be
    sharded over devices.
    """
    return jax.vmap(function)(a, b) if sharded else lax.map(lambda both: function(*both), (a, b))
