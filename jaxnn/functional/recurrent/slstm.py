"""The sLSTM, an LSTM with exponential gating: cell and layer."""

from typing import Literal, NamedTuple, Unpack, get_args

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform

from jaxnn.functional import arguments
from jaxnn.functional.arguments import drawn
from jaxnn.functional.bound import Bound, Static
from jaxnn.functional.exportable import exportable
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.cell import Cell, input_products, two_part_cell
from jaxnn.functional.recurrent.heads import divides, initial, product, rows_of
from jaxnn.functional.recurrent.init import Initializer, orthogonal, per_gate
from jaxnn.functional.recurrent.init_lstm import forget_bias
from jaxnn.functional.recurrent.run import RunOptions, recurrent, recurrent_step
from jaxnn.kernels.accumulate import accumulator
from jaxnn.shapes import shown

ForgetGate = Literal["sigmoid", "exp"]


@exportable
@shown
class SLSTMState(NamedTuple):
    """State of an sLSTM. All but `h` are at least float32, also where the inputs are half precision.

    Attributes:
        h: `(*batch, hidden)`, the output of the last step.
        c: `(*batch, hidden)`, the cell state, divided by `exp(m)`.
        n: `(*batch, hidden)`, the normaliser, divided by `exp(m)`: at least 1 after a step. Zero, as in `zero_state`,
            marks the start of a sequence: the next step then ignores `c` and `m`.
        m: `(*batch, hidden)`, the stabiliser: the largest logarithm among the weights of the steps in `c` and `n`.
    """

    h: jax.Array
    c: jax.Array
    n: jax.Array
    m: jax.Array


@exportable
@shown
class SLSTMParams(NamedTuple):
    """Parameters of an sLSTM; the gates are ordered i (input), f (forget), z (cell input), o (output).

    Attributes:
        w_x: `(features, 4 * hidden)`.
        w_h: `(heads, hidden / heads, 4 * hidden / heads)`, the columns of each head in the order of the gates, or
            `(hidden, 4 * hidden)`.
        b: `(4 * hidden,)`.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array

    @property
    def hidden(self) -> int:
        """Number of memory cells."""
        return rows_of(self.w_h)

    @property
    def output(self) -> int:
        """Number of output features."""
        return self.hidden

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> SLSTMState:
        """The default initial state for inputs of `dtype`."""
        batch = arguments.shape("batch", batch)
        h = jnp.zeros((*batch, self.hidden), dtype)
        return SLSTMState(h, *(jnp.zeros(h.shape, accumulator(dtype)) for _ in range(3)))


def slstm_step(
    params: SLSTMParams, state: SLSTMState, x: jax.typing.ArrayLike, *, forget_gate: ForgetGate = "sigmoid"
) -> SLSTMState:
    r"""One step of an sLSTM.

    .. math::

        \begin{aligned}
        (\tilde i_t, \tilde f_t, \tilde z_t, \tilde o_t) &= x_t W_x + h_{t-1} W_h + b \\
        m_t &= \max(\log f_t + m_{t-1}, \tilde i_t) \\
        i'_t &= \exp(\tilde i_t - m_t), \quad f'_t = \exp(\log f_t + m_{t-1} - m_t) \\
        c_t &= f'_t \odot c_{t-1} + i'_t \odot \tanh(\tilde z_t) \\
        n_t &= f'_t \odot n_{t-1} + i'_t \\
        h_t &= \sigma(\tilde o_t) \odot c_t / n_t
        \end{aligned}

    The forget gate is :math:`f_t = \sigma(\tilde f_t)` or :math:`f_t = \exp(\tilde f_t)`. The stabiliser :math:`m_t`
    cancels in :math:`h_t`. Without it, :math:`c_t` and :math:`n_t` would be sums with the weights
    :math:`\exp(\tilde i_s) f_{s+1} \cdots f_t`, which overflow.

    At the first step, where :math:`n_{t-1} = 0`, there is nothing to forget: :math:`m_t = \tilde i_t` and
    :math:`f'_t = 0`, as with :math:`m_0 = -\infty`. So :math:`c_1 = \tanh(\tilde z_1)` and :math:`n_1 = 1`, whatever
    :math:`\tilde i_1` and :math:`\tilde f_1` are.

    The layer is the paper's cell alone. The paper's block also has a convolution over time before the gates i and f,
    and normalises the outputs of every head.

    Args:
        params: The layer's parameters; the gates are ordered i, f, z, o.
        state: Four arrays `(*batch, hidden)`; all but `h` are at least float32.
        x: `(*batch, features)`.
        forget_gate: `"sigmoid"` or `"exp"`.

    Returns:
        The new state; its `h` is the step's output.

    Raises:
        ValueError: If shapes or dtypes do not fit each other, or `forget_gate` is unknown.

    References:
        Beck et al., xLSTM: Extended long short-term memory, 2024, https://arxiv.org/abs/2405.04517.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_slstm(jax.random.key(0), features=3, hidden=4, heads=2)
        >>> state = F.slstm_step(params, params.zero_state((2,), jnp.float32), jnp.ones((2, 3)))
        >>> state.h.shape, state.n[0].tolist()
        ((2, 4), [1.0, 1.0, 1.0, 1.0])
    """
    return recurrent_step(slstm_cell(forget_gate=forget_gate), params, state, x)


def slstm_cell(*, forget_gate: ForgetGate = "sigmoid") -> Cell:
    """Returns the cell of `slstm`, for `recurrent` and functions that take any cell.

    Args:
        forget_gate: As in `slstm_step`.

    Returns:
        The cell, of `SLSTMParams` and `SLSTMState`.

    Raises:
        ValueError: If `forget_gate` is unknown.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_slstm(jax.random.key(0), features=3, hidden=4)
        >>> y, state = F.recurrent(F.slstm_cell(forget_gate="exp"), params, jnp.ones((2, 7, 3)))
        >>> y.shape
        (2, 7, 4)
    """
    if forget_gate not in get_args(ForgetGate):
        raise ValueError(f"forget_gate: expected 'sigmoid' or 'exp', got {forget_gate!r}; choose one of these.")
    return two_part_cell(
        SLSTMParams.zero_state,
        input_products,
        Bound(_advance, forget_gate=forget_gate),
        check=Bound(check.gated, kind=Static(SLSTMParams), gates=4, heads=True),
    )


def slstm(
    params: SLSTMParams,
    x: jax.typing.ArrayLike,
    state: SLSTMState | None = None,
    *,
    forget_gate: ForgetGate = "sigmoid",
    **options: Unpack[RunOptions],
) -> tuple[jax.Array, SLSTMState]:
    """Runs an sLSTM over every time step; `slstm_step` states the formula.

    Accepts any number of batch axes, including none. Half-precision inputs give half-precision outputs; products are
    summed and gates computed in float32, and the state except `h` stays float32.

    Args:
        params: The layer's parameters; the gates are ordered i, f, z, o.
        x: `(*batch, time, features)`.
        state: The initial state; zeros by default.
        forget_gate: As in `slstm_step`.
        **options: How the sequence is run, as in `recurrent`: `lengths`, `mask`, `reverse`, `resets`, `time_major`,
            `remat`, `truncate` and `algorithm`.

    Returns:
        The outputs `(*batch, time, hidden)` and the final state, that after each sequence's last step.

    Raises:
        ValueError: As `recurrent`, or if `forget_gate` is unknown.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_slstm(jax.random.key(0), features=3, hidden=4, heads=2)
        >>> y, state = F.slstm(params, jnp.ones((2, 7, 3)), lengths=jnp.array([7, 4]))
        >>> y.shape, state.m.shape
        ((2, 7, 4), (2, 4))
    """
    return recurrent(slstm_cell(forget_gate=forget_gate), params, x, state, **options)


def init_slstm(
    key: jax.Array,
    features: int,
    hidden: int,
    *,
    heads: int | None = None,
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> SLSTMParams:
    """Random parameters of an sLSTM.

    Args:
        key: A random key.
        features: Number of input features.
        hidden: Number of memory cells.
        heads: Number of heads, a divisor of `hidden`: the gates of a head see the outputs of that head alone. None
            makes dense recurrent weights.
        kernel_init: For `w_x`, given its whole shape; Glorot uniform for each gate by default.
        recurrent_kernel_init: For `w_h`, given the shape of one head, or the whole shape without heads; orthogonal for
            each gate by default.
        bias_init: For `b`; `forget_bias(1.0)` by default.
        dtype: Dtype of all parameters.

    Returns:
        The parameters.

    Raises:
        ValueError: If a size is not positive or `heads` does not divide `hidden`.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> params = F.init_slstm(jax.random.key(0), features=3, hidden=4, heads=2)
        >>> params.w_x.shape, params.w_h.shape, params.b.shape
        ((3, 16), (2, 2, 8), (16,))
    """
    check.init(key, features=features, hidden=hidden)
    divides(heads, hidden=hidden)
    k_x, k_h, k_b = jax.random.split(key, 3)
    return SLSTMParams(
        w_x=drawn("kernel_init", kernel_init or per_gate(glorot_uniform(), 4), k_x, (features, 4 * hidden), dtype),
        w_h=initial(k_h, recurrent_kernel_init or per_gate(orthogonal, 4), hidden, 4 * hidden, heads, dtype),
        b=drawn("bias_init", bias_init or forget_bias(1.0), k_b, (4 * hidden,), dtype),
    )


def _advance(params: SLSTMParams, state: SLSTMState, of_x: jax.Array, *, forget_gate: ForgetGate) -> SLSTMState:
    i, f, z, o = jnp.split(of_x + product(state.h, params.w_h, 4), 4, axis=-1)
    log_f = f if forget_gate == "exp" else jax.nn.log_sigmoid(f)
    # Before the first step, the weight of the old state is exp(-inf): zero, and so are its derivatives.
    before = jnp.where(state.n > 0, log_f + state.m, -jnp.inf)
    m = jnp.maximum(before, i)
    keep, add = jnp.exp(before - m), jnp.exp(i - m)
    c = keep * state.c + add * jnp.tanh(z)
    n = keep * state.n + add
    return SLSTMState((jax.nn.sigmoid(o) * (c / n)).astype(state.h.dtype), c, n, m)
