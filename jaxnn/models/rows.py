"""A recurrent reader of pictures."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.models.picture import check_images, check_picture
from jaxnn.modules import LSTM, Dense
from jaxnn.modules.names import explained


@explained
class RowReader(nnx.Module):
    r"""An LSTM reads a picture row by row, from the top; two dense layers classify its last output.

    .. math:: h_t = \mathrm{LSTM}(h_{t-1}, x_t), \qquad z = \mathrm{ReLU}(h_n W_1 + b_1)\, W_2 + b_2

    A row :math:`x_t` with all its channels is one time step, so a picture is a sequence of `height` steps of
    `width * channels` features. LSTM and dense layers are one network and are trained jointly.

    Maps `(*batch, height, width, channels)` to logits `(*batch, classes)`.

    Args:
        picture: Height, width and channels of the input.
        hidden: Number of memory cells of each LSTM layer.
        layers: Number of LSTM layers.
        dense: Features of the first dense layer.
        classes: Number of classes.
        dropout: Rate of dropout between LSTM layers and on the input of the dense layers.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams; parameters come from the stream `params`, dropout from `dropout`.

    Raises:
        ValueError: If `picture` is not a shape, or a size or `dropout` is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models
        >>> models.RowReader((8, 8, 1), rngs=nnx.Rngs(0))(jnp.ones((5, 8, 8, 1))).shape
        (5, 10)
    """

    def __init__(
        self,
        picture: Sequence[int],
        *,
        hidden: int = 128,
        layers: int = 1,
        dense: int = 128,
        classes: int = 10,
        dropout: float = 0.0,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.picture = _, width, channels = check_picture(picture, least=1)
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.lstm = LSTM(width * channels, hidden, layers=layers, dropout=dropout, **options)
        self.drop = nnx.Dropout(dropout, rngs=rngs if dropout > 0 else None)
        self.dense1 = Dense(hidden, dense, kernel_init=jax.nn.initializers.he_normal(), **options)
        self.dense2 = Dense(dense, classes, **options)

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, height, width, channels)` -> logits `(*batch, classes)`."""
        x = check_images(x, self.picture)
        _, states = self.lstm(x.reshape(*x.shape[:-2], -1), return_state=True)
        return self.dense2(jax.nn.relu(self.dense1(self.drop(states[-1].h))))
