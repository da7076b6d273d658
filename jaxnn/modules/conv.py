"""Convolution modules."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional import arguments, paddings
from jaxnn.functional.arguments import SizesLike
from jaxnn.functional.paddings import PaddingLike, PadMode
from jaxnn.modules.names import explained
from jaxnn.modules.parameters import Initializer, in_dtype, parameter
from jaxnn.modules.static import hashable

_kernel_init = jax.nn.initializers.lecun_normal()
_bias_init = jax.nn.initializers.zeros


@explained
class Conv(nnx.Module):
    """A convolution layer: `functional.conv` with a kernel and a bias.

    Maps `(*batch, *spatial, in_features)` to `(*batch, *out, out_features)`.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.
        kernel_size: Size of the kernel, one int per spatial axis; a single int means a square over two axes.
        stride: As in `functional.conv`, like `padding`, `pad_mode`, `dilation`, `groups` and `precision`.
        padding: Amount of padding; `"SAME"` by default.
        pad_mode: Values of the padding; `"zeros"` by default.
        dilation: Distance between taps.
        groups: Number of groups of channels.
        use_bias: Whether the layer has a bias.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        precision: Precision of the products, as in `jax.lax`.
        kernel_init: Initialiser of the kernel; LeCun normal by default.
        bias_init: Initialiser of the bias; zeros by default.
        kernel_metadata: Metadata of the kernel's `nnx.Param`, for example its sharding.
        bias_metadata: Metadata of the bias's `nnx.Param`.
        rngs: Random streams; the parameters come from the stream `params`.

    Attributes:
        kernel: `(*kernel_size, in_features / groups, out_features)`.
        bias: `(out_features,)`, or None.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
        >>> layer = modules.Conv(3, 32, (3, 3), padding="VALID", rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((8, 32, 32, 3))).shape
        (8, 30, 30, 32)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: SizesLike,
        *,
        stride: SizesLike = 1,
        padding: PaddingLike = "SAME",
        pad_mode: PadMode = "zeros",
        dilation: SizesLike = 1,
        groups: int = 1,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        kernel_init: Initializer = _kernel_init,
        bias_init: Initializer = _bias_init,
        kernel_metadata: Mapping[str, Any] | None = None,
        bias_metadata: Mapping[str, Any] | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        size = arguments.sizes("kernel_size", kernel_size, arguments.axes_of(kernel_size))
        in_features, out_features, groups = _features(in_features, out_features, groups)
        shape = (*size, in_features // groups, out_features)
        self.kernel = parameter("kernel_init", kernel_init, rngs, shape, param_dtype, kernel_metadata)
        self.bias = (
            parameter("bias_init", bias_init, rngs, (out_features,), param_dtype, bias_metadata) if use_bias else None
        )
        self.stride = arguments.sizes("stride", stride, len(size))
        self.padding = static_padding(padding, len(size))
        paddings.check_mode(pad_mode, (), ())
        self.pad_mode = pad_mode
        self.dilation = arguments.sizes("dilation", dilation, len(size))
        self.groups = groups
        self.dtype = dtype
        self.precision = hashable(precision)

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, *spatial, in_features)` -> `(*batch, *out, out_features)`."""
        x, kernel, bias = in_dtype(self.dtype, x, self.kernel, self.bias)
        return F.conv(
            x,
            kernel,
            bias,
            stride=self.stride,
            padding=self.padding,
            pad_mode=self.pad_mode,
            dilation=self.dilation,
            groups=self.groups,
            precision=self.precision,
        )


@explained
class ConvTranspose(nnx.Module):
    """A transposed convolution layer: `functional.conv_transpose` with a kernel and a bias.

    Maps `(*batch, *spatial, in_features)` to `(*batch, *out, out_features)`.

    Args:
        in_features: Channels of the input.
        out_features: Channels of the output.
        kernel_size: Size of the kernel, one int per spatial axis; a single int means a square over two axes.
        stride: As in `functional.conv_transpose`, like the options that follow.
        padding: `"SAME"` by default: the size of the output is that of the input times the stride.
        pad_mode: Contents of the padding of the convolution that is transposed; `"zeros"` by default.
        output_padding: Number of extra elements at the end of the output.
        dilation: Distance between taps.
        groups: Number of groups of channels.
        use_bias: Whether the layer has a bias.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        precision: Precision of the products, as in `jax.lax`.
        kernel_init: Initialiser of the kernel; None means LeCun normal, with the fan-in of the `in_features / groups`
            channels that each output sees.
        bias_init: Initialiser of the bias; zeros by default.
        kernel_metadata: Metadata of the kernel's `nnx.Param`, for example its sharding.
        bias_metadata: Metadata of the bias's `nnx.Param`.
        rngs: Random streams; the parameters come from the stream `params`.

    Attributes:
        kernel: `(*kernel_size, in_features, out_features / groups)`.
        bias: `(out_features,)`, or None.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
        >>> layer = modules.ConvTranspose(8, 3, (4, 4), stride=2, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((16, 16, 8))).shape
        (32, 32, 3)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: SizesLike,
        *,
        stride: SizesLike = 1,
        padding: PaddingLike = "SAME",
        pad_mode: PadMode = "zeros",
        output_padding: SizesLike = 0,
        dilation: SizesLike = 1,
        groups: int = 1,
        use_bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        kernel_init: Initializer | None = None,
        bias_init: Initializer = _bias_init,
        kernel_metadata: Mapping[str, Any] | None = None,
        bias_metadata: Mapping[str, Any] | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        size = arguments.sizes("kernel_size", kernel_size, arguments.axes_of(kernel_size))
        in_features, out_features, groups = _features(in_features, out_features, groups)
        shape = (*size, in_features, out_features // groups)
        kernel_init = _by_group(groups) if kernel_init is None else kernel_init
        self.kernel = parameter("kernel_init", kernel_init, rngs, shape, param_dtype, kernel_metadata)
        self.bias = (
            parameter("bias_init", bias_init, rngs, (out_features,), param_dtype, bias_metadata) if use_bias else None
        )
        self.stride = arguments.sizes("stride", stride, len(size))
        self.padding = static_padding(padding, len(size))
        paddings.check_mode(pad_mode, (), ())
        self.pad_mode = pad_mode
        self.output_padding = arguments.sizes("output_padding", output_padding, len(size), least=0)
        self.dilation = arguments.sizes("dilation", dilation, len(size))
        self.groups = groups
        self.dtype = dtype
        self.precision = hashable(precision)

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, *spatial, in_features)` -> `(*batch, *out, out_features)`."""
        x, kernel, bias = in_dtype(self.dtype, x, self.kernel, self.bias)
        return F.conv_transpose(
            x,
            kernel,
            bias,
            stride=self.stride,
            padding=self.padding,
            pad_mode=self.pad_mode,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
            precision=self.precision,
        )


def _by_group(groups: int) -> Initializer:
    """LeCun's normal initialiser for a kernel `(*kernel_size, in, out / groups)`, with the fan-in of one group."""
    init = jax.nn.initializers.lecun_normal(batch_axis=(-3,))

    def initialise(key: jax.Array, shape: Sequence[int], *args: Any, **kwargs: Any) -> jax.Array:
        *kernel_size, inputs, outputs = shape
        return init(key, (*kernel_size, groups, inputs // groups, outputs), *args, **kwargs).reshape(shape)

    return initialise


def _features(in_features: int, out_features: int, groups: int) -> tuple[int, int, int]:
    """Reads the numbers of channels and of groups."""
    in_features = arguments.integer("in_features", in_features, 1)
    out_features = arguments.integer("out_features", out_features, 1)
    groups = arguments.integer("groups", groups, 1)
    if in_features % groups or out_features % groups:
        raise ValueError(
            f"groups: expected a divisor of in_features={in_features} and out_features={out_features}, got {groups}"
        )
    return in_features, out_features, groups


def static_padding(padding: PaddingLike, spatial: int) -> PaddingLike:
    """The name of a padding, or its pairs as tuples: static attributes of a module must be hashable."""
    named = isinstance(padding, str) and padding in paddings.NAMES
    return padding if named else paddings.given_pairs(padding, spatial)
