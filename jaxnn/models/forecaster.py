"""A recurrent forecaster of time series."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.modules import Dense
from jaxnn.modules.names import explained
from jaxnn.modules.recurrent.layers import Kind, MakeCell, layers_of, outline


@explained
class Forecaster(nnx.Module):
    r"""A recurrent layer reads the past, and a dense layer predicts all steps of the future from its last output.

    .. math:: h_t = \mathrm{LSTM}(h_{t-1}, x_t), \qquad (\hat y_{n+1}, \dots, \hat y_{n+H}) = h_n W + b

    The dense layer starts at zero, so an untrained forecaster predicts zero. That suits targets that are the residuals
    of another forecast.

    Args:
        in_features: Number of values of a time step.
        horizon: Number of steps to predict.
        hidden: Number of hidden units of the recurrent layer.
        kind: `"lstm"`, `"gru"` or `"rnn"`.
        cell: Makes the layer's cell, instead of `kind`: a function `(in_features, hidden, *, rngs) -> cell` that
            returns any cell that `modules.Recurrent` takes.
        dtype: The dtype to compute in; that of the input by default.
        param_dtype: The dtype of the parameters.
        rngs: Random streams; parameters come from the stream `params`.

    Raises:
        ValueError: If a size, `kind` or `cell` is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import models
        >>> models.Forecaster(3, horizon=12, rngs=nnx.Rngs(0))(jnp.ones((5, 36, 3))).shape
        (5, 12)
        >>> models.Forecaster(3, horizon=12, cell=nnx.GRUCell, rngs=nnx.Rngs(0))(jnp.ones((5, 36, 3))).shape
        (5, 12)
    """

    def __init__(
        self,
        in_features: int,
        horizon: int,
        *,
        hidden: int = 16,
        kind: Kind = "lstm",
        cell: MakeCell | None = None,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.layer = layers_of(kind, cell, in_features, hidden, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        features = outline(self.layer, in_features, jnp.float32)[0].shape[-1]
        zeros = jax.nn.initializers.zeros
        self.dense = Dense(features, horizon, kernel_init=zeros, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: jax.typing.ArrayLike) -> jax.Array:
        """`(*batch, time, features)`, of at least one step, -> `(*batch, horizon)`."""
        outputs, _ = self.layer(x, return_state=True)
        if outputs.shape[-2] == 0:
            raise ValueError(
                f"x: expected at least one step to forecast from, got shape {jnp.shape(x)}; give it a past."
            )
        return self.dense(outputs[..., -1, :])
