"""A fully convolutional detector: one heat map of centres for each class, and the boxes around them."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.functional import BoxMaps
from jaxnn.functional.arguments import array, channels_advice
from jaxnn.modules import Conv, MaxPool
from jaxnn.modules.names import explained


@explained
class Detector(nnx.Module):
    r"""Finds objects as points: predicts for each cell whether it contains a centre, and the size of the box.

    Three 3×3 convolutions have `width`, 2 `width` and 4 `width` channels; 2×2 max pooling after each of the first two
    halves the picture. Residual 3×3 convolutions, every second one dilated, enlarge the receptive field. A 1×1
    convolution makes each map. The logits of the heat map start at :math:`\log(0.1 / 0.9)`, so that the many empty
    cells do not dominate the first steps.

    Args:
        channels: Channels of the pictures.
        classes: Number of classes.
        width: Channels of the first convolution.
        blocks: Number of residual convolutions.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams; parameters come from the stream `params`.

    Attributes:
        stride: Pixels per cell, 4.

    References:
        Zhou, Wang and Krähenbühl, Objects as Points, 2019. Lin et al., Focal Loss for Dense Object Detection, ICCV
        2017 (where the logits start).

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import functional as F, models
        >>> net = models.Detector(1, 10, rngs=nnx.Rngs(0))
        >>> maps = net(jnp.ones((5, 64, 48, 1)))
        >>> maps.heat.shape, maps.size.shape
        ((5, 16, 12, 10), (5, 16, 12, 2))
        >>> F.decode_boxes(maps, stride=net.stride, top=20).boxes.shape
        (5, 20, 4)
    """

    stride = 4

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        width: int = 16,
        blocks: int = 4,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        relu: dict[str, Any] = {"kernel_init": jax.nn.initializers.he_normal()}
        small: dict[str, Any] = {"kernel_init": jax.nn.initializers.variance_scaling(0.1, "fan_in", "normal")}
        self.channels = channels
        self.pool = MaxPool(2)
        sizes = (channels, width, 2 * width, 4 * width)
        self.stem = nnx.List([Conv(a, b, (3, 3), **relu, **options) for a, b in itertools.pairwise(sizes)])
        self.blocks = nnx.List(
            [Conv(sizes[-1], sizes[-1], (3, 3), dilation=1 + n % 2, **small, **options) for n in range(blocks)]
        )
        start = jax.nn.initializers.constant(math.log(0.1 / 0.9))
        self.heat = Conv(sizes[-1], classes, (1, 1), bias_init=start, **small, **options)
        self.size = Conv(sizes[-1], 2, (1, 1), **small, **options)
        self.offset = Conv(sizes[-1], 2, (1, 1), **small, **options)

    def __call__(self, x: jax.typing.ArrayLike) -> BoxMaps:
        """`(*batch, height, width, channels)`, sides multiples of 4 -> maps `(*batch, height / 4, width / 4, ...)`."""
        x = array("x", x)
        if x.ndim < 3 or x.shape[-1] != self.channels or x.shape[-3] % 4 or x.shape[-2] % 4:
            advice = channels_advice(x.shape, 2, self.channels) or "pad the picture"
            raise ValueError(
                f"x: expected (*batch, height, width, {self.channels}) with sides that are multiples of 4, "
                f"got {x.shape}; {advice}."
            )
        first, second, third = self.stem
        x = self.pool(jax.nn.relu(first(x)))
        x = self.pool(jax.nn.relu(second(x)))
        x = jax.nn.relu(third(x))
        for block in self.blocks:
            x = x + jax.nn.relu(block(x))
        return BoxMaps(self.heat(x), self.size(x), self.offset(x))
