"""The simple (Elman) recurrent cell and layer."""

from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform, zeros

from jaxnn.functional import arguments
from jaxnn.functional.arguments import drawn, functions
from jaxnn.functional.bound import Bound, Static
from jaxnn.functional.exportable import exportable
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.cell import Activation, Cell, NotServedError
from jaxnn.functional.recurrent.init import Initializer, orthogonal
from jaxnn.functional.recurrent.run import RunOptions, recurrent, recurrent_step
from jaxnn.kernels import rnn as kernels
from jaxnn.kernels.recurrence import dot, rows
from jaxnn.shapes import shown


@exportable
@shown
class RNNState(NamedTuple):
    """State of a simple recurrent layer.

    Attributes:
        h: `(*batch, hidden)`, the output of the last step.
    """

    h: jax.Array


@exportable
@shown
class RNNParams(NamedTuple):
    """Parameters of a simple (Elman) recurrent layer.

    Attributes:
        w_x: `(features, hidden)`.
        w_h: `(hidden, hidden)`.
        b: `(hidden,)`.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array

    @property
    def hidden(self) -> int:
        """Number of hidden units."""
        return self.w_h.shape[0]

    @property
    def output(self) -> int:
        """Number of output features."""
        return self.hidden

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> RNNState:
        """The default initial state for inputs of `dtype`."""
        batch = arguments.shape("batch", batch)
        return RNNState(jnp.zeros((*batch, self.hidden), dtype))


def rnn_step(
    params: RNNParams, state: RNNState, x: jax.typing.ArrayLike, *, activation: Activation = jnp.tanh
) -> RNNState:
    r"""One step of a simple recurrent layer.

    .. math:: h_t = \phi(x_t W_x + h_{t-1} W_h + b)

    Args:
        params: The layer's parameters.
        state: `h` of shape `(*batch, hidden)`.
        x: `(*batch, features)`.
        activation: :math:`\phi`.

    Returns:
        The new state; its `h` is the step's output.

    Raises:
        ValueError: If shapes or dtypes do not fit each other.

    References:
        Elman: Finding structure in time, 1990.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_rnn(jax.random.key(0), features=3, hidden=5)
        >>> state = F.rnn_step(params, params.zero_state((2,), jnp.float32), jnp.ones((2, 3)))
        >>> state.h.shape
        (2, 5)
    """
    return recurrent_step(rnn_cell(activation=activation), params, state, x)


def _step(params: RNNParams, state: RNNState, x: jax.Array, *, activation: Activation) -> RNNState:
    a = dot(x, params.w_x) + dot(state.h, params.w_h)
    return RNNState(activation(a + rows(params.b, a)).astype(x.dtype))


def rnn_cell(*, activation: Activation = jnp.tanh) -> Cell:
    """Returns the cell of `rnn`, for `recurrent` and functions that take any cell.

    Args:
        activation: As in `rnn_step`.

    Returns:
        The cell, of `RNNParams` and `RNNState`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_rnn(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.recurrent(F.rnn_cell(activation=jax.nn.relu), params, jnp.ones((2, 7, 3)))
        >>> y.shape
        (2, 7, 5)
    """
    functions(activation=activation)
    return Cell(
        RNNParams.zero_state,
        Bound(_step, activation=activation),
        check=Bound(check.gated, kind=Static(RNNParams), gates=1),
        fused=Bound(_fused, activation=activation),
    )


def rnn(
    params: RNNParams,
    x: jax.typing.ArrayLike,
    state: RNNState | None = None,
    *,
    activation: Activation = jnp.tanh,
    **options: Unpack[RunOptions],
) -> tuple[jax.Array, RNNState]:
    """Runs a simple (Elman) recurrent layer over every time step; `rnn_step` states the formula.

    Args:
        params: The layer's parameters.
        x: `(*batch, time, features)`.
        state: The initial state, `h` of shape `(*batch, hidden)`; zeros by default.
        activation: As in `rnn_step`. It must be pure. Outside of `jax.jit`, a jitted function or one defined at the top
            level of a module is compiled once; any other is traced in every call.
        **options: How the sequence is run, as in `recurrent`: `lengths`, `mask`, `reverse`, `resets`, `time_major`,
            `remat`, `truncate` and `algorithm`.

    Returns:
        The outputs `(*batch, time, hidden)` and the final state.

    Raises:
        ValueError: As `recurrent`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_rnn(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.rnn(params, jnp.ones((2, 7, 3)), activation=jax.nn.relu)
        >>> y.shape, state.h.shape
        ((2, 7, 5), (2, 5))
    """
    return recurrent(rnn_cell(activation=activation), params, x, state, **options)


def init_rnn(
    key: jax.Array,
    features: int,
    hidden: int,
    *,
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer = zeros,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> RNNParams:
    """Random parameters of a simple recurrent layer.

    Args:
        key: A random key.
        features: Number of input features.
        hidden: Number of hidden units.
        kernel_init: For `w_x`; Glorot uniform by default.
        recurrent_kernel_init: For `w_h`; orthogonal by default, so that at first the weights alone make no gradient
            vanish or explode.
        bias_init: For `b`.
        dtype: Dtype of all parameters.

    Returns:
        The parameters.

    Raises:
        ValueError: If a size is not a positive integer.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> params = F.init_rnn(jax.random.key(0), features=3, hidden=5)
        >>> params.w_x.shape, params.w_h.shape, params.b.shape
        ((3, 5), (5, 5), (5,))
    """
    check.init(key, features=features, hidden=hidden)
    k_x, k_h, k_b = jax.random.split(key, 3)
    return RNNParams(
        w_x=drawn("kernel_init", kernel_init or glorot_uniform(), k_x, (features, hidden), dtype),
        w_h=drawn("recurrent_kernel_init", recurrent_kernel_init or orthogonal, k_h, (hidden, hidden), dtype),
        b=drawn("bias_init", bias_init, k_b, (hidden,), dtype),
    )


def _fused(params: RNNParams, *, activation: Activation) -> tuple[Any, Any]:
    if activation not in kernels.RNN:
        raise NotServedError(f"no support for activations other than {', '.join(f.__name__ for f in kernels.RNN)}")
    return kernels.RNN[activation], params
