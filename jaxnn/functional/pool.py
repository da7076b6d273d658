"""Pooling over sliding windows: maximum, average, and the p-norm."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import max_dim, min_dim

from jaxnn.functional import arguments
from jaxnn.functional.arguments import PaddingLike, SizesLike
from jaxnn.kernels import max_pool as max_kernels
from jaxnn.kernels import sum_pool as sum_kernels
from jaxnn.kernels.accumulate import accumulator, widened
from jaxnn.kernels.geometry import Padding, Sizes, Window, known
from jaxnn.kernels.norm_pool import norm_pool


def max_pool(
    x: jax.Array,
    window: SizesLike,
    *,
    stride: SizesLike | None = None,
    padding: PaddingLike = "VALID",
    dilation: SizesLike = 1,
    ceil_mode: bool = False,
) -> jax.Array:
    r"""The maximum of each window, :math:`y[i, c] = \max_t x[s\,i + d\,t - \mathrm{low},\; c]`.

    Padding never wins: a window sees real elements only, and one of them gets the gradient even where all are minus
    infinity. Where several elements of a window are the maximum, the first in row-major order gets the gradient; where
    there is NaN, the last NaN, as in PyTorch.

    Args:
      x: `(*batch, *spatial, channels)`, floats or integers; any number of batch axes, none too.
      window: one int per spatial axis, which tells how many there are; a single int is a square over two.
      stride: steps of the window; None: the window itself, so that windows do not overlap.
      padding: as in `conv`.
      dilation: distance between the elements of a window.
      ceil_mode: keeps a last window that only partly lies on the input, if it starts on the input or the low padding.

    Returns:
      `(*batch, *out, channels)`, in the dtype of `x`. A window that, by dilation, sees nothing but padding gives the
      lowest number of the dtype (minus infinity for floats that have one).

    Raises:
      ValueError: shapes, dtypes or options that do not fit; the message names the argument.

    >>> import jax.numpy as jnp
    >>> from jaxnn import functional as F
    >>> F.max_pool(jnp.arange(16.0).reshape(4, 4, 1), 2)[..., 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    (x,) = arguments.as_arrays(x)
    arguments.real("x", x)
    if not (jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)):
        raise ValueError(f"x must hold real numbers, not {x.dtype}")
    at, _ = _read(x, window, stride, padding, dilation, ceil_mode)
    x, batch = arguments.with_one_batch(x, len(at.size) + 1)
    y = max_kernels.max_pool(x, at)
    return y.reshape(*batch, *y.shape[1:])


def avg_pool(
    x: jax.Array,
    window: SizesLike,
    *,
    stride: SizesLike | None = None,
    padding: PaddingLike = "VALID",
    dilation: SizesLike = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> jax.Array:
    r"""The mean of each window, :math:`y[i, c] = \frac{1}{n_i} \sum_t x[s\,i + d\,t - \mathrm{low},\; c]`.

    :math:`n_i` counts the real elements that the window sees, so that padding does not darken the border; with
    `count_include_pad` it counts the padding too, but never what `ceil_mode` lets a window reach beyond it.

    Args:
      x: `(*batch, *spatial, channels)`, floats; any number of batch axes, none too.
      window: one int per spatial axis, which tells how many there are; a single int is a square over two.
      stride: steps of the window; None: the window itself.
      padding: as in `conv`.
      dilation: distance between the elements of a window.
      ceil_mode: as in `max_pool`.
      count_include_pad: whether padding counts as zeros (PyTorch's default) or not at all.

    Returns:
      `(*batch, *out, channels)`, in the dtype of `x`. Half precision accumulates in float32. A window that, by
      dilation, sees nothing but padding gives zero.

    Raises:
      ValueError: shapes, dtypes or options that do not fit; the message names the argument.

    >>> import jax.numpy as jnp
    >>> from jaxnn import functional as F
    >>> F.avg_pool(jnp.arange(16.0).reshape(4, 4, 1), 2)[..., 0]
    Array([[ 2.5,  4.5],
           [10.5, 12.5]], dtype=float32)
    >>> F.avg_pool(jnp.ones((3, 1)), (2,), stride=1, padding="SAME")[:, 0]
    Array([1., 1., 1.], dtype=float32)
    """
    (x,) = arguments.as_arrays(x)
    arguments.floating(x=x)
    at, pairs = _read(x, window, stride, padding, dilation, ceil_mode)
    x, batch = arguments.with_one_batch(x, len(at.size) + 1)
    wide = x.astype(accumulator(x.dtype))
    counts = _counts(x.shape[1:-1], at, pairs if count_include_pad else ((0, 0),) * len(pairs))
    total = sum_kernels.sum_pool(wide, at)
    y = (total / jnp.asarray(counts, total.dtype)).astype(x.dtype)
    return y.reshape(*batch, *y.shape[1:])


def lp_pool(
    x: jax.Array,
    window: SizesLike,
    *,
    p: float = 2,
    stride: SizesLike | None = None,
    padding: PaddingLike = "VALID",
    dilation: SizesLike = 1,
    ceil_mode: bool = False,
) -> jax.Array:
    r"""The p-norm of each window, :math:`y[i, c] = \left(\sum_t |x[s\,i + d\,t - \mathrm{low},\; c]|^p\right)^{1/p}`.

    Args:
      x: `(*batch, *spatial, channels)`, floats; any number of batch axes, none too.
      window: one int per spatial axis, which tells how many there are; a single int is a square over two.
      p: the norm's exponent, finite and at least 1; 1 sums magnitudes. For infinity take `max_pool` of `abs(x)`.
      stride: steps of the window; None: the window itself.
      padding: as in `conv`; adds nothing to a norm.
      dilation: distance between the elements of a window.
      ceil_mode: as in `max_pool`.

    Returns:
      `(*batch, *out, channels)`, in the dtype of `x`; powers are taken of `x` relative to its window's maximum, so
      that no norm overflows or vanishes which the dtype can hold. The gradient of a window of zeros is zero.

    Raises:
      ValueError: shapes, dtypes or options that do not fit; the message names the argument.

    Source:
      Sermanet, Chintala & LeCun, Convolutional neural networks applied to house numbers digit classification, 2012,
      https://arxiv.org/abs/1204.3968; ONNX operator LpPool.

    >>> import jax.numpy as jnp
    >>> from jaxnn import functional as F
    >>> F.lp_pool(jnp.array([3.0, -4.0, 0.0, 0.0])[:, None], (2,))[:, 0]
    Array([5., 0.], dtype=float32)
    """
    (x,) = arguments.as_arrays(x)
    arguments.floating(x=x)
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 1 <= p < math.inf:
        raise ValueError(f"p must be a finite number of at least 1, not {p!r}; for infinity max_pool the magnitudes")
    at, _ = _read(x, window, stride, padding, dilation, ceil_mode)
    x, batch = arguments.with_one_batch(x, len(at.size) + 1)
    y = norm_pool(widened(x), at, p).astype(x.dtype)
    return y.reshape(*batch, *y.shape[1:])


def global_max_pool(x: jax.Array, spatial: int = 2) -> jax.Array:
    """The maximum over all positions.

    Args:
      x: `(*batch, *spatial, channels)`.
      spatial: how many axes before the channels are spatial.

    Returns:
      `(*batch, channels)`. Where several positions hold the maximum, the first in row-major order gets the gradient.

    Raises:
      ValueError: too few axes, or an empty one.

    >>> import jax.numpy as jnp
    >>> from jaxnn import functional as F
    >>> F.global_max_pool(jnp.arange(8.0).reshape(2, 2, 2))
    Array([6., 7.], dtype=float32)
    """
    (x,) = arguments.as_arrays(x)
    size, batch = _whole(x, spatial), x.shape[: x.ndim - spatial - 1]
    if all(map(known, size)):
        return max_pool(x, size).reshape(*batch, x.shape[-1])
    flat = x.reshape(*batch, math.prod(size), x.shape[-1])
    return jnp.take_along_axis(flat, jnp.argmax(flat, -2, keepdims=True), -2).reshape(*batch, x.shape[-1])


def global_avg_pool(x: jax.Array, spatial: int = 2) -> jax.Array:
    """The mean over all positions.

    Args:
      x: `(*batch, *spatial, channels)`, floats.
      spatial: how many axes before the channels are spatial.

    Returns:
      `(*batch, channels)`, in the dtype of `x`. Half precision accumulates in float32.

    Raises:
      ValueError: too few axes, an empty one, or a dtype that has no mean.

    Source:
      Lin, Chen & Yan, Network in network, 2013, https://arxiv.org/abs/1312.4400.

    >>> import jax.numpy as jnp
    >>> from jaxnn import functional as F
    >>> F.global_avg_pool(jnp.arange(8.0).reshape(2, 2, 2))
    Array([3., 4.], dtype=float32)
    """
    (x,) = arguments.as_arrays(x)
    arguments.floating(x=x)
    _whole(x, spatial)
    axes = tuple(range(x.ndim - spatial - 1, x.ndim - 1))
    return jnp.mean(x, axes, dtype=accumulator(x.dtype)).astype(x.dtype)


def _read(
    x: jax.Array, window: SizesLike, stride: Any, padding: PaddingLike, dilation: SizesLike, ceil_mode: bool
) -> tuple[Window, Padding]:
    """The window, with what `ceil_mode` adds to its high padding, and the padding as it was asked for."""
    n = arguments.axes_of(window)
    size = arguments.sizes("window", window, n)
    arguments.rank("x", x, n + 1, f"(*batch, *spatial, channels) with {n} spatial axes, as window={window!r} says")
    spatial = x.shape[-1 - n : -1]
    stride = size if stride is None else arguments.sizes("stride", stride, n)
    dilation = arguments.sizes("dilation", dilation, n)
    pairs = arguments.padding_pairs(padding, spatial, size, stride, dilation)
    reach = []
    for axis, (length, (low, high), k, s, d) in enumerate(zip(spatial, pairs, size, stride, dilation, strict=True)):
        extent = d * (k - 1) + 1
        if known(length) and max(low, high) >= extent:
            raise ValueError(
                f"padding {(low, high)} of spatial axis {axis} must be less than the window's extent of {extent}, "
                "or a window would see nothing but padding"
            )
        if known(length) and length and length + low + high < extent and not ceil_mode:
            raise ValueError(
                f"window does not fit: along spatial axis {axis} it reaches over {extent} elements, but x has {length} "
                f"and the padding {low} + {high}; pad more (padding='SAME') or take a smaller window"
            )
        if ceil_mode and length:
            # A window more if a part of it lies on the input, unless it would start beyond the input's end.
            places = max_dim(0, -(-(length + low + high - extent) // s)) + 1
            places = min_dim(places, -(-(length + low) // s))
            high = max_dim(high, (places - 1) * s + extent - length - low)
        reach.append((low, high))
    return Window(size, stride, tuple(reach), dilation), pairs


def _counts(spatial: Sizes, at: Window, counted: Padding) -> np.ndarray | jax.Array:
    """How many elements each window sees of the input and the `counted` padding: `(1, *out, 1)`, at least 1."""
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
    if isinstance(spatial, bool) or not isinstance(spatial, int) or spatial < 1:
        raise ValueError(f"spatial must be a positive int, the number of spatial axes, not {spatial!r}")
    arguments.rank("x", x, spatial + 1, f"(*batch, *spatial, channels) with {spatial} spatial axes")
    size = x.shape[-1 - spatial : -1]
    if not all(size):
        raise ValueError(f"x has no position to pool over: its spatial axes are {size}")
    return size
