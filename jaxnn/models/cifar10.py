"""A convolutional network for CIFAR-10."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.models.picture import check_images, check_picture
from jaxnn.modules import Conv, Dense, Flatten, MaxPool
from jaxnn.modules.names import explained


@explained
class Cifar10Net(nnx.Module):
    """A network for CIFAR-10: conv 32 of 3x3, max pool, conv 64 of 3x3, max pool, dense 512, dense 10, with ReLU.

    Weights start Glorot uniform and biases zero, as in Keras. For pictures of 32x32x3 it has 1,204,682 parameters.

    Maps `(*batch, height, width, channels)` to logits `(*batch, classes)`.

    Args:
        picture: Height, width and channels of the input; at least 10x10 with padding `"VALID"`.
        filters: Output channels of the two convolutions.
        hidden: Features of the first dense layer.
        classes: Number of classes.
        padding: Padding of the convolutions, `"VALID"` or `"SAME"`.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams; parameters come from the stream `params`.

    Raises:
        ValueError: If `picture` or `padding` does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models
        >>> models.Cifar10Net(rngs=nnx.Rngs(0))(jnp.ones((5, 32, 32, 3))).shape
        (5, 10)
    """

    def __init__(
        self,
        picture: Sequence[int] = (32, 32, 3),
        *,
        filters: tuple[int, int] = (32, 64),
        hidden: int = 512,
        classes: int = 10,
        padding: str = "VALID",
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        if padding not in ("VALID", "SAME"):
            raise ValueError(f"padding: expected 'VALID' or 'SAME', got {padding!r}")
        lost = 2 if padding == "VALID" else 0
        self.picture = height, width, channels = check_picture(picture, least=10 if lost else 4)
        rows, columns = (((n - lost) // 2 - lost) // 2 for n in (height, width))
        first, second = filters
        options: dict[str, Any] = {
            "kernel_init": jax.nn.initializers.glorot_uniform(),
            "dtype": dtype,
            "param_dtype": param_dtype,
            "rngs": rngs,
        }
        self.conv1 = Conv(channels, first, (3, 3), padding=padding, **options)
        self.conv2 = Conv(first, second, (3, 3), padding=padding, **options)
        self.pool = MaxPool(2)
        self.flatten = Flatten()
        self.dense1 = Dense(rows * columns * second, hidden, **options)
        self.dense2 = Dense(hidden, classes, **options)

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, height, width, channels)` -> logits `(*batch, classes)`."""
        x = check_images(x, self.picture)
        x = self.pool(jax.nn.relu(self.conv1(x)))
        x = self.pool(jax.nn.relu(self.conv2(x)))
        x = jax.nn.relu(self.dense1(self.flatten(x)))
        return self.dense2(x)
