"""Recurrent cells: the parameters of one layer, run one step at a time."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as R
from jaxnn.functional import arguments
from jaxnn.modules.parameters import Initializer
from jaxnn.modules.static import keywords, static_options

Activation = R.Activation


class Cell(nnx.Module):
    """What the cells share: parameters, options of the step, and the dtype to compute in.

    Attributes:
      params: a NamedTuple of `nnx.Param`, named as in `jaxnn.functional`.
    """

    def __init__(self, params: Any, options: Mapping[str, Any], dtype: Any) -> None:
        is_boxed = lambda p: isinstance(p, nnx.VariableMetadata)  # noqa: E731
        self.params = nnx.data(jax.tree.map(nnx.Param, params, is_leaf=is_boxed))
        self._options = static_options(options)
        self.dtype = dtype

    @property
    def options(self) -> dict[str, Any]:
        """What the step takes beside parameters, state and input."""
        return keywords(self._options)

    def arrays(self, dtype: Any) -> Any:
        """The parameters as the functions in `jaxnn.functional` take them, in `dtype`."""
        is_variable = lambda p: isinstance(p, nnx.Variable)  # noqa: E731
        return jax.tree.map(lambda p: arguments.cast("a parameter", p[...], dtype), self.params, is_leaf=is_variable)

    def zero_state(self, batch: tuple[int, ...] = (), dtype: Any = jnp.float32) -> Any:
        """The state before the first step, for inputs with these batch axes and this dtype."""
        dtype = dtype if self.dtype is None else self.dtype
        return self.arrays(dtype).zero_state(batch, dtype)

    def __call__(self, state: Any, x: jax.Array) -> Any:
        """`(state, (*batch, features))` -> the new state, whose `h` is the output."""
        dtype = x.dtype if self.dtype is None else self.dtype
        return self._step(self.arrays(dtype), state, arguments.cast("x", x, dtype), **self.options)

    def _step(self, params: Any, state: Any, x: jax.Array, **options: Any) -> Any:
        raise NotImplementedError


class RNNCell(Cell):
    """A simple recurrent cell; `functional.rnn_step` with parameters of its own.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from jaxnn.modules import recurrent as modules
    >>> cell = modules.RNNCell(3, 5, rngs=nnx.Rngs(0))
    >>> cell(cell.zero_state((2,)), jnp.ones((2, 3))).h.shape
    (2, 5)
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
        params = R.init_rnn(
            rngs.params(),
            in_features,
            hidden_features,
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            dtype=param_dtype,
        )
        super().__init__(params, {"activation": activation}, dtype)

    def _step(self, params: Any, state: Any, x: jax.Array, **options: Any) -> Any:
        return R.rnn_step(params, state, x, **options)


class GRUCell(Cell):
    """A gated recurrent unit; `functional.gru_step` with parameters of its own.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from jaxnn.modules import recurrent as modules
    >>> cell = modules.GRUCell(3, 5, rngs=nnx.Rngs(0))
    >>> cell(cell.zero_state((2,)), jnp.ones((2, 3))).h.shape
    (2, 5)
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
        params = R.init_gru(
            rngs.params(),
            in_features,
            hidden_features,
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init,
            dtype=param_dtype,
        )
        options = {
            "reset_after": reset_after,
            "activation": activation,
            "gate_activation": gate_activation,
        }
        super().__init__(params, options, dtype)

    def _step(self, params: Any, state: Any, x: jax.Array, **options: Any) -> Any:
        return R.gru_step(params, state, x, **options)


class LSTMCell(Cell):
    """A long short-term memory cell; `functional.lstm_step` with parameters of its own.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from jaxnn.modules import recurrent as modules
    >>> cell = modules.LSTMCell(3, 5, projection=2, rngs=nnx.Rngs(0))
    >>> state = cell(cell.zero_state((4,)), jnp.ones((4, 3)))
    >>> state.h.shape, state.c.shape
    ((4, 2), (4, 5))
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
        params = R.init_lstm(
            rngs.params(),
            in_features,
            hidden_features,
            projection=projection,
            peephole=peephole,
            coupled=coupled,
            layer_norm=layer_norm,
            kernel_init=kernel_init,
            recurrent_kernel_init=recurrent_kernel_init,
            bias_init=bias_init or R.forget_bias(forget_bias, 3 if coupled else 4),
            projection_init=projection_init,
            dtype=param_dtype,
        )
        super().__init__(params, {"activation": activation, "gate_activation": gate_activation}, dtype)

    def _step(self, params: Any, state: Any, x: jax.Array, **options: Any) -> Any:
        return R.lstm_step(params, state, x, **options)
