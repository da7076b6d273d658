"""Pooling and flattening as modules for `nnx.Sequential`; they own no parameters."""

import math
from typing import Any

import jax
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional import arguments
from jaxnn.functional.arguments import SizesLike
from jaxnn.functional.paddings import PaddingLike
from jaxnn.modules.conv import static_padding
from jaxnn.modules.names import explained


class Pool(nnx.Module):
    """Base class of pooling modules: the window and its options."""

    def __init__(
        self,
        kernel_size: SizesLike,
        *,
        stride: SizesLike | None = None,
        padding: PaddingLike = "VALID",
        dilation: SizesLike = 1,
        ceil_mode: bool = False,
    ) -> None:
        axes = arguments.axes_of(kernel_size)
        self.kernel_size = arguments.sizes("kernel_size", kernel_size, axes)
        self.stride = None if stride is None else arguments.sizes("stride", stride, axes)
        self.padding = static_padding(padding, axes)
        self.dilation = arguments.sizes("dilation", dilation, axes)
        self.ceil_mode = ceil_mode

    def _window_options(self) -> dict[str, Any]:
        """The options of the pooling function."""
        names = ("stride", "padding", "dilation", "ceil_mode")
        return {name: getattr(self, name) for name in names}


@explained
class MaxPool(Pool):
    """Maximum pooling, `functional.max_pool`.

    Args:
        kernel_size: Size of the window, one int per spatial axis. A single int means a square over two axes; for
            sequences write a tuple of one entry, `(2,)`.
        stride: As in `functional.max_pool`.
        padding: As in `functional.max_pool`.
        dilation: As in `functional.max_pool`.
        ceil_mode: As in `functional.max_pool`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import modules
        >>> modules.MaxPool(2)(jnp.ones((8, 30, 30, 32))).shape
        (8, 15, 15, 32)
    """

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, *spatial, channels)` -> `(*batch, *out, channels)`."""
        return F.max_pool(x, self.kernel_size, **self._window_options())


@explained
class AvgPool(Pool):
    """Average pooling, `functional.avg_pool`.

    Args:
        kernel_size: Size of the window, one int per spatial axis. A single int means a square over two axes; for
            sequences write a tuple of one entry, `(2,)`.
        stride: As in `functional.avg_pool`.
        padding: As in `functional.avg_pool`.
        dilation: As in `functional.avg_pool`.
        ceil_mode: As in `functional.avg_pool`.
        count_include_pad: As in `functional.avg_pool`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import modules
        >>> modules.AvgPool((3, 3), stride=2, padding="SAME")(jnp.ones((8, 30, 30, 32))).shape
        (8, 15, 15, 32)
    """

    def __init__(
        self,
        kernel_size: SizesLike,
        *,
        stride: SizesLike | None = None,
        padding: PaddingLike = "VALID",
        dilation: SizesLike = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode)
        self.count_include_pad = count_include_pad

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, *spatial, channels)` -> `(*batch, *out, channels)`."""
        return F.avg_pool(x, self.kernel_size, count_include_pad=self.count_include_pad, **self._window_options())


@explained
class Flatten(nnx.Module):
    """Joins the last `axes` axes into one, for example those of pictures before a dense layer.

    Args:
        axes: Number of axes to join.

    Raises:
        ValueError: If `axes` is below 1.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import modules
        >>> modules.Flatten()(jnp.ones((8, 6, 6, 64))).shape
        (8, 2304)
    """

    def __init__(self, axes: int = 3) -> None:
        self.axes = arguments.integer("axes", axes, 1)

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, *joined)` -> `(*batch, features)`."""
        x = arguments.array("x", x)
        if x.ndim < self.axes:
            raise ValueError(f"x: expected at least the {self.axes} axes to join, got shape {x.shape}")
        batch = x.shape[: x.ndim - self.axes]
        return x.reshape(*batch, math.prod(x.shape[x.ndim - self.axes :]))
