"""The forward convolution of oneDNN, a library of direct convolutions inside XLA:CPU on x86.

It needs no copies to other layouts, uses all threads, and is equally efficient for large and small windows. XLA calls
it by an undocumented custom call, which for some geometries gave wrong results or crashed the process (`knows`
excludes all that were found). So it is only called with `JAXNN_ONEDNN=1` in the environment. The format of the call
may change in any release, and a wrong format crashes the process too, so each release of jaxlib is tried once on each
processor, in a separate process (`works`), and the result is kept in the user's cache folder. A compiled program with
such a call cannot be written to a file, so exported programs, and programs made with a persistent compilation cache,
do not use it.
"""

import contextlib
import functools
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxlib.version import __version__ as jaxlib_version

from jaxnn.cache import user_cache
from jaxnn.files import replacing
from jaxnn.kernels.geometry import ConvGeometry, Sizes, lax_conv
from jaxnn.processor import facts, features

PATIENCE = 120.0
"""Time limit in seconds of the process that tries oneDNN."""

MOST_PADDING = 4
"""Largest padding with which oneDNN's depthwise kernels for AVX2 serve; those for AVX-512 take 6."""


def available() -> bool:
    """Whether programs that are compiled now may call oneDNN."""
    kept = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    return not kept and os.environ.get("JAXNN_ONEDNN") == "1" and works()


def knows(kind: str, dtype: Any, geometry: ConvGeometry, kernel: tuple[int, ...], places: Sizes) -> bool:
    """Whether oneDNN computes a pass, "conv", "conv_dx" or "conv_dw", of a convolution with outputs of size `places`.

    False if a strided axis has one output: with one input channel oneDNN then reads out of bounds (jaxlib 0.10.2 and
    0.12, AVX-512).

    False if an example has one output in all: for windows of 28 taps or more it is then wrong (jaxlib 0.12, AVX-512).

    False if a window may see only padding, and if each group has one output, except over two axes with little padding.
    oneDNN may have no direct kernel there and multiply matrices, in parallel loops inside parallel loops. XLA's thread
    pool then frees memory twice, which ends the process sooner or later (jaxlib 0.10.2). With AVX2 this happens for
    all depthwise convolutions over one or three axes, and for a 3x3 with a dilation of 6.
    """
    *window, _, outputs = kernel
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, window, strict=True)]
    # The gradient of a kernel is a convolution whose outputs are the taps, a dilation apart.
    out, stride = (tuple(window), geometry.dilation) if kind == "conv_dw" else (places, geometry.stride)
    fits = dtype == np.float32 and 1 <= len(stride) <= 3 and min(sum(geometry.padding, ()), default=0) >= 0
    if not fits or not all(o > 1 or s == 1 for o, s in zip(out, stride, strict=True)):
        return False
    if math.prod(out) == outputs == 1:
        return False
    if kind == "conv_dw":  # whose input is padded before
        padding = [0]
    elif kind == "conv_dx":
        padding = [r - amount for r, pair in zip(reach, geometry.padding, strict=True) for amount in pair]
    else:
        padding = [amount for pair in geometry.padding for amount in pair]
        if any(max(pair) > r for r, pair in zip(reach, geometry.padding, strict=True)):
            return False
    return outputs != geometry.groups or geometry.groups == 1 or (len(stride) == 2 and max(padding) <= MOST_PADDING)


@functools.cache
def works() -> bool:
    """Whether oneDNN is correct with this jaxlib on this processor; tried once for each, in a separate process."""
    processor = _processor()
    if processor is None or not sys.executable:
        return False
    name = hashlib.sha256(f"{jaxlib_version} {processor} {Path(__file__).read_text('utf-8')}".encode()).hexdigest()[:16]
    file = f"onednn-{jaxlib_version}-{name}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return bool(json.loads((user_cache() / file).read_text())["works"])
    answer = _tried()
    with contextlib.suppress(OSError):  # the next process asks again
        note = user_cache() / file
        note.parent.mkdir(parents=True, exist_ok=True)
        with replacing(note) as beside:
            beside.write_text(json.dumps({"works": answer, "jaxlib": jaxlib_version, "processor": processor[:200]}))
    return answer


def _processor() -> str | None:
    """Returns model and features of the processor; None if oneDNN has only plain loops for it."""
    known = facts()
    if platform.machine() not in ("x86_64", "AMD64") or "avx2" not in features():
        return None
    return f"{known.get('model name')} {known.get('flags')}"


def _tried() -> bool:
    root = str(Path(__file__).parents[2])
    unwanted = ("JAX_", "XLA_", "COVERAGE", "COV_CORE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    try:
        done = subprocess.run(
            [sys.executable, "-c", "from jaxnn.kernels import onednn; onednn.check()"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def check() -> None:
    """Convolves by oneDNN over one to three axes, with every option; raises, or crashes, on failure."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 3):
        for stride, dilation, groups in ((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)):
            geometry = ConvGeometry((stride,) * n, ((2, 1),) * n, (dilation,) * n, groups)
            x = rng.normal(size=(2, *range(7, 7 + n), 16)).astype(np.float32)
            kernel = rng.normal(size=(*range(3, 3 + n), 16 // groups, 8)).astype(np.float32)
            ours, plain = (jax.jit(f, static_argnums=2)(x, kernel, geometry) for f in (conv, lax_conv))
            np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-3)


def conv(x: jax.Array, kernel: jax.Array, geometry: ConvGeometry) -> jax.Array:
    """Maps `x (batch, *spatial, in)` and `kernel (*window, in / groups, out)` to `(batch, *out, out)`."""
    n = x.ndim - 2
    out = geometry.window(kernel.shape[:-2]).out(x.shape[1:-1])
    channels_last = {"dims": n + 2, "data": {"batch_dim": 0, "feature_dim": n + 1, "spatial_dims": [*range(1, n + 1)]}}
    layout = {"input_feature_dim": n, "output_feature_dim": n + 1, "spatial_dims": [*range(n)]}
    config: dict[str, Any] = {
        "dims": n + 2,
        "input": channels_last,
        "kernel": {"dims": n + 2, "filter": layout},
        "output": channels_last,
        "window": {
            "pad_left": [low for low, _ in geometry.padding],
            "pad_right": [high for _, high in geometry.padding],
            "strides": geometry.stride,
            "window_dilations": geometry.dilation,
        },
        "feature_groups": geometry.groups,
    }
    return jax.ffi.ffi_call(
        "__onednn$convolution",
        jax.ShapeDtypeStruct((x.shape[0], *out, kernel.shape[-1]), x.dtype),
        custom_call_api_version=1,
        legacy_backend_config=json.dumps({"onednn_conv_config": config}),
    )(x, kernel)
