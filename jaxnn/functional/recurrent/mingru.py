"""The minimal gated recurrent unit: a GRU whose gate depends on the input alone."""

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
class MinGRUState(NamedTuple):
    """State of a minGRU.

    Attributes:
        h: `(*batch, hidden)`. At least float32, also where the inputs are half precision: it is a long sum of small
            terms. The output is `h` in the dtype of the inputs.
    """

    h: jax.Array


@exportable
@shown
class MinGRUParams(NamedTuple):
    """Parameters of a minGRU: the update gate z, then the candidate.

    Attributes:
        w_x: `(features, 2 * hidden)`.
        b: `(2 * hidden,)`.
    """

    w_x: jax.Array
    b: jax.Array

    @property
    def hidden(self) -> int:
        """Number of hidden units."""
        return self.w_x.shape[1] // 2

    @property
    def output(self) -> int:
        """Number of output features."""
        return self.hidden

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> MinGRUState:
        """The default initial state for inputs of `dtype`."""
        batch = arguments.shape("batch", batch)
        return MinGRUState(jnp.zeros((*batch, self.hidden), accumulator(dtype)))


def mingru_step(
    params: MinGRUParams, state: MinGRUState, x: jax.typing.ArrayLike, *, log_space: bool = False
) -> MinGRUState:
    r"""One step of a minimal gated recurrent unit.

    .. math::

        \begin{aligned}
        z_t &= \sigma(x_t W_z + b_z) \\
        \tilde h_t &= x_t W_h + b_h && \text{plain} \\
        \tilde h_t &= g(x_t W_h + b_h), \quad g(a) = \begin{cases} a + 0.5 & a \ge 0 \\ \sigma(a) & a < 0 \end{cases}
        && \text{log-space} \\
        h_t &= (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t
        \end{aligned}

    Args:
        params: The layer's parameters: the gate z, then the candidate.
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
        >>> params = F.init_mingru(jax.random.key(0), features=3, hidden=5)
        >>> F.mingru_step(params, params.zero_state((2,), jnp.float32), jnp.ones((2, 3))).h.shape
        (2, 5)
    """
    return recurrent_step(mingru_cell(log_space=log_space), params, state, x)


def mingru_cell(*, log_space: bool = False) -> Cell:
    """Returns the cell of `mingru`, for `recurrent` and functions that take any cell.

    Args:
        log_space: As in `mingru_step`.

    Returns:
        The cell, of `MinGRUParams` and `MinGRUState`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_mingru(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.recurrent(F.mingru_cell(log_space=True), params, jnp.ones((2, 7, 3)))
        >>> y.shape
        (2, 7, 5)
    """
    return minimal_cell(MinGRUParams, 2, Bound(_affine, log_space=bool(log_space)))


def mingru(
    params: MinGRUParams,
    x: jax.typing.ArrayLike,
    state: MinGRUState | None = None,
    *,
    log_space: bool = False,
    **options: Unpack[RunOptions],
) -> tuple[jax.Array, MinGRUState]:
    """Runs minimal gated recurrent units over every time step; `mingru_step` states the formula.

    Its gate does not depend on the state, so it supports `algorithm="associative"`.

    Args:
        params: The layer's parameters.
        x: `(*batch, time, features)`.
        state: The initial state, `h` of shape `(*batch, hidden)`; zeros by default.
        log_space: As in `mingru_step`.
        **options: How the sequence is run, as in `recurrent`: `lengths`, `mask`, `reverse`, `resets`, `time_major`,
            `remat`, `truncate` and `algorithm`.

    Returns:
        The outputs `(*batch, time, hidden)` and the final state.

    Raises:
        ValueError: As `recurrent`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_mingru(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.mingru(params, jnp.ones((2, 7, 3)), log_space=True, algorithm="associative")
        >>> y.shape, state.h.shape
        ((2, 7, 5), (2, 5))
    """
    return recurrent(mingru_cell(log_space=log_space), params, x, state, **options)


def init_mingru(
    key: jax.Array,
    features: int,
    hidden: int,
    *,
    kernel_init: Initializer | None = None,
    bias_init: Initializer = zeros,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> MinGRUParams:
    """Random parameters of a minGRU.

    Args:
        key: A random key.
        features: Number of input features.
        hidden: Number of hidden units.
        kernel_init: For `w_x`, given its whole shape; Glorot uniform for the gate and the candidate by default.
        bias_init: For `b`.
        dtype: Dtype of all parameters.

    Returns:
        The parameters.

    Raises:
        ValueError: If a size is not positive.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> params = F.init_mingru(jax.random.key(0), features=3, hidden=5)
        >>> params.w_x.shape, params.b.shape
        ((3, 10), (10,))
    """
    return MinGRUParams(*weights(key, features, hidden, 2, kernel_init, bias_init, dtype))


def _affine(params: MinGRUParams, g: jax.Array, *, log_space: bool) -> tuple[MinGRUState, MinGRUState]:
    z, of_x = jnp.split(g, 2, axis=-1)
    # 1 - σ(z) = σ(-z), which keeps its digits where the gate is nearly open.
    return MinGRUState(jax.nn.sigmoid(-z)), MinGRUState(jax.nn.sigmoid(z) * candidate(of_x, log_space=log_space))
