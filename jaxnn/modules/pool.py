"""Pooling and flattening as modules, to stand between others in `nnx.Sequential`. They own nothing."""

import math

import jax
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional import arguments
from jaxnn.functional.arguments import PaddingLike, SizesLike
from jaxnn.modules.conv import static_padding
from jaxnn.modules.names import explained


@explained
class MaxPool(nnx.Module):
    """`functional.max_pool` with these options.

    >>> import jax.numpy as jnp
    >>> from jaxnn import modules
    >>> modules.MaxPool(2)(jnp.ones((8, 30, 30, 32))).shape
    (8, 15, 15, 32)
    """

    def __init__(
        self,
        window: SizesLike,
        *,
        stride: SizesLike | None = None,
        padding: PaddingLike = "VALID",
        dilation: SizesLike = 1,
        ceil_mode: bool = False,
    ) -> None:
        """Keeps the options, which are those of `functional.max_pool`."""
        axes = arguments.axes_of(window)
        self.window = arguments.sizes("window", window, axes)
        self.stride = None if stride is None else arguments.sizes("stride", stride, axes)
        self.padding = static_padding(padding, axes)
        self.dilation = arguments.sizes("dilation", dilation, axes)
        self.ceil_mode = ceil_mode

    def __call__(self, x: jax.Array) -> jax.Array:
        """`(*batch, *spatial, channels)` -> `(*batch, *out, channels)`."""
        return F.max_pool(
            x,
            self.window,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
        )


@explained
class AvgPool(nnx.Module):
    """`functional.avg_pool` with these options.

    >>> import jax.numpy as jnp
    >>> from jaxnn import modules
    >>> modules.AvgPool((3, 3), stride=2, padding="SAME")(jnp.ones((8, 30, 30, 32))).shape
    (8, 15, 15, 32)
    """

    def __init__(
        self,
        window: SizesLike,
        *,
        stride: SizesLike | None = None,
        padding: PaddingLike = "VALID",
        dilation: SizesLike = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> None:
        """Keeps the options, which are those of `functional.avg_pool`."""
        axes = arguments.axes_of(window)
        self.window = arguments.sizes("window", window, axes)
        self.stride = None if stride is None else arguments.sizes("stride", stride, axes)
        self.padding = static_padding(padding, axes)
        self.dilation = arguments.sizes("dilation", dilation, axes)
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad

    def __call__(self, x: jax.Array) -> jax.Array:
        """`(*batch, *spatial, channels)` -> `(*batch, *out, channels)`."""
        return F.avg_pool(
            x,
            self.window,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )


@explained
class Flatten(nnx.Module):
    """Makes the last `axes` axes one: from pictures to what a dense layer takes.

    >>> import jax.numpy as jnp
    >>> from jaxnn import modules
    >>> modules.Flatten()(jnp.ones((8, 6, 6, 64))).shape
    (8, 2304)
    """

    def __init__(self, axes: int = 3) -> None:
        """Keeps how many axes to join: 3 for pictures, height, width and channels."""
        if axes < 1:
            raise ValueError(f"axes must be a positive int, not {axes}")
        self.axes = axes

    def __call__(self, x: jax.Array) -> jax.Array:
        """`(*batch, *joined)` -> `(*batch, features)`."""
        if x.ndim < self.axes:
            raise ValueError(f"x must have at least the {self.axes} axes to be joined, not the shape {x.shape}")
        batch = x.shape[: x.ndim - self.axes]
        return x.reshape(*batch, math.prod(x.shape[x.ndim - self.axes :]))
