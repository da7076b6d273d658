"""A recurrent forecaster of time series."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.modules import Dense
from jaxnn.modules.names import explained
from jaxnn.modules.recurrent.encoder import Kind, layers_of


@explained
class Forecaster(nnx.Module):
    """A recurrent layer reads the past, and a dense layer says all steps of the future at once.

    The dense layer starts at zero, so that an untrained forecaster says "nothing beyond what is known": made for
    targets that are what another forecast leaves over.

    Maps `(*batch, time, features)` to `(*batch, horizon)`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from jaxnn import models
    >>> models.Forecaster(3, horizon=12, rngs=nnx.Rngs(0))(jnp.ones((5, 36, 3))).shape
    (5, 12)
    """

    def __init__(
        self,
        in_features: int,
        horizon: int,
        *,
        hidden: int = 16,
        kind: Kind = "lstm",
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        """Creates the layers.

        Args:
          in_features: the number of values a time step.
          horizon: how many steps ahead.
          hidden: hidden units of the recurrent layer.
          kind: `"lstm"`, `"gru"` or `"rnn"`.
          dtype: Dtype to compute in; that of the input by default.
          param_dtype: Dtype of the parameters.
          rngs: the stream `params` is drawn from.
        """
        self.layer = layers_of(kind)(in_features, hidden, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        zeros = jax.nn.initializers.zeros
        self.dense = Dense(hidden, horizon, kernel_init=zeros, dtype=dtype, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`(*batch, time, features)` -> `(*batch, horizon)`."""
        _, states = self.layer(x, return_state=True)
        return self.dense(states[-1].h)
