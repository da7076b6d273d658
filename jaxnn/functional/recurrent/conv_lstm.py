"""The convolutional LSTM, whose state is a picture: cell and layer."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from jaxnn.functional.arguments import SizesLike, functions, sizes
from jaxnn.functional.bound import Bound
from jaxnn.functional.conv import conv
from jaxnn.functional.paddings import PaddingLike, PadMode, check_mode, given_pairs
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.cell import Activation, Cell, two_part_cell
from jaxnn.functional.recurrent.conv_lstm_params import ConvLSTMParams, ConvLSTMState, check_kernels
from jaxnn.functional.recurrent.run import RunOptions, recurrent, recurrent_step
from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.recurrence import rows


def conv_lstm_step(
    params: ConvLSTMParams,
    state: ConvLSTMState,
    x: jax.typing.ArrayLike,
    *,
    stride: SizesLike = 1,
    padding: PaddingLike = "SAME",
    pad_mode: PadMode = "zeros",
    dilation: SizesLike = 1,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
) -> ConvLSTMState:
    r"""One step of a convolutional LSTM.

    .. math::

        \begin{aligned}
        (i_t, f_t, g_t, o_t) &= x_t * W_x + h_{t-1} * W_h + b \\
        c_t &= \sigma(f_t) \odot c_{t-1} + \sigma(i_t) \odot \tanh(g_t) \\
        h_t &= \sigma(o_t) \odot \tanh(c_t)
        \end{aligned}

    where :math:`*` is `conv`. If `params` holds a *peephole* :math:`p`, :math:`p_i \odot c_{t-1}` is added to
    :math:`i_t`, :math:`p_f \odot c_{t-1}` to :math:`f_t` and :math:`p_o \odot c_t` to :math:`o_t`. The convolution of
    the state has stride 1 and padding `"SAME"`: outside of the picture the state is zero, or what `pad_mode` says.

    Args:
        params: The layer's parameters; the gates are ordered i, f, g, o.
        state: `h` and `c` of shape `(*batch, *spatial, hidden)`, with the spatial size of the inputs' convolution; `c`
            is at least float32.
        x: `(*batch, *spatial, features)`.
        stride: Stride of the inputs' convolution, as in `conv`.
        padding: Padding of the inputs' convolution, as in `conv`.
        pad_mode: Contents of the padding of both convolutions, as in `conv`.
        dilation: Dilation of the inputs' convolution, as in `conv`.
        activation: Activation of the candidate and the cell state, :math:`\tanh` in the formula.
        gate_activation: Activation of the gates, :math:`\sigma` in the formula.

    Returns:
        The new state; its `h` is the step's output.

    Raises:
        ValueError: If shapes or dtypes do not fit each other.

    References:
        Shi et al., Convolutional LSTM network: a machine learning approach for precipitation nowcasting, 2015,
        https://arxiv.org/abs/1506.04214.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_conv_lstm(jax.random.key(0), features=2, hidden=3, window=(3, 3))
        >>> state = params.zero_state((4,), jnp.float32, size=(8, 6))
        >>> F.conv_lstm_step(params, state, jnp.ones((4, 8, 6, 2))).h.shape
        (4, 8, 6, 3)
    """
    x = check.array(x)
    cell = _cell_for(
        params,
        x,
        "*batch",
        stride=stride,
        padding=padding,
        pad_mode=pad_mode,
        dilation=dilation,
        activation=activation,
        gate_activation=gate_activation,
    )
    return recurrent_step(cell, params, state, x)


def conv_lstm_cell(
    size: Sequence[int],
    *,
    stride: SizesLike = 1,
    padding: PaddingLike = "SAME",
    pad_mode: PadMode = "zeros",
    dilation: SizesLike = 1,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
) -> Cell:
    """Returns the cell of `conv_lstm` for pictures of one size, for `recurrent` and functions that take any cell.

    Args:
        size: Spatial size of the inputs, one int per spatial axis. Parameters fit pictures of any size, but a zero
            state needs one.
        stride: As in `conv_lstm_step`.
        padding: As in `conv_lstm_step`.
        pad_mode: As in `conv_lstm_step`.
        dilation: As in `conv_lstm_step`.
        activation: As in `conv_lstm_step`.
        gate_activation: As in `conv_lstm_step`.

    Returns:
        The cell, of `ConvLSTMParams` and `ConvLSTMState`.

    Raises:
        ValueError: If an option does not fit the number of spatial axes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> cell = F.conv_lstm_cell((8, 6))
        >>> forward, backward = (F.init_conv_lstm(k, 2, 3, (3, 3)) for k in jax.random.split(jax.random.key(0)))
        >>> y, states = F.bidirectional(cell, forward, backward, jnp.ones((4, 5, 8, 6, 2)))
        >>> y.shape
        (4, 5, 8, 6, 6)
    """
    if not isinstance(size, Sequence):
        raise ValueError(
            f"size: expected one int per spatial axis, got {size!r}; give a tuple, ({size!r},) for one axis."
        )
    axes = len(size)
    window: dict[str, Any] = {
        "stride": sizes("stride", stride, axes),
        "padding": padding if isinstance(padding, str) else given_pairs(padding, axes),
        "pad_mode": pad_mode,
        "dilation": sizes("dilation", dilation, axes),
    }
    check_mode(pad_mode, (), ())
    functions(activation=activation, gate_activation=gate_activation)
    return two_part_cell(
        Bound(_zero_state, size=tuple(size), **window),
        Bound(_project, **window),
        Bound(_advance, pad_mode=pad_mode, activation=activation, gate_activation=gate_activation),
        feature_axes=axes + 1,
        check=Bound(_check, size=tuple(size), **window),
    )


def conv_lstm(
    params: ConvLSTMParams,
    x: jax.typing.ArrayLike,
    state: ConvLSTMState | None = None,
    *,
    stride: SizesLike = 1,
    padding: PaddingLike = "SAME",
    pad_mode: PadMode = "zeros",
    dilation: SizesLike = 1,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
    **options: Unpack[RunOptions],
) -> tuple[jax.Array, ConvLSTMState]:
    """Runs a convolutional LSTM over every time step; `conv_lstm_step` states the formula.

    The kernels determine the number of spatial axes; there may be any number of batch axes, including none.
    Half-precision inputs give half-precision outputs; convolutions are summed in float32, and the cell state stays
    float32.

    Args:
        params: The layer's parameters; the gates are ordered i, f, g, o.
        x: `(*batch, time, *spatial, features)`.
        state: The initial state, as in `conv_lstm_step`; zeros by default.
        stride: As in `conv_lstm_step`.
        padding: As in `conv_lstm_step`.
        pad_mode: As in `conv_lstm_step`.
        dilation: As in `conv_lstm_step`.
        activation: As in `conv_lstm_step`. It must be pure. Outside of `jax.jit`, a jitted function or one defined at
            the top level of a module is compiled once; any other is traced in every call.
        gate_activation: As in `conv_lstm_step`.
        **options: How the sequence is run, as in `recurrent`: `lengths`, `mask`, `reverse`, `resets`, `time_major`,
            `remat`, `truncate` and `algorithm`.

    Returns:
        The outputs `(*batch, time, *spatial, hidden)` and the final state, that after each sequence's last step.

    Raises:
        ValueError: As `recurrent` and `conv`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_conv_lstm(jax.random.key(0), features=2, hidden=3, window=(3, 3))
        >>> y, state = F.conv_lstm(params, jnp.ones((4, 5, 8, 6, 2)), lengths=jnp.array([5, 4, 2, 0]))
        >>> y.shape, state.c.shape
        ((4, 5, 8, 6, 3), (4, 8, 6, 3))
    """
    x = check.array(x)
    cell = _cell_for(
        params,
        x,
        "time, *batch" if options.get("time_major") else "*batch, time",
        stride=stride,
        padding=padding,
        pad_mode=pad_mode,
        dilation=dilation,
        activation=activation,
        gate_activation=gate_activation,
    )
    return recurrent(cell, params, x, state, **options)


def _cell_for(params: ConvLSTMParams, x: jax.Array, leading: str, **options: Any) -> Cell:
    """Returns the cell for pictures of the size of `x`. Checks the parameters first: they set the spatial axes."""
    check_kernels(check.arrays("params", params), x, f"({leading}, *spatial, features)")
    return conv_lstm_cell(x.shape[-1 - params.spatial : -1], **options)


def _check(params: ConvLSTMParams, x: jax.Array, axes: str, *, size: tuple[int, ...], **window: Any) -> None:
    check_kernels(params, x, axes)
    given = x.shape[-1 - params.spatial : -1]
    if given != size:
        raise ValueError(
            f"x: expected pictures of the size {size}, for which conv_lstm_cell was made, got {given}; make a cell for "
            "that size."
        )
    if params.peephole is not None:
        expected = (3, *_output_size(params, x.dtype, given, window), params.hidden)
        if params.peephole.shape != expected:
            raise ValueError(
                f"params.peephole: expected (3, *spatial, hidden) = {expected} for outputs of x {x.shape}, "
                f"got shape {params.peephole.shape}; peepholes fit pictures of one size."
            )


def _output_size(params: ConvLSTMParams, dtype: Any, size: tuple[int, ...], window: dict[str, Any]) -> tuple[int, ...]:
    x = jax.ShapeDtypeStruct((*size, params.w_x.shape[-2]), dtype)
    shape: tuple[int, ...] = jax.eval_shape(lambda x: conv(x, params.w_x, **window), x).shape
    return shape[:-1]


def _zero_state(
    params: ConvLSTMParams, batch: tuple[int, ...], dtype: Any, *, size: tuple[int, ...], **window: Any
) -> ConvLSTMState:
    return params.zero_state(batch, dtype, _output_size(params, dtype, size, window))


def _project(params: ConvLSTMParams, xs: jax.Array, **window: Any) -> jax.Array:
    of_x = widened(conv(xs, params.w_x, **window))
    return of_x + rows(params.b, of_x)


def _advance(
    params: ConvLSTMParams,
    state: ConvLSTMState,
    of_x: jax.Array,
    *,
    pad_mode: PadMode,
    activation: Activation,
    gate_activation: Activation,
) -> ConvLSTMState:
    h, c = state
    i, f, g, o = jnp.split(of_x + widened(conv(h, params.w_h, pad_mode=pad_mode)), 4, axis=-1)
    if params.peephole is not None:
        p_i, p_f, p_o = params.peephole
        i, f = i + rows(p_i, c) * c, f + rows(p_f, c) * c
    c = gate_activation(f) * c + gate_activation(i) * activation(g)
    if params.peephole is not None:
        o = o + rows(p_o, c) * c
    return ConvLSTMState((gate_activation(o) * activation(c)).astype(h.dtype), c)
