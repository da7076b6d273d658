"""Pooling over sliding windows: maximum, average, and the p-norm."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import max_dim, min_dim

from jaxnn.functional import arguments, paddings
from jaxnn.functional.arguments import SizesLike
from jaxnn.functional.paddings import PaddingLike
from jaxnn.kernels import max_pool as max_kernels
from jaxnn.kernels import sum_pool as sum_kernels
from jaxnn.kernels.accumulate import accumulator, widened
from jaxnn.kernels.geometry import Padding, Sizes, Window, known
from jaxnn.kernels.norm_pool import norm_pool


def max_pool(
    x: jax.typing.ArrayLike,
    window: SizesLike,
    *,
    stride: SizesLike | None = None,
    padding: PaddingLike = "VALID",
    dilation: SizesLike = 1,
    ceil_mode: bool = False,
) -> jax.Array:
    r"""Takes the maximum of each window, :math:`y[i, c] = \max_t x[s\,i + d\,t - \mathrm{low},\; c]`.

    The formula has stride :math:`s`, dilation :math:`d` and :math:`\mathrm{low}` elements of padding at the start.
    Padding is never the maximum: a real element gets the gradient, even if all of them are minus infinity. Of several
    equal maxima the first in row-major order gets the gradient. In a window with NaN the last NaN gets it, as in
    PyTorch.

    Args:
        x: `(*batch, *spatial, channels)`, floats or integers, with any number of batch axes.
        window: Size of the window, one int per spatial axis. A single int means a square over two axes; for sequences
            `(*batch, time, channels)` write a tuple of one entry, `(2,)`.
        stride: Step between windows, one int or one per spatial axis. None means the size of the window: no overlap.
        padding: As in `conv`.
        dilation: Distance between the elements of a window.
        ceil_mode: Whether to keep a last window that lies only partly on the input, if it starts on the input or on the
            low padding.

    Returns:
        `(*batch, *out, channels)`, in the dtype of `x`. A dilated window that covers only padding gives the lowest
        number of the dtype (minus infinity for floats that have one).

    Raises:
        ValueError: If shapes, dtypes or options do not fit; the message names the argument.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> F.max_pool(jnp.arange(16.0).reshape(4, 4, 1), 2)[..., 0]
        Array([[ 5.,  7.],
               [13., 15.]], dtype=float32)
    """
    x = arguments.array("x", x)
    arguments.real("x", x)
    if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)):
        raise ValueError(f"x: expected real numbers, got {x.dtype}")
    at, _ = _read(x, window, stride, padding, dilation, ceil_mode)
    x, split = arguments.with_one_batch(x, len(at.size) + 1)
    return split(max_kernels.max_pool(x, at))


def avg_pool(
    x: jax.typing.ArrayLike,
    window: SizesLike,
    *,
    stride: SizesLike | None = None,
    padding: PaddingLike = "VALID",
    dilation: SizesLike = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> jax.Array:
    r"""Averages each window, :math:`y[i, c] = \frac{1}{n_i} \sum_t x[s\,i + d\,t - \mathrm{low},\; c]`.

    Symbols are those of `max_pool`, and :math:`n_i` is the number of real elements in the window, so that padding does
    not darken the border. With `count_include_pad` it includes the padding, but never the elements beyond it that
    `ceil_mode` lets a window reach.

    Args:
        x: `(*batch, *spatial, channels)`, floats, with any number of batch axes.
        window: Size of the window, one int per spatial axis. A single int means a square over two axes; for sequences
            `(*batch, time, channels)` write a tuple of one entry, `(2,)`.
        stride: As in `max_pool`.
        padding: As in `conv`.
        dilation: Distance between the elements of a window.
        ceil_mode: As in `max_pool`.
        count_include_pad: Whether padding counts as zeros, as by default in PyTorch, or is left out of the mean.

    Returns:
        `(*batch, *out, channels)`, in the dtype of `x`. Half precision accumulates in float32. A dilated window that
        covers only padding gives zero.

    Raises:
        ValueError: If shapes, dtypes or options do not fit; the message names the argument.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> F.avg_pool(jnp.arange(16.0).reshape(4, 4, 1), 2)[..., 0]
        Array([[ 2.5,  4.5],
               [10.5, 12.5]], dtype=float32)
        >>> F.avg_pool(jnp.ones((3, 1)), (2,), stride=1, padding="SAME")[:, 0]
        Array([1., 1., 1.], dtype=float32)
    """
    x = arguments.array("x", x)
    arguments.floating(x=x)
    at, pairs = _read(x, window, stride, padding, dilation, ceil_mode)
    x, split = arguments.with_one_batch(x, len(at.size) + 1)
    wide = x.astype(accumulator(x.dtype))
    counts = _counts(x.shape[1:-1], at, pairs if count_include_pad else ((0, 0),) * len(pairs))
    total = sum_kernels.sum_pool(wide, at)
    return split((total / jnp.asarray(counts, total.dtype)).astype(x.dtype))


def lp_pool(
    x: jax.typing.ArrayLike,
    window: SizesLike,
    *,
    p: float = 2,
    stride: SizesLike | None = None,
    padding: PaddingLike = "VALID",
    dilation: SizesLike = 1,
    ceil_mode: bool = False,
) -> jax.Array:
    r"""Computes the p-norm of each window.

    .. math:: y[i, c] = \left(\sum_t |x[s\,i + d\,t - \mathrm{low},\; c]|^p\right)^{1/p}

    Symbols are those of `max_pool`.

    Args:
        x: `(*batch, *spatial, channels)`, floats, with any number of batch axes.
        window: Size of the window, one int per spatial axis. A single int means a square over two axes; for sequences
            `(*batch, time, channels)` write a tuple of one entry, `(2,)`.
        p: Exponent of the norm, finite and at least 1; 1 sums magnitudes. For infinity use `max_pool` of `abs(x)`.
        stride: As in `max_pool`.
        padding: As in `conv`; it adds nothing to a norm.
        dilation: Distance between the elements of a window.
        ceil_mode: As in `max_pool`.

    Returns:
        `(*batch, *out, channels)`, in the dtype of `x`. Powers are taken relative to the maximum of each window: a norm
        that the dtype can hold neither overflows nor vanishes. The gradient of a window of zeros is zero.

    Raises:
        ValueError: If shapes, dtypes or options do not fit; the message names the argument.

    References:
        Sermanet, Chintala & LeCun, Convolutional neural networks applied to house numbers digit classification, 2012,
        https://arxiv.org/abs/1204.3968; ONNX operator LpPool.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> F.lp_pool(jnp.array([3.0, -4.0, 0.0, 0.0])[:, None], (2,))[:, 0]
        Array([5., 0.], dtype=float32)
    """
    x = arguments.array("x", x)
    arguments.floating(x=x)
    if isinstance(p, jax.core.Tracer):  # type: ignore[unreachable]
        raise ValueError("p: expected a number, got a traced value; make it static: jax.jit(..., static_argnames='p').")
    if isinstance(p, bool) or not isinstance(p, int | float | np.integer | np.floating) or not 1 <= p < math.inf:
        raise ValueError(f"p: expected a finite number of at least 1, got {p!r}; for infinity use max_pool of abs(x).")
    at, _ = _read(x, window, stride, padding, dilation, ceil_mode)
    x, split = arguments.with_one_batch(x, len(at.size) + 1)
    return split(norm_pool(widened(x), at, float(p)).astype(x.dtype))


def global_max_pool(x: jax.typing.ArrayLike, spatial: int = 2) -> jax.Array:
    """Takes the maximum over all positions.

    Args:
        x: `(*batch, *spatial, channels)`.
        spatial: Number of spatial axes before the channels; 1 for sequences.

    Returns:
        `(*batch, channels)`. Of several equal maxima the first in row-major order gets the gradient.

    Raises:
        ValueError: If there are too few axes, or an axis is empty.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> F.global_max_pool(jnp.arange(8.0).reshape(2, 2, 2))
        Array([6., 7.], dtype=float32)
    """
    x = arguments.array("x", x)
    spatial = arguments.integer("spatial", spatial, 1)
    size, batch = _whole(x, spatial), x.shape[: x.ndim - spatial - 1]
    if all(map(known, size)):
        return max_pool(x, size).reshape(*batch, x.shape[-1])
    flat = x.reshape(*batch, math.prod(size), x.shape[-1])
    return jnp.take_along_axis(flat, jnp.argmax(flat, -2, keepdims=True), -2).reshape(*batch, x.shape[-1])


def global_avg_pool(x: jax.typing.ArrayLike, spatial: int = 2) -> jax.Array:
    """Averages over all positions.

    Args:
        x: `(*batch, *spatial, channels)`, floats.
        spatial: Number of spatial axes before the channels; 1 for sequences.

    Returns:
        `(*batch, channels)`, in the dtype of `x`. Half precision accumulates in float32.

    Raises:
        ValueError: If there are too few axes, an axis is empty, or the dtype is not floating.

    References:
        Lin, Chen & Yan, Network in network, 2013, https://arxiv.org/abs/1312.4400.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> F.global_avg_pool(jnp.arange(8.0).reshape(2, 2, 2))
        Array([3., 4.], dtype=float32)
    """
    x = arguments.array("x", x)
    arguments.floating(x=x)
    spatial = arguments.integer("spatial", spatial, 1)
    _whole(x, spatial)
    axes = tuple(range(x.ndim - spatial - 1, x.ndim - 1))
    return jnp.mean(x, axes, dtype=accumulator(x.dtype)).astype(x.dtype)


def _read(
    x: jax.Array, window: SizesLike, stride: Any, padding: PaddingLike, dilation: SizesLike, ceil_mode: bool
) -> tuple[Window, Padding]:
    """Returns the window, whose high padding includes that of `ceil_mode`, and the requested padding."""
    n = arguments.axes_of(window)
    size = arguments.sizes("window", window, n)
    sequences = f"for sequences, (*batch, time, channels), write the window as ({size[0]},)." if n == 2 else ""
    arguments.rank(
        "x", x, n + 1, f"(*batch, *spatial, channels) with {n} spatial axes, as the window {size} says", sequences
    )
    spatial = x.shape[-1 - n : -1]
    stride = size if stride is None else arguments.sizes("stride", stride, n)
    dilation = arguments.sizes("dilation", dilation, n)
    pairs = paddings.pairs_of(padding, spatial, size, stride, dilation)
    reach = []
    for axis, (length, (low, high), k, s, d) in enumerate(zip(spatial, pairs, size, stride, dilation, strict=True)):
        extent = d * (k - 1) + 1
        if known(length) and max(low, high) >= extent:
            raise ValueError(
                f"padding: expected less than the window's extent of {extent} along spatial axis {axis}, got "
                f"{(low, high)}; otherwise a window would see only padding."
            )
        if known(length) and length and length + low + high < extent and not ceil_mode:
            raise ValueError(
                f"window: expected one that fits along spatial axis {axis}, where x has {length} elements and the "
                f"padding {low} + {high}, got an extent of {extent}; pad more (padding='SAME') or use a "
                "smaller window" + (f"; {sequences}" if sequences and x.ndim == 3 else ".")
            )
        if ceil_mode and length:
            # One more window if a part of it lies on the input, unless it would start beyond the end of the input.
            places = max_dim(0, -(-(length + low + high - extent) // s)) + 1
            places = min_dim(places, -(-(length + low) // s))
            high = max_dim(high, (places - 1) * s + extent - length - low)
        reach.append((low, high))
    return Window(size, stride, tuple(reach), dilation), pairs


def _counts(spatial: Sizes, at: Window, counted: Padding) -> np.ndarray | jax.Array:
    """Counts the elements of the input and the `counted` padding in each window: `(1, *out, 1)`, at least 1."""
    if not all(map(known, spatial)):
        ones = jnp.ones((1, *(n + low + high for n, (low, high) in zip(spatial, counted, strict=True)), 1), jnp.float32)
        rest = tuple((p - c, q - d) for (p, q), (c, d) in zip(at.padding, counted, strict=True))
        return jnp.maximum(sum_kernels.sum_pool(ones, dataclasses.replace(at, padding=rest)), 1)
    counts = np.ones((1,) * (len(spatial) + 2))
    for axis, (length, (low, _), (more, less), k, s, d, out) in enumerate(
        zip(spatial, at.padding, counted, at.size, at.stride, at.dilation, at.out(spatial), strict=True)
    ):
        samples = np.arange(out)[:, None] * s + np.arange(k)[None, :] * d - low
        number = ((samples >= -more) & (samples < length + less)).sum(1)
        counts = counts * np.expand_dims(number, [a for a in range(counts.ndim) if a != axis + 1])
    return np.maximum(counts, 1)


def _whole(x: jax.Array, spatial: int) -> Sizes:
    arguments.rank("x", x, spatial + 1, f"(*batch, *spatial, channels) with {spatial} spatial axes")
    size = x.shape[-1 - spatial : -1]
    if not all(size):
        raise ValueError(f"x: expected spatial axes of at least 1 element, got {size}")
    return size
