"""Reads paddings, an amount and a mode, and pads arrays."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.core import max_dim

from jaxnn.counts import whole
from jaxnn.functional.arguments import listed
from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.geometry import Padding, Sizes, known

PaddingLike = str | int | Sequence[tuple[int, int]]
"""`"SAME"`, `"SAME_LOWER"`, `"VALID"`, `"CAUSAL"`, an int for every side, or a (low, high) pair per spatial axis."""

PadMode = Literal["zeros", "reflect", "replicate", "circular"]

NAMES = ("SAME", "SAME_LOWER", "VALID", "CAUSAL")
_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def pairs_of(padding: PaddingLike, spatial: Sizes, window: Sizes, stride: Sizes, dilation: Sizes) -> Padding:
    """Returns the (low, high) padding of each spatial axis.

    With the window's extent e = dilation · (window - 1) + 1:

    - `"SAME"` makes the output ceil(size / stride) long; an odd extra element is added at the end, with
      `"SAME_LOWER"` at the start.
    - `"VALID"` pads nothing.
    - `"CAUSAL"` pads e - 1 before and nothing after: no output sees a later input.
    """
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True))
    if isinstance(padding, str):
        if padding == "VALID":
            return ((0, 0),) * len(spatial)
        if padding == "CAUSAL":
            return tuple((e - 1, 0) for e in extent)
        if padding in ("SAME", "SAME_LOWER"):
            # The last window starts at (n - 1) // s * s, so (n - 1) % s elements lie behind its first one.
            total = [max_dim(0, e - 1 - (n - 1) % s) for n, s, e in zip(spatial, stride, extent, strict=True)]
            low = [t // 2 if padding == "SAME" else t - t // 2 for t in total]
            return tuple((lo, t - lo) for lo, t in zip(low, total, strict=True))
    return given_pairs(padding, len(spatial))


def given_pairs(padding: PaddingLike, spatial: int) -> Padding:
    """Reads the (low, high) pairs of a padding given as numbers."""
    expected = (
        f"padding: expected one of {', '.join(map(repr, NAMES))}, an int, or a (low, high) pair per spatial axis "
        f"(for example {((1, 1),) * spatial}), got {padding!r}"
    )
    if isinstance(padding, str):
        raise ValueError(expected + _advice(padding))
    padding = listed(padding)
    given: Any = padding if isinstance(padding, Sequence) else ((padding, padding),) * spatial
    pairs: Any
    try:
        pairs = tuple((whole(low), whole(high)) for low, high in given)
    except (TypeError, ValueError):
        pairs = ()
    if len(pairs) != spatial or any(None in pair for pair in pairs):
        raise ValueError(expected + _pairs_advice(padding, spatial))
    if any(v < 0 for pair in pairs for v in pair):
        raise ValueError(f"padding: expected no negative number, got {padding!r}; slice the array to crop it.")
    return tuple(pairs)


def _advice(name: str) -> str:
    """Advice for a name of a padding in other letters, or one of a mode."""
    if name.upper() in NAMES:
        return f"; write {name.upper()!r}."
    for mode, of_numpy in _MODES.items():
        if name.lower() in (mode, of_numpy):
            return (
                f"; conv, conv_transpose and conv_lstm take pad_mode={mode!r}, before other layers write "
                f"jnp.pad(x, ..., mode={of_numpy!r})."
            )
    return ""


def _pairs_advice(padding: object, spatial: int) -> str:
    """Advice for one int per spatial axis, as PyTorch and Flax accept."""
    if isinstance(padding, Sequence) and len(padding) == spatial and all(isinstance(p, int) for p in padding):
        return f"; write {tuple((p, p) for p in padding)}."
    return ""


def check_mode(pad_mode: str, pairs: Padding, spatial: Sizes) -> None:
    """Raises unless a mode is known and can fill the padding of each spatial axis."""
    if pad_mode not in _MODES:
        raise ValueError(f"pad_mode: expected one of {', '.join(map(repr, _MODES))}, got {pad_mode!r}")
    for axis, (size, pair) in enumerate(zip(spatial, pairs, strict=True)):
        if not known(size):
            continue
        longest = {"zeros": math.inf, "reflect": size - 1, "replicate": math.inf, "circular": size}[pad_mode]
        if max(pair) > longest or (pad_mode == "replicate" and not size and any(pair)):
            raise ValueError(
                f"padding: expected no more than pad_mode={pad_mode!r} can fill from the {size} elements of "
                f"spatial axis {axis}, got {pair}"
            )


def pad(x: jax.Array, pairs: Padding, pad_mode: str) -> jax.Array:
    """Pads the spatial axes of `(batch, *spatial, channels)`."""

    # The cotangents of a repeated element are summed; `widened` keeps that sum out of half precision. One example at a
    # time: `jnp.pad` slices every axis, which a batch sharded over explicit axes does not allow.
    def one(example: jax.Array) -> jax.Array:
        if pad_mode == "circular":
            return _wrap(example, pairs)
        return jnp.pad(example, (*pairs, (0, 0)), mode=_MODES[pad_mode])

    return jax.vmap(one)(widened(x)).astype(x.dtype)


def _wrap(x: jax.Array, pairs: Padding) -> jax.Array:
    """Pads `(*spatial, channels)` with the other end; unlike `jnp.pad`, also axes whose size is symbolic."""
    for axis, (low, high) in enumerate(pairs):
        size = x.shape[axis]
        before = jax.lax.slice_in_dim(x, size - low, size, axis=axis)
        x = jnp.concatenate([before, x, jax.lax.slice_in_dim(x, 0, high, axis=axis)], axis)
    return x


def fold(y: jax.Array, pairs: Padding, pad_mode: str) -> jax.Array:
    """Transposes `pad`: adds each element of the padding to the one that it repeats."""
    inside = y[:, *(slice(low, n - high) for n, (low, high) in zip(y.shape[1:-1], pairs, strict=True))]
    (x,) = jax.linear_transpose(lambda x: pad(x, pairs, pad_mode), inside)(y)
    return x
