"""The minimal long short-term memory: an LSTM whose gates depend on the input alone and sum to one."""

from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
from jax.nn.initializers import zeros

from jaxnn.functional import arguments
from jaxnn.functional.bound import Bound
from jaxnn.functional.exportable import exportable
from jaxnn.functional.recurrent.cell import Cell
from jaxnn.functional.recurrent.init import Initializer
from jaxnn.functional.recurrent.minimal import candidate, minimal_cell, weights
from jaxnn.functional.recurrent.run import RunOptions, recurrent, recurrent_step
from jaxnn.kernels.accumulate import accumulator
from jaxnn.shapes import shown


@exportable
@shown
class MinLSTMState(NamedTuple):
    """State of a minLSTM.

    Attributes:
        h: `(*batch, hidden)`. At least float32, also where the inputs are half precision: it is a long sum of small
            terms. The output is `h` in the dtype of the inputs.
    """

    h: jax.Array


@exportable
@shown
class MinLSTMParams(NamedTuple):
    """Parameters of a minLSTM; the gates are ordered i (input), f (forget), g (candidate).

    Attributes:
        w_x: `(features, 3 * hidden)`.
        b: `(3 * hidden,)`.
    """

    w_x: jax.Array
    b: jax.Array

    @property
    def hidden(self) -> int:
        """Number of hidden units."""
        return self.w_x.shape[1] // 3

    @property
    def output(self) -> int:
        """Number of output features."""
        return self.hidden

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> MinLSTMState:
        """The default initial state for inputs of `dtype`."""
        batch = arguments.shape("batch", batch)
        return MinLSTMState(jnp.zeros((*batch, self.hidden), accumulator(dtype)))


def minlstm_step(
    params: MinLSTMParams, state: MinLSTMState, x: jax.typing.ArrayLike, *, log_space: bool = False
) -> MinLSTMState:
    r"""One step of a minimal long short-term memory.

    .. math::

        \begin{aligned}
        i_t &= \sigma(x_t W_i + b_i), \qquad f_t = \sigma(x_t W_f + b_f) \\
        \tilde h_t &= x_t W_g + b_g && \text{plain} \\
        \tilde h_t &= g(x_t W_g + b_g), \quad g(a) = \begin{cases} a + 0.5 & a \ge 0 \\ \sigma(a) & a < 0 \end{cases}
        && \text{log-space} \\
        h_t &= \frac{f_t}{f_t + i_t} \odot h_{t-1} + \frac{i_t}{f_t + i_t} \odot \tilde h_t
        \end{aligned}

    The quotients are computed as :math:`\sigma(-d_t)` and :math:`\sigma(d_t)`, where :math:`d_t = \log i_t - \log f_t`
    is a difference of two softplus. So they stay exact if both gates are nearly closed.

    Args:
        params: The layer's parameters; the gates are ordered i, f, g.
        state: `h` of shape `(*batch, hidden)`, at least float32.
        x: `(*batch, features)`.
        log_space: Whether the candidate passes through :math:`g`, which is positive, as in the paper's log-space
            version. The paper computes that version by logarithms; the values are the same. Its parallel listing starts
            from :math:`g(h_0)` instead of :math:`h_0`: pass that as the state to get the same numbers.

    Returns:
        The new state.

    Raises:
        ValueError: If shapes or dtypes do not fit each other.

    References:
        Feng et al., Were RNNs all we needed?, 2024.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_minlstm(jax.random.key(0), features=3, hidden=5)
        >>> F.minlstm_step(params, params.zero_state((2,), jnp.float32), jnp.ones((2, 3))).h.shape
        (2, 5)
    """
    return recurrent_step(minlstm_cell(log_space=log_space), params, state, x)


def minlstm_cell(*, log_space: bool = False) -> Cell:
    """Returns the cell of `minlstm`, for `recurrent` and functions that take any cell.

    Args:
        log_space: As in `minlstm_step`.

    Returns:
        The cell, of `MinLSTMParams` and `MinLSTMState`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_minlstm(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.recurrent(F.minlstm_cell(log_space=True), params, jnp.ones((2, 7, 3)))
        >>> y.shape
        (2, 7, 5)
    """
    return minimal_cell(MinLSTMParams, 3, Bound(_affine, log_space=bool(log_space)))


def minlstm(
    params: MinLSTMParams,
    x: jax.typing.ArrayLike,
    state: MinLSTMState | None = None,
    *,
    log_space: bool = False,
    **options: Unpack[RunOptions],
) -> tuple[jax.Array, MinLSTMState]:
    """Runs a minimal long short-term memory over every time step; `minlstm_step` states the formula.

    Its gates do not depend on the state, so it supports `algorithm="associative"`.

    Args:
        params: The layer's parameters.
        x: `(*batch, time, features)`.
        state: The initial state, `h` of shape `(*batch, hidden)`; zeros by default.
        log_space: As in `minlstm_step`.
        **options: How the sequence is run, as in `recurrent`: `lengths`, `mask`, `reverse`, `resets`, `time_major`,
            `remat`, `truncate` and `algorithm`.

    Returns:
        The outputs `(*batch, time, hidden)` and the final state.

    Raises:
        ValueError: As `recurrent`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_minlstm(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.minlstm(params, jnp.ones((2, 7, 3)), log_space=True, algorithm="associative")
        >>> y.shape, state.h.shape
        ((2, 7, 5), (2, 5))
    """
    return recurrent(minlstm_cell(log_space=log_space), params, x, state, **options)


def init_minlstm(
    key: jax.Array,
    features: int,
    hidden: int,
    *,
    kernel_init: Initializer | None = None,
    bias_init: Initializer = zeros,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> MinLSTMParams:
    """Random parameters of a minLSTM.

    Args:
        key: A random key.
        features: Number of input features.
        hidden: Number of hidden units.
        kernel_init: For `w_x`, given its whole shape; Glorot uniform for each gate by default.
        bias_init: For `b`. A positive value for the forget gate, the second of three blocks, makes an untrained layer
            remember longer.
        dtype: Dtype of all parameters.

    Returns:
        The parameters.

    Raises:
        ValueError: If a size is not positive.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> params = F.init_minlstm(jax.random.key(0), features=3, hidden=5)
        >>> params.w_x.shape, params.b.shape
        ((3, 15), (15,))
    """
    return MinLSTMParams(*weights(key, features, hidden, 3, kernel_init, bias_init, dtype))


def _affine(params: MinLSTMParams, g: jax.Array, *, log_space: bool) -> tuple[MinLSTMState, MinLSTMState]:
    i, f, of_x = jnp.split(g, 3, axis=-1)
    d = jax.nn.softplus(-f) - jax.nn.softplus(-i)  # log i - log f
    return MinLSTMState(jax.nn.sigmoid(-d)), MinLSTMState(jax.nn.sigmoid(d) * candidate(of_x, log_space=log_space))
