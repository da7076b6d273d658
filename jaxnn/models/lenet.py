"""A LeNet with ReLU, and LeNet-5 as published."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional.arguments import array, channels_advice
from jaxnn.models.picture import check_images, check_picture
from jaxnn.modules import AvgPool, Conv, Dense, Flatten
from jaxnn.modules.names import explained
from jaxnn.modules.parameters import Initializer, in_dtype


@explained
class LeNet(nnx.Module):
    """A LeNet: two convolutions of 3x3 with ReLU and mean pooling, dense 512 with sigmoid, dense 10.

    The convolutions keep the size of the picture, so any picture of at least 4x4 fits. It is meant for L2
    regularisation of the weights, `train.losses.l2`.

    Maps `(*batch, height, width, channels)` to logits `(*batch, classes)`.

    Args:
        picture: Height, width and channels of the input.
        filters: Output channels of the two convolutions.
        hidden: Features of the first dense layer.
        classes: Number of classes.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams; parameters come from the stream `params`.

    Raises:
        ValueError: If `picture` is not a shape of at least 4x4.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models
        >>> models.LeNet((8, 8, 1), rngs=nnx.Rngs(0))(jnp.ones((5, 8, 8, 1))).shape
        (5, 10)
    """

    def __init__(
        self,
        picture: Sequence[int],
        *,
        filters: tuple[int, int] = (32, 64),
        hidden: int = 512,
        classes: int = 10,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.picture = height, width, channels = check_picture(picture, least=4)
        first, second = filters
        he, glorot = jax.nn.initializers.he_normal(), jax.nn.initializers.glorot_uniform()
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.conv1 = Conv(channels, first, (3, 3), kernel_init=he, **options)
        self.conv2 = Conv(first, second, (3, 3), kernel_init=he, **options)
        self.pool = AvgPool(2)
        self.flatten = Flatten()
        self.dense1 = Dense((height // 4) * (width // 4) * second, hidden, kernel_init=glorot, **options)
        self.dense2 = Dense(hidden, classes, kernel_init=glorot, **options)

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, height, width, channels)` -> logits `(*batch, classes)`."""
        x = check_images(x, self.picture)
        x = self.pool(jax.nn.relu(self.conv1(x)))
        x = self.pool(jax.nn.relu(self.conv2(x)))
        x = jax.nn.sigmoid(self.dense1(self.flatten(x)))
        return self.dense2(x)


# Which maps of S2 (rows) each map of C3 (columns) reads: table I of the paper.
_C3_SEES = np.array(
    [
        [1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1],
        [1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1],
        [1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1, 1, 1],
        [0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1, 1],
        [0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 0, 1],
        [0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1],
    ],
    bool,
)


class Subsampling(nnx.Module):
    """LeNet-5's pooling: the mean of 2x2, times a trained coefficient, plus a trained bias, for each map.

    Args:
        maps: Number of maps.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.

    Attributes:
        coefficient: `(maps,)`, one at first.
        bias: `(maps,)`, zero at first.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.models.lenet import Subsampling
        >>> Subsampling(6)(jnp.ones((28, 28, 6))).shape
        (14, 14, 6)
    """

    def __init__(self, maps: int, *, dtype: Any = None, param_dtype: Any = jnp.float32) -> None:
        self.coefficient = nnx.Param(jnp.ones((maps,), param_dtype))
        self.bias = nnx.Param(jnp.zeros((maps,), param_dtype))
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """`(*batch, height, width, maps)` -> `(*batch, height / 2, width / 2, maps)`."""
        x, coefficient, bias = in_dtype(self.dtype, x, self.coefficient, self.bias)
        row = (1,) * (x.ndim - 1) + coefficient.shape
        return F.avg_pool(x, 2) * coefficient.reshape(row) + bias.reshape(row)


@explained
class LeNet5(nnx.Module):
    r"""LeNet-5 of 1998: C1 (6 of 5x5), S2, C3 (16 of 5x5, not fully connected), S4, C5 (120), F6 (84), output.

    The activation is :math:`1.7159 \tanh(\tfrac{2}{3} a)`; the layers up to F6 have the paper's 60,000 trained
    parameters. The output is a dense layer for cross-entropy, where the paper measures distances to fixed bitmaps of
    characters.

    Maps `(*batch, height, width, channels)` to logits `(*batch, classes)`. The paper's pictures are 32x32; smaller ones
    are padded with zeros to that, 28x28 by 2 on each side.

    Args:
        picture: Height, width and channels of the input; height and width at most 32.
        classes: Features of the output.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams; parameters come from the stream `params`.

    Raises:
        ValueError: If `picture` is not a shape of at most 32x32.

    References:
        LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models
        >>> models.LeNet5((28, 28, 1), rngs=nnx.Rngs(0))(jnp.ones((5, 28, 28, 1))).shape
        (5, 10)
    """

    def __init__(
        self,
        picture: Sequence[int] = (32, 32, 1),
        *,
        classes: int = 10,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        height, width, channels = check_picture(picture, least=1)
        if max(height, width) > 32:
            raise ValueError(f"picture: expected at most 32x32, LeNet-5's input, got {height}x{width}")
        lecun = jax.nn.initializers.lecun_normal()
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.c1 = Conv(channels, 6, (5, 5), padding="VALID", kernel_init=lecun, **options)
        self.s2 = Subsampling(6, dtype=dtype, param_dtype=param_dtype)
        self.c3 = Conv(6, 16, (5, 5), padding="VALID", kernel_init=_scaled_to_fan(lecun), **options)
        self.s4 = Subsampling(16, dtype=dtype, param_dtype=param_dtype)
        self.c5 = Conv(16, 120, (5, 5), padding="VALID", kernel_init=lecun, **options)
        self.f6 = Dense(120, 84, kernel_init=lecun, **options)
        self.output = Dense(84, classes, kernel_init=lecun, **options)

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, height, width, channels)` -> logits `(*batch, classes)`."""
        x = _squash(self.c1(_in_frame(x, self.c1.kernel.shape[-2])))
        x = _squash(self.s2(x))
        x, kernel, bias = in_dtype(self.c3.dtype, x, self.c3.kernel, self.c3.bias)
        x = _squash(F.conv(x, jnp.where(_C3_SEES[None, None], kernel, jnp.zeros_like(kernel)), bias, padding="VALID"))
        x = _squash(self.s4(x))
        x = _squash(self.c5(x))
        x = x.reshape(*x.shape[:-3], 120)
        return self.output(_squash(self.f6(x)))


def _squash(x: jax.Array) -> jax.Array:
    return 1.7159 * jnp.tanh(2 / 3 * x)


def _in_frame(x: jax.typing.ArrayLike, channels: int) -> jax.Array:
    """Pads a picture to 32x32, with the picture in the middle."""
    x = array("x", x)
    if x.ndim < 3 or x.shape[-1] != channels or max(x.shape[-3:-1]) > 32:
        advice = channels_advice(x.shape, 2, channels) or "crop or shrink larger ones"
        raise ValueError(f"x: expected (*batch, height, width, {channels}) of at most 32x32, got {x.shape}; {advice}.")
    pairs = [((32 - n) // 2, 32 - n - (32 - n) // 2) for n in x.shape[-3:-1]]
    return jnp.pad(x, [*([(0, 0)] * (x.ndim - 3)), *pairs, (0, 0)])


def _scaled_to_fan(init: Initializer) -> Initializer:
    """Scales the weights of C3's maps, which read 3, 4 or 6 of the 6 maps, so that all sums have the same variance."""

    def scaled(key: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        scale = np.sqrt(6 / _C3_SEES.sum(0))
        return init(key, shape, dtype) * jnp.asarray(scale, dtype).reshape(1, 1, 1, -1)

    return scaled
