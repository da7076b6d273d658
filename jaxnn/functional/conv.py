"""Convolution and its transpose, over any number of spatial axes."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional import arguments, paddings
from jaxnn.functional.arguments import SizesLike
from jaxnn.functional.paddings import PaddingLike, PadMode
from jaxnn.kernels import conv as kernels
from jaxnn.kernels.accumulate import add_row
from jaxnn.kernels.geometry import ConvGeometry, Padding, Sizes, known


def conv(
    x: jax.typing.ArrayLike,
    kernel: jax.typing.ArrayLike,
    bias: jax.typing.ArrayLike | None = None,
    *,
    stride: SizesLike = 1,
    padding: PaddingLike = "SAME",
    pad_mode: PadMode = "zeros",
    dilation: SizesLike = 1,
    groups: int = 1,
    precision: Any = None,
) -> jax.Array:
    r"""Convolves as in deep learning: by **cross-correlation**, which does not flip the kernel.

    For one spatial axis, with stride :math:`s`, dilation :math:`d` and :math:`\mathrm{low}` elements of padding at the
    start,

    .. math:: y[i, o] = b[o] + \sum_{t} \sum_{c} x[s\,i + d\,t - \mathrm{low},\; c]\; k[t, c, o].

    `true_convolution` flips the kernel, as in mathematics and signal processing. `jax.checkpoint` recomputes the result
    for the gradient unless its policy is `convolutions_saveable`.

    Args:
        x: Array of shape `(*batch, *spatial, in)`, with any number of batch axes. The kernel determines the number of
            spatial axes.
        kernel: Array of shape `(*window, in / groups, out)`.
        bias: Array of shape `(out,)`, or None.
        stride: Step between windows, one int or one per spatial axis.
        padding: `"SAME"` (output size ceil(size / stride); an odd extra element is added at the end), `"SAME_LOWER"`
            (the same, but the odd element is added at the start), `"VALID"` (no padding), `"CAUSAL"` (padding at the
            start only, so that no output depends on a later input), an int for every side, or a (low, high) pair per
            spatial axis.
        pad_mode: Contents of the padding: `"zeros"`, `"reflect"` (mirrored without the border, "reflect" in NumPy),
            `"replicate"` (the border repeated) or `"circular"` (the other end).
        dilation: Distance between the taps of the kernel, one int or one per spatial axis.
        groups: Number of groups of channels, each convolved alone; `groups=in` is depthwise.
        precision: Precision of the products, as in `jax.lax`. None means the `jax.default_matmul_precision` in effect
            when the call is traced.

    Returns:
        Array of shape `(*batch, *out, out)`, in the dtype of `x`. Half precision accumulates in float32.

    Raises:
        ValueError: If shapes, dtypes or options do not fit; the message names the argument.

    References:
        Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016, https://arxiv.org/abs/1603.07285.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> picture = jnp.arange(9.0).reshape(3, 3, 1)
        >>> kernel = jnp.array([[-1.0, 0.0], [0.0, 1.0]]).reshape(2, 2, 1, 1)
        >>> F.conv(picture, kernel, padding="VALID")[..., 0]
        Array([[4., 4.],
               [4., 4.]], dtype=float32)
    """
    x, kernel = arguments.array("x", x), arguments.array("kernel", kernel)
    bias = arguments.array_or_none("bias", bias)
    arguments.rank(
        "kernel",
        kernel,
        3,
        "(*window, in / groups, out) with at least one window axis",
        "for one channel in and out write kernel[..., None, None]",
    )
    n = kernel.ndim - 2
    groups = arguments.integer("groups", groups, 1)
    outputs = kernel.shape[-1]
    if x.ndim > n and (x.shape[-1] % groups or outputs % groups):
        raise ValueError(
            f"groups: expected a divisor of the {x.shape[-1]} input and {outputs} output channels, got {groups}"
        )
    arguments.channels_last(x, kernel, kernel.shape[-2] * groups)
    arguments.rank("x", x, n + 1, f"(*batch, *spatial, in) with the {n} spatial axes of the kernel {kernel.shape}")
    arguments.floating(x=x, kernel=kernel, bias=bias)
    window, spatial = kernel.shape[:-2], x.shape[-1 - n : -1]
    _check_window(window)
    arguments.bias_of(bias, outputs)
    stride, dilation = arguments.sizes("stride", stride, n), arguments.sizes("dilation", dilation, n)
    pairs = paddings.pairs_of(padding, spatial, window, stride, dilation)
    paddings.check_mode(pad_mode, pairs, spatial)
    for axis, (size, (low, high), k, d) in enumerate(zip(spatial, pairs, window, dilation, strict=True)):
        if known(size) and size and size + low + high < d * (k - 1) + 1:
            raise ValueError(
                f"kernel: expected a window that fits along spatial axis {axis}, where x has {size} elements and the "
                f"padding {low} + {high}, got an extent of {d * (k - 1) + 1}; pad more "
                "(padding='SAME'), or use a smaller kernel."
            )

    inside = pairs if pad_mode == "zeros" else ((0, 0),) * n
    geometry = ConvGeometry(stride, inside, dilation, groups, precision)
    x, split = arguments.with_one_batch(x, n + 1)
    if pad_mode != "zeros":
        x = paddings.pad(x, pairs, pad_mode)
    y = split(kernels.conv(x, kernel, geometry))
    return y if bias is None else add_row(y, bias)


def true_convolution(
    x: jax.typing.ArrayLike, kernel: jax.typing.ArrayLike, bias: jax.typing.ArrayLike | None = None, **options: Any
) -> jax.Array:
    r"""Convolves as in mathematics, :math:`y[i] = \sum_t x[i - t]\, k[t]`: `conv` with the kernel flipped.

    Args:
        x: `(*batch, *spatial, in)`.
        kernel: `(*window, in / groups, out)`; flipped along every window axis before it slides.
        bias: `(out,)`, or None.
        **options: Options of `conv`.

    Returns:
        `(*batch, *out, out)`. A `padding` of window - 1 on every side gives the full convolution of `numpy.convolve`,
        and `"SAME_LOWER"` gives its `mode="same"`.

    Raises:
        ValueError: As for `conv`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> x, k = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, 0.5])
        >>> F.true_convolution(x[:, None], k[:, None, None], padding=2)[:, 0]
        Array([0. , 1. , 2.5, 4. , 1.5], dtype=float32)
        >>> jnp.convolve(x, k)
        Array([0. , 1. , 2.5, 4. , 1.5], dtype=float32)
    """
    kernel = arguments.array("kernel", kernel)
    return conv(x, jnp.flip(kernel, range(kernel.ndim - 2)), bias, **options)


def conv_transpose(
    x: jax.typing.ArrayLike,
    kernel: jax.typing.ArrayLike,
    bias: jax.typing.ArrayLike | None = None,
    *,
    stride: SizesLike = 1,
    padding: PaddingLike = "SAME",
    pad_mode: PadMode = "zeros",
    output_padding: SizesLike = 0,
    dilation: SizesLike = 1,
    groups: int = 1,
    precision: Any = None,
) -> jax.Array:
    r"""Applies the transpose of `conv` with the same options, that is its gradient with respect to the input.

    Every input element adds the kernel, times itself, to the output. For one spatial axis,

    .. math:: y[j, o] = b[o] + \sum_{i, t:\; s\,i + d\,t - \mathrm{low} = j}\; \sum_c x[i, c]\; k[t, c, o].

    Padding pairs are those of the convolution that is transposed, so they *crop* here, as in PyTorch and ONNX. With the
    window's extent e = dilation · (window - 1) + 1, the output's size along an axis is (size - 1) · stride + e - low -
    high + output_padding. The names mean

    - `"VALID"`: no cropping; where the stride is larger than e, `jax.lax`, Flax and Keras add stride - e zeros at the
      end, which are `output_padding` here;
    - `"SAME"`, `"SAME_LOWER"`: the output is size · stride long, that is the transpose of the `"SAME"` convolution that
      takes size · stride to size;
    - `"CAUSAL"`: the output is size · stride long and cropped at the end only, so that it depends on no later input.

    Args:
        x: `(*batch, *spatial, in)`.
        kernel: `(*window, in, out / groups)`: the kernel of the transposed convolution with its channel axes swapped.
        bias: `(out,)`, or None.
        stride: Stride of the convolution that is transposed, that is the factor by which the output is longer.
        padding: A name above, an int, or a (low, high) pair per spatial axis.
        pad_mode: Contents of the padding of the convolution that is transposed. With `"zeros"` the output is cropped;
            otherwise what is cropped is added to the elements that `conv` repeats there, with `"circular"` at the other
            end.
        output_padding: Number of extra elements at the end of the output, less than the stride or the dilation. It
            selects one of the input sizes for which the convolution has the same output size. Only with `padding` given
            as numbers or `"VALID"`.
        dilation: Distance between the taps of the kernel.
        groups: Number of groups of channels.
        precision: Precision of the products, as in `jax.lax`.

    Returns:
        `(*batch, *out, out)`, in the dtype of `x`.

    Raises:
        ValueError: If shapes, dtypes or options do not fit; the message names the argument.

    References:
        Dumoulin & Visin, 2016, chapter 4; ONNX operator ConvTranspose; `torch.nn.ConvTranspose2d`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> x = jnp.array([1.0, 2.0, 3.0])[:, None]
        >>> kernel = jnp.array([1.0, 10.0])[:, None, None]
        >>> F.conv_transpose(x, kernel, stride=2, padding="VALID")[:, 0]
        Array([ 1., 10.,  2., 20.,  3., 30.], dtype=float32)
    """
    x, kernel = arguments.array("x", x), arguments.array("kernel", kernel)
    bias = arguments.array_or_none("bias", bias)
    n = kernel.ndim - 2
    arguments.rank("kernel", kernel, 3, "(*window, in, out / groups) with at least one window axis")
    groups = arguments.integer("groups", groups, 1)
    inputs, layout = kernel.shape[-2], "(*window, in, out / groups)"
    if inputs % groups:
        raise ValueError(
            f"groups: expected a divisor of the {inputs} input channels, got {groups}; kernels are {layout}, "
            f"and this one has the shape {kernel.shape}."
        )
    arguments.channels_last(x, kernel, inputs, layout)
    arguments.rank("x", x, n + 1, f"(*batch, *spatial, in) with the {n} spatial axes of the kernel")
    arguments.floating(x=x, kernel=kernel, bias=bias)
    outputs = kernel.shape[-1] * groups
    window = kernel.shape[:-2]
    _check_window(window)
    arguments.bias_of(bias, outputs)
    stride, dilation = arguments.sizes("stride", stride, n), arguments.sizes("dilation", dilation, n)
    extra = arguments.sizes("output_padding", output_padding, n, least=0)
    # An extra stride of output is one more window, so less padding: the convolution may crop, which only zeros allow.
    allowed = stride if pad_mode != "zeros" else tuple(map(max, stride, dilation))
    if any(e >= most for e, most in zip(extra, allowed, strict=True) if e):
        raise ValueError(
            f"output_padding: expected less than the stride {stride} or, with pad_mode='zeros', the dilation "
            f"{dilation}, got {extra}"
        )

    x, split = arguments.with_one_batch(x, n + 1)
    spatial, pairs = _transposed_sizes(x.shape[1:-1], window, stride, padding, extra, dilation)
    paddings.check_mode(pad_mode, pairs, spatial)
    inside = pairs if pad_mode == "zeros" else ((0, 0),) * n
    size = tuple(out + sum(pair) - sum(kept) for out, pair, kept in zip(spatial, pairs, inside, strict=True))
    geometry = ConvGeometry(stride, inside, dilation, groups, precision)
    y = kernels.conv_dx(x, jnp.swapaxes(kernel, -1, -2), size, geometry)
    y = split(y if pad_mode == "zeros" else paddings.fold(y, pairs, pad_mode))
    return y if bias is None else add_row(y, bias)


def _check_window(window: Sizes) -> None:
    if not all(window):
        raise ValueError(f"kernel: expected a window of at least one tap along every axis, got {window}")


def _transposed_sizes(
    spatial: Sizes, window: Sizes, stride: Sizes, padding: PaddingLike, extra: Sizes, dilation: Sizes
) -> tuple[Sizes, Padding]:
    """Returns the spatial size of the output, and the padding of the convolution from it back to `spatial`."""
    named = isinstance(padding, str) and padding in ("SAME", "SAME_LOWER", "CAUSAL")
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, window, strict=True))
    if named:
        if any(extra):
            raise ValueError(
                f"output_padding: expected 0 with padding={padding!r}, which makes the output size · stride long, got "
                f"{extra}; "
                "give the padding as (low, high) pairs to choose the output's size."
            )
        out = tuple(n * s for n, s in zip(spatial, stride, strict=True))
        # Windows begin a stride apart, the last one a stride before the end of the output.
        total = [max(0, e - s) for e, s in zip(extent, stride, strict=True)]
        low = [0 if padding == "CAUSAL" else t // 2 if padding == "SAME" else t - t // 2 for t in total]
        return out, tuple((lo, t - lo) for lo, t in zip(low, total, strict=True))
    valid = isinstance(padding, str) and padding == "VALID"
    pairs = ((0, 0),) * len(spatial) if valid else paddings.given_pairs(padding, len(spatial))
    out = tuple(
        (n - 1) * s + e - low - high + p if n else 0
        for n, s, e, (low, high), p in zip(spatial, stride, extent, pairs, extra, strict=True)
    )
    if any(known(o) and o < 0 for o in out):
        raise ValueError(
            f"padding: expected one that crops no more than the output has, got {pairs}, an output of size {out}"
        )
    # Each whole stride of output padding is one more window of the convolution, so it pads less at the end, or crops.
    return out, tuple((low, high - p // s * s) for (low, high), p, s in zip(pairs, extra, stride, strict=True))
