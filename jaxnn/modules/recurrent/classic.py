"""The classic recurrent cells, made from their sizes: simple, GRU and LSTM."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional import arguments
from jaxnn.modules.names import explained
from jaxnn.modules.parameters import Initializer
from jaxnn.modules.recurrent.cell import Cell

Activation = F.Activation


@explained
class RNNCell(Cell):
    """A simple recurrent cell; `functional.rnn_cell` with its parameters.

    Args:
        in_features: Number of input features.
        hidden_features: Number of hidden units.
        activation: As in `functional.rnn_step`.
        dtype: The dtype to compute in; as in `Cell`.
        param_dtype: The dtype of the parameters.
        kernel_init: Initialiser of `w_x`; as in `functional.init_rnn`, like the others.
        recurrent_kernel_init: Initialiser of `w_h`.
        bias_init: Initialiser of the biases.
        rngs: Random streams; the parameters come from the stream `params`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
        >>> cell = modules.RNNCell(3, 5, rngs=nnx.Rngs(0))
        >>> state, y = cell(cell.zero_state((2,)), jnp.ones((2, 3)))
        >>> state.h.shape, y.shape
        ((2, 5), (2, 5))
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        activation: Activation = jnp.tanh,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer = jax.nn.initializers.zeros,
        rngs: nnx.Rngs,
    ) -> None:
        params = F.init_rnn(
            rngs.params(),
            *_sizes(in_features, hidden_features),
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            dtype=param_dtype,
        )
        super().__init__(F.rnn_cell(activation=activation), params, dtype=dtype)


@explained
class GRUCell(Cell):
    """A gated recurrent unit; `functional.gru_cell` with its parameters.

    Args:
        in_features: Number of input features.
        hidden_features: Number of hidden units.
        reset_after: As in `functional.gru_step`, like the activations.
        activation: Activation of the candidate.
        gate_activation: Activation of the gates.
        dtype: The dtype to compute in; as in `Cell`.
        param_dtype: The dtype of the parameters.
        kernel_init: Initialiser of `w_x`; as in `functional.init_gru`, like the others.
        recurrent_kernel_init: Initialiser of `w_h`.
        bias_init: Initialiser of the biases.
        rngs: Random streams; the parameters come from the stream `params`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
        >>> cell = modules.GRUCell(3, 5, rngs=nnx.Rngs(0))
        >>> state, y = cell(cell.zero_state((2,)), jnp.ones((2, 3)))
        >>> state.h.shape, y.shape
        ((2, 5), (2, 5))
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        reset_after: bool = True,
        activation: Activation = jnp.tanh,
        gate_activation: Activation = jax.nn.sigmoid,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer = jax.nn.initializers.zeros,
        rngs: nnx.Rngs,
    ) -> None:
        params = F.init_gru(
            rngs.params(),
            *_sizes(in_features, hidden_features),
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            dtype=param_dtype,
        )
        cell = F.gru_cell(reset_after=reset_after, activation=activation, gate_activation=gate_activation)
        super().__init__(cell, params, dtype=dtype)


@explained
class LSTMCell(Cell):
    """A long short-term memory cell; `functional.lstm_cell` with its parameters.

    Args:
        in_features: Number of input features.
        hidden_features: Number of memory cells.
        projection: As in `functional.init_lstm`, like `peephole`, `coupled` and `layer_norm`.
        peephole: Whether the gates see the cell state.
        coupled: Whether the input gate is one minus the forget gate.
        layer_norm: Whether products and cell state are normalised.
        forget_bias: Bias of the forget gate.
        activation: As in `functional.lstm_step`.
        gate_activation: As in `functional.lstm_step`.
        dtype: The dtype to compute in; as in `Cell`.
        param_dtype: The dtype of the parameters.
        kernel_init: Initialiser of `w_x`; as in `functional.init_lstm`, like the others.
        recurrent_kernel_init: Initialiser of `w_h`.
        bias_init: Initialiser of the biases, instead of `forget_bias`.
        projection_init: Initialiser of the projection.
        rngs: Random streams; the parameters come from the stream `params`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import modules
        >>> cell = modules.LSTMCell(3, 5, projection=2, rngs=nnx.Rngs(0))
        >>> state, y = cell(cell.zero_state((4,)), jnp.ones((4, 3)))
        >>> state.c.shape, y.shape
        ((4, 5), (4, 2))
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        projection: int | None = None,
        peephole: bool = False,
        coupled: bool = False,
        layer_norm: bool = False,
        forget_bias: float = 1.0,
        activation: Activation = jnp.tanh,
        gate_activation: Activation = jax.nn.sigmoid,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        kernel_init: Initializer | None = None,
        recurrent_kernel_init: Initializer | None = None,
        bias_init: Initializer | None = None,
        projection_init: Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        params = F.init_lstm(
            rngs.params(),
            *_sizes(in_features, hidden_features),
            projection=projection,
            peephole=peephole,
            coupled=coupled,
            layer_norm=layer_norm,
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init or F.forget_bias(forget_bias, 3 if coupled else 4),
            projection_init=projection_init,
            dtype=param_dtype,
        )
        cell = F.lstm_cell(activation=activation, gate_activation=gate_activation)
        super().__init__(cell, params, dtype=dtype)


def _sizes(in_features: int, hidden_features: int) -> tuple[int, int]:
    """Reads the sizes; a function `init_*` would report them by other names."""
    in_features = arguments.integer("in_features", in_features, 1)
    return in_features, arguments.integer("hidden_features", hidden_features, 1)
