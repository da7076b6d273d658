"""The gated recurrent unit: cell and layer, with the reset gate before or after the recurrent product."""

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
from jaxnn.functional.recurrent.fused import check_activations
from jaxnn.functional.recurrent.heads import divides, initial, product, rows_of
from jaxnn.functional.recurrent.init import Initializer, orthogonal, per_gate
from jaxnn.functional.recurrent.run import RunOptions, recurrent, recurrent_step
from jaxnn.kernels import gru as kernels
from jaxnn.kernels.recurrence import projected, rows
from jaxnn.shapes import shown


@exportable
@shown
class GRUState(NamedTuple):
    """State of a GRU.

    Attributes:
        h: `(*batch, hidden)`, the output of the last step.
    """

    h: jax.Array


@exportable
@shown
class GRUParams(NamedTuple):
    """Parameters of a GRU; the gates are ordered r (reset), z (update), n (candidate).

    Attributes:
        w_x: `(features, 3 * hidden)`.
        w_h: `(hidden, 3 * hidden)`, or `(heads, hidden / heads, 3 * hidden / heads)`: then each head's gates see the
            units of that head alone, and the columns of each head are in the order of the gates.
        b: `(3 * hidden,)`.
        b_hn: `(hidden,)`, the candidate's recurrent bias: it sits inside the reset product, so it cannot be
            merged into `b`. The recurrent biases that other libraries keep for r and z are added to `b`.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array
    b_hn: jax.Array

    @property
    def hidden(self) -> int:
        """Number of hidden units."""
        return rows_of(self.w_h)

    @property
    def output(self) -> int:
        """Number of output features."""
        return self.hidden

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> GRUState:
        """The default initial state for inputs of `dtype`."""
        batch = arguments.shape("batch", batch)
        return GRUState(jnp.zeros((*batch, self.hidden), dtype))


def gru_step(
    params: GRUParams,
    state: GRUState,
    x: jax.typing.ArrayLike,
    *,
    reset_after: bool = True,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
) -> GRUState:
    r"""One step of a gated recurrent unit.

    .. math::

        \begin{aligned}
        r_t &= \sigma(x_t W_{xr} + h_{t-1} W_{hr} + b_r) \\
        z_t &= \sigma(x_t W_{xz} + h_{t-1} W_{hz} + b_z) \\
        n_t &= \tanh(x_t W_{xn} + b_n + r_t \odot (h_{t-1} W_{hn} + b_{hn})) && \text{reset after the product} \\
        n_t &= \tanh(x_t W_{xn} + b_n + (r_t \odot h_{t-1}) W_{hn} + b_{hn}) && \text{reset before the product} \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}
        \end{aligned}

    Args:
        params: The layer's parameters; the gates are ordered r, z, n.
        state: `h` of shape `(*batch, hidden)`.
        x: `(*batch, features)`.
        reset_after: Whether the reset gate is applied after the recurrent product (PyTorch, cuDNN, Keras's
            default) or before it (the paper).
        activation: Activation of the candidate, :math:`\tanh` in the formula.
        gate_activation: Activation of the gates, :math:`\sigma` in the formula.

    Returns:
        The new state; its `h` is the step's output.

    Raises:
        ValueError: If shapes or dtypes do not fit each other.

    References:
        Cho et al.: Learning phrase representations using RNN encoder-decoder, 2014.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_gru(jax.random.key(0), features=3, hidden=5)
        >>> state = F.gru_step(params, params.zero_state((2,), jnp.float32), jnp.ones((2, 3)))
        >>> state.h.shape
        (2, 5)
    """
    return recurrent_step(
        gru_cell(reset_after=reset_after, activation=activation, gate_activation=gate_activation), params, state, x
    )


def _step(
    params: GRUParams,
    state: GRUState,
    x: jax.Array,
    *,
    reset_after: bool,
    activation: Activation,
    gate_activation: Activation,
) -> GRUState:
    n_at = 2 * params.hidden
    of_x = projected(x, params.w_x, params.b)
    h = state.h.astype(of_x.dtype)
    b_hn = rows(params.b_hn, h)
    if reset_after:
        of_h = product(state.h, params.w_h, 3)
        r, z = jnp.split(gate_activation(of_x[..., :n_at] + of_h[..., :n_at]), 2, axis=-1)
        n = activation(of_x[..., n_at:] + r * (of_h[..., n_at:] + b_hn))
    else:
        at = 2 * params.w_h.shape[-2]
        r, z = jnp.split(gate_activation(of_x[..., :n_at] + product(state.h, params.w_h[..., :at], 2)), 2, axis=-1)
        n = activation(of_x[..., n_at:] + product((r * h).astype(x.dtype), params.w_h[..., at:], 1) + b_hn)
    # The formula, rearranged to h + (1 - z)(n - h). A closed update gate (z = 1) keeps h to the last bit. With one
    # product instead of two, compilers cannot choose which one to fuse, so a step and a scan round alike.
    return GRUState((h + (1 - z) * (n - h)).astype(x.dtype))


def gru_cell(
    *, reset_after: bool = True, activation: Activation = jnp.tanh, gate_activation: Activation = jax.nn.sigmoid
) -> Cell:
    """Returns the cell of `gru`, for `recurrent` and functions that take any cell.

    Args:
        reset_after: As in `gru_step`.
        activation: As in `gru_step`.
        gate_activation: As in `gru_step`.

    Returns:
        The cell, of `GRUParams` and `GRUState`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_gru(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.recurrent(F.gru_cell(reset_after=False), params, jnp.ones((2, 7, 3)))
        >>> y.shape
        (2, 7, 5)
    """
    options = {"reset_after": bool(reset_after), "activation": activation, "gate_activation": gate_activation}
    functions(activation=activation, gate_activation=gate_activation)
    return Cell(
        GRUParams.zero_state,
        Bound(_step, **options),
        check=Bound(check.gated, kind=Static(GRUParams), gates=3, heads=True),
        fused=Bound(_fused, **options),
    )


def gru(
    params: GRUParams,
    x: jax.typing.ArrayLike,
    state: GRUState | None = None,
    *,
    reset_after: bool = True,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
    **options: Unpack[RunOptions],
) -> tuple[jax.Array, GRUState]:
    """Runs gated recurrent units over every time step; `gru_step` states the formula.

    Args:
        params: The layer's parameters; the gates are ordered r, z, n.
        x: `(*batch, time, features)`.
        state: The initial state, `h` of shape `(*batch, hidden)`; zeros by default.
        reset_after: As in `gru_step`.
        activation: As in `gru_step`. It must be pure. Outside of `jax.jit`, a jitted function or one defined at the top
            level of a module is compiled once; any other is traced in every call.
        gate_activation: As in `gru_step`.
        **options: How the sequence is run, as in `recurrent`: `lengths`, `mask`, `reverse`, `resets`, `time_major`,
            `remat`, `truncate` and `algorithm`.

    Returns:
        The outputs `(*batch, time, hidden)` and the final state.

    Raises:
        ValueError: As `recurrent`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_gru(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.gru(params, jnp.ones((2, 7, 3)), reset_after=False)
        >>> y.shape, state.h.shape
        ((2, 7, 5), (2, 5))
    """
    cell = gru_cell(reset_after=reset_after, activation=activation, gate_activation=gate_activation)
    return recurrent(cell, params, x, state, **options)


def init_gru(
    key: jax.Array,
    features: int,
    hidden: int,
    *,
    heads: int | None = None,
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer = zeros,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> GRUParams:
    """Random parameters of a GRU.

    Args:
        key: A random key.
        features: Number of input features.
        hidden: Number of hidden units.
        heads: Number of heads, a divisor of `hidden`: the recurrent weights are block-diagonal, one block per head.
            None makes dense recurrent weights.
        kernel_init: For `w_x`, given its whole shape; Glorot uniform for each gate by default.
        recurrent_kernel_init: For `w_h`, given its whole shape, or that of one head; orthogonal for each gate by
            default.
        bias_init: For `b` and `b_hn`.
        dtype: Dtype of all parameters.

    Returns:
        The parameters.

    Raises:
        ValueError: If a size is not a positive integer, or `heads` does not divide `hidden`.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> params = F.init_gru(jax.random.key(0), features=3, hidden=5)
        >>> params.w_x.shape, params.w_h.shape, params.b.shape, params.b_hn.shape
        ((3, 15), (5, 15), (15,), (5,))
    """
    check.init(key, features=features, hidden=hidden)
    divides(heads, hidden=hidden)
    k_x, k_h, k_b, k_n = jax.random.split(key, 4)
    return GRUParams(
        w_x=drawn("kernel_init", kernel_init or per_gate(glorot_uniform(), 3), k_x, (features, 3 * hidden), dtype),
        w_h=initial(k_h, recurrent_kernel_init or per_gate(orthogonal, 3), hidden, 3 * hidden, heads, dtype),
        b=drawn("bias_init", bias_init, k_b, (3 * hidden,), dtype),
        b_hn=drawn("bias_init", bias_init, k_n, (hidden,), dtype),
    )


def _fused(
    params: GRUParams, *, reset_after: bool, activation: Activation, gate_activation: Activation
) -> tuple[Any, Any]:
    check_activations(activation, gate_activation)
    if params.w_h.ndim == 3:
        raise NotServedError("no support for heads")
    return kernels.RESET_AFTER if reset_after else kernels.RESET_BEFORE, params
