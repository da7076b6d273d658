"""Flax NNX modules: parameters and configuration; each call is one call of a function in `jaxnn.functional`.

The modules work inside `nnx.Sequential`, under `nnx.jit`, `nnx.grad` and `nnx.vmap`, and, split from their
parameters, under plain JAX. Dropout and batch norm are those of Flax (`nnx.Dropout`, `nnx.BatchNorm`). Linen networks
use the modules through Flax's bridge, as in the example.

Example:
    >>> import jax, jax.numpy as jnp
    >>> from flax import linen
    >>> from flax.nnx import bridge
    >>> from jaxnn import modules
    >>> class Network(linen.Module):
    ...     @linen.compact
    ...     def __call__(self, x):
    ...         x = bridge.to_linen(modules.Conv, 3, 8, (3, 3))(x)
    ...         return linen.Dense(10)(x.reshape(-1))
    >>> variables = Network().init(jax.random.key(0), jnp.ones((8, 8, 3)))
    >>> Network().apply(variables, jnp.ones((8, 8, 3))).shape
    (10,)
"""

from jaxnn.modules.conv import Conv, ConvTranspose
from jaxnn.modules.dense import Dense
from jaxnn.modules.pool import AvgPool, Flatten, MaxPool
from jaxnn.modules.recurrent.cell import Cell
from jaxnn.modules.recurrent.classic import GRUCell, LSTMCell, RNNCell
from jaxnn.modules.recurrent.decoder import Decoder
from jaxnn.modules.recurrent.encoder import Encoded, Encoder
from jaxnn.modules.recurrent.layers import GRU, LSTM, RNN
from jaxnn.modules.recurrent.stack import Recurrent

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "AvgPool",
    "Cell",
    "Conv",
    "ConvTranspose",
    "Decoder",
    "Dense",
    "Encoded",
    "Encoder",
    "Flatten",
    "GRUCell",
    "LSTMCell",
    "MaxPool",
    "RNNCell",
    "Recurrent",
]
