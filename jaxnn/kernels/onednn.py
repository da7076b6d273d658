"""Convolution and its transposes by oneDNN, the library of direct convolutions that XLA:CPU brings on x86.

It lays nothing out, on all threads, and a window of many taps costs it no more a multiplication than one of few. XLA
calls it by a custom call; what that call is told has no promise to stay as it is, so only where it is known is it made
(`available`), and never in a program that is kept: a compiled program with such a call cannot be written to a file.
With `JAXNN_ONEDNN=0` in the environment it is never made.

oneDNN knows the forward convolution here. The transposes are convolutions too:

    conv_dx   g with the kernel flipped and its channels exchanged, for stride 1
    conv_dw   x with g as a window as large as the picture, summed over the batch in place of channels; without groups
"""

import functools
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxlib.version import __version__ as jaxlib_version

from jaxnn.kernels.geometry import ConvGeometry, Padding, Sizes

KNOWN = ("0.10.1", "0.10.2")
"""Releases of jaxlib whose call is told what is told here. Another one could end the process for it."""

SMALL = 2_500_000
"""Multiplications below which a call, some 50 microseconds, costs more than it saves."""

SMALL_DW = 50_000_000
"""The same for the gradient of the kernel, whose operands are laid out anew."""


def available() -> bool:
    """Whether programs that are compiled now may call it.

    Not with a persistent compilation cache: jaxlib cannot write a program with such a call to it.
    """
    kept = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return not kept and os.environ.get("JAXNN_ONEDNN", "1") != "0" and _built_in()


@functools.cache
def _built_in() -> bool:
    """Whether this jaxlib was built with it, for a processor for which it has more than plain loops."""
    if jaxlib_version not in KNOWN:
        return False
    try:
        if "avx2" not in Path("/proc/cpuinfo").read_text().split():
            return False
    except OSError:
        return False  # not Linux
    with ThreadPoolExecutor(1) as apart:  # a mesh that is set here is not for this program
        return apart.submit(_compiles).result()


def _compiles() -> bool:
    here = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])
    x, kernel = (jax.ShapeDtypeStruct(shape, jnp.float32, sharding=here) for shape in ((1, 3, 8), (3, 8, 8)))
    try:
        jax.jit(lambda x, k: conv(x, k, ConvGeometry((1,), ((0, 0),), (1,)))).lower(x, kernel).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def serves(x: jax.Array, kernel: jax.Array, geometry: ConvGeometry) -> bool:
    """Whether it knows this convolution and is the faster one."""
    out = geometry.window(kernel.shape[:-2]).out(x.shape[1:-1])
    work = x.shape[0] * math.prod(out) * kernel.size
    return work >= SMALL and _can(x, kernel, geometry)


def serves_dx(g: jax.Array, kernel: jax.Array, geometry: ConvGeometry) -> bool:
    """Whether it knows this gradient of the input and is the faster one; with few channels as the result it is not."""
    work = g.size // g.shape[-1] * kernel.size
    several = math.prod(kernel.shape[:-2]) > 1 and set(geometry.stride) == {1} and kernel.shape[-2] >= 8
    return several and work >= SMALL and _can(g, kernel, geometry)


def serves_dw(x: jax.Array, g: jax.Array, window: Sizes, geometry: ConvGeometry, threads: int) -> bool:
    """Whether it knows this gradient of the kernel and is the faster one.

    It takes operands whose examples stand last. On one thread these copies cost what it saves, unless taps are many.
    """
    taps = math.prod(window)
    work = g.size * taps * x.shape[-1]
    several = geometry.groups == 1 and len(window) > 1 and taps > 1 and min(x.shape[0], x.shape[-1]) >= 8
    return several and (threads > 1 or taps > 25) and work >= SMALL_DW and _can(x, g, geometry)


def _can(a: jax.Array, b: jax.Array, geometry: ConvGeometry) -> bool:
    return (
        a.dtype == b.dtype == jnp.float32
        and 1 <= a.ndim - 2 <= 3
        and min(sum(geometry.padding, ()), default=0) >= 0
        and available()
    )


def conv(x: jax.Array, kernel: jax.Array, geometry: ConvGeometry) -> jax.Array:
    """`x (batch, *spatial, in)`, `kernel (*window, in / groups, out)` -> `(batch, *out, out)`."""
    out = geometry.window(kernel.shape[:-2]).out(x.shape[1:-1])
    return _call(x, kernel, out, geometry.stride, geometry.padding, geometry.dilation, geometry.groups)


def conv_dx(g: jax.Array, kernel: jax.Array, spatial: Sizes, geometry: ConvGeometry) -> jax.Array:
    """`g (batch, *out, out)`, `kernel (*window, in / groups, out)`, stride 1 -> `(batch, *spatial, in)`."""
    *window, inputs, outputs = kernel.shape
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, kernel.shape[:-2], strict=True)]
    padding = tuple(
        (r - low, n + low - o)
        for r, (low, _), n, o in zip(reach, geometry.padding, spatial, g.shape[1:-1], strict=True)
    )
    flipped = jnp.flip(kernel, range(len(window))).reshape(*window, inputs, geometry.groups, -1).swapaxes(-1, -3)
    flipped = flipped.reshape(*window, outputs // geometry.groups, -1)
    crop = [(min(low, 0), min(high, 0), 0) for low, high in padding]  # outputs that saw padding only
    g = lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *crop, (0, 0, 0)))
    padding = tuple((max(low, 0), max(high, 0)) for low, high in padding)
    return _call(g, flipped, spatial, geometry.stride, padding, geometry.dilation, geometry.groups)


def conv_dw(x: jax.Array, g: jax.Array, window: Sizes, geometry: ConvGeometry) -> jax.Array:
    """`x (batch, *spatial, in)`, `g (batch, *out, out)`, one group -> `(*window, in, out)`."""
    axes = tuple(range(1, x.ndim - 1))
    seen = [
        (low, d * (k - 1) + s * (o - 1) + 1 - n - low, 0)
        for (low, _), d, k, s, o, n in zip(
            geometry.padding, geometry.dilation, window, geometry.stride, g.shape[1:-1], x.shape[1:-1], strict=True
        )
    ]
    # Padded by XLA, which copies it anyway: where oneDNN pads, a NaN of `g` would not reach what it meets there.
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *seen, (0, 0, 0))).transpose(x.ndim - 1, *axes, 0)
    g = g.transpose(*axes, 0, g.ndim - 1)
    dw = _call(x, g, window, geometry.dilation, ((0, 0),) * len(axes), geometry.stride, 1)
    return dw.transpose(*axes, 0, g.ndim - 1)


def _call(
    x: jax.Array, kernel: jax.Array, out: Sizes, stride: Sizes, padding: Padding, dilation: Sizes, groups: int
) -> jax.Array:
    n = len(out)
    channels_last = {"dims": n + 2, "data": {"batch_dim": 0, "feature_dim": n + 1, "spatial_dims": [*range(1, n + 1)]}}
    layout = {"input_feature_dim": n, "output_feature_dim": n + 1, "spatial_dims": [*range(n)]}
    config: dict[str, Any] = {
        "dims": n + 2,
        "input": channels_last,
        "kernel": {"dims": n + 2, "filter": layout},
        "output": channels_last,
        "window": {
            "pad_left": [low for low, _ in padding],
            "pad_right": [high for _, high in padding],
            "strides": stride,
            "window_dilations": dilation,
        },
        "feature_groups": groups,
    }
    return jax.ffi.ffi_call(
        "__onednn$convolution",
        jax.ShapeDtypeStruct((x.shape[0], *out, kernel.shape[-1]), x.dtype),
        custom_call_api_version=1,
        legacy_backend_config=json.dumps({"onednn_conv_config": config}),
    )(x, kernel)
