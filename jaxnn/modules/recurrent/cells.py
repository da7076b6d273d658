"""Recurrent cells: a functional cell with its parameters, run one step at a time."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn import functional as F
from jaxnn.functional import arguments
from jaxnn.modules.names import explained
from jaxnn.modules.parameters import Initializer
from jaxnn.modules.static import keywords, static_options

Activation = F.Activation


@explained
class Cell(nnx.RNNCellBase):
    """A cell of `jaxnn.functional` that owns its parameters; `functional.recurrent_step` with these.

    It drives in `Recurrent`, and in Flax's `nnx.RNN` and `nnx.Bidirectional`, whose protocol it follows.

    Args:
        cell: The functional cell: `functional.gru_cell()`, or one of your own.
        params: Its parameters, any pytree of arrays. Each becomes an `nnx.Param`; an `nnx.Variable` stays what it is.
        dtype: The dtype to compute in; that of the inputs by default. `nnx.RNN` makes the carry without knowing it:
            there inputs of another dtype than the parameters' need it.

    Attributes:
        params: The parameters, a pytree of `nnx.Variable`.
        dtype: The dtype to compute in, or None.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxnn import functional as F
        >>> from jaxnn import modules
        >>> cell = modules.Cell(F.gru_cell(reset_after=False), F.init_gru(jax.random.key(0), 3, 5))
        >>> modules.Recurrent(cell)(jnp.ones((2, 7, 3))).shape, nnx.RNN(cell)(jnp.ones((2, 7, 3))).shape
        ((2, 7, 5), (2, 7, 5))
    """

    def __init__(self, cell: F.Cell, params: Any, *, dtype: Any = None) -> None:
        if not isinstance(cell, F.Cell):
            raise ValueError(
                f"cell: expected a functional Cell, got {type(cell).__name__}; make one of zero_state and step, or "
                "take functional.lstm_cell()"
            )
        self.params = nnx.data(jax.tree.map(_variable, params, is_leaf=_is_variable))
        self._cell = static_options(cell._asdict())
        self.dtype = dtype

    @property
    def cell(self) -> F.Cell:
        """The functional cell."""
        return F.Cell(**keywords(self._cell))

    @property
    def num_feature_axes(self) -> int:
        """Number of feature axes of an input, as Flax names it."""
        return self.cell.feature_axes

    def arrays(self, dtype: Any) -> Any:
        """The parameters as the functions in `jaxnn.functional` take them, floats in `dtype`."""

        def array(variable: Any) -> jax.Array:
            a: jax.Array = variable[...]
            return a.astype(dtype) if _is_float(a.dtype) and _is_float(dtype) else a

        return jax.tree.map(array, self.params, is_leaf=_is_variable)

    def cast(self, x: jax.typing.ArrayLike) -> tuple[Any, jax.Array]:
        """The parameters and the inputs in the dtype to compute in."""
        x = jnp.asarray(x)
        dtype = x.dtype if self.dtype is None else self.dtype
        return self.arrays(dtype), arguments.cast("x", x, dtype) if self.dtype is not None else x

    def zero_state(self, batch: tuple[int, ...] = (), dtype: Any = jnp.float32) -> Any:
        """The state before the first step, for inputs with these batch axes and this dtype."""
        dtype = dtype if self.dtype is None else self.dtype
        return self.cell.zero_state(self.arrays(dtype), batch, dtype)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Initializer | None = None
    ) -> Any:
        """The state before the first step, as Flax asks for it; for inputs of the parameters' dtype, or of `dtype`.

        Args:
            input_shape: Shape of an input of one step, `(*batch, *features)`.
            rngs: For `carry_init`: a stream, or `carry` of several.
            carry_init: Draws every array of the state; `zero_state` by default.

        Raises:
            ValueError: If `carry_init` has no `rngs`.
        """
        batch = tuple(input_shape)[: len(input_shape) - self.num_feature_axes]
        zero = self.zero_state(batch, param_dtype(self))
        if carry_init is None:
            return zero
        stream = rngs.carry if isinstance(rngs, nnx.Rngs) else rngs
        if stream is None:
            raise ValueError("rngs: expected a stream for carry_init, got None; give nnx.Rngs.")
        return jax.tree.map(lambda a: carry_init(stream(), a.shape, a.dtype), zero)

    def __call__(self, carry: Any, x: jax.Array) -> tuple[Any, Any]:
        """One step: `(state, (*batch, *features))` -> the new state and the output."""
        params, x = self.cast(x)
        state = F.recurrent_step(self.cell, params, carry, x)
        return state, self.cell.output(params, state)


def param_dtype(module: nnx.Module) -> Any:
    """The dtype of a module's first parameter of floats; float32 where there is none."""
    dtypes = (a.dtype for a in jax.tree.leaves(nnx.state(module, nnx.Param)))
    return next(filter(_is_float, dtypes), jnp.dtype(jnp.float32))


def _is_float(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.floating))


def _is_variable(value: Any) -> bool:
    """Whether it is a variable, or what an initialiser with sharding gives."""
    return isinstance(value, nnx.Variable | nnx.VariableMetadata)


def _variable(value: Any) -> nnx.Variable:
    return value if isinstance(value, nnx.Variable) else nnx.Param(value)


@explained
class RNNCell(Cell):
    """A simple recurrent cell; `functional.rnn_cell` with its parameters.

    Args:
        in_features: Number of input features.
        hidden_features: Number of hidden units.
        activation: As in `functional.rnn_step`.
        dtype: The dtype to compute in; as in `Cell`.
        param_dtype: The dtype of the parameters.
        kernel_init: Initialiser of `w_x`; as in `functional.init_rnn`, and so are the others.
        recurrent_kernel_init: Initialiser of `w_h`.
        bias_init: Initialiser of the biases.
        rngs: The stream `params` is drawn from.

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
            in_features,
            hidden_features,
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
        reset_after: As in `functional.gru_step`, and so are the activations.
        activation: That of the candidate.
        gate_activation: That of the gates.
        dtype: The dtype to compute in; as in `Cell`.
        param_dtype: The dtype of the parameters.
        kernel_init: Initialiser of `w_x`; as in `functional.init_gru`, and so are the others.
        recurrent_kernel_init: Initialiser of `w_h`.
        bias_init: Initialiser of the biases.
        rngs: The stream `params` is drawn from.

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
            in_features,
            hidden_features,
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
        projection: As in `functional.init_lstm`, and so are `peephole`, `coupled` and `layer_norm`.
        peephole: Whether the gates see the cell state.
        coupled: Whether the input gate is one minus the forget gate.
        layer_norm: Whether products and cell state are normalised.
        forget_bias: Bias of the forget gate.
        activation: As in `functional.lstm_step`.
        gate_activation: As in `functional.lstm_step`.
        dtype: The dtype to compute in; as in `Cell`.
        param_dtype: The dtype of the parameters.
        kernel_init: Initialiser of `w_x`; as in `functional.init_lstm`, and so are the others.
        recurrent_kernel_init: Initialiser of `w_h`.
        bias_init: Initialiser of the biases, in the place of `forget_bias`.
        projection_init: Initialiser of the projection.
        rngs: The stream `params` is drawn from.

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
            in_features,
            hidden_features,
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
