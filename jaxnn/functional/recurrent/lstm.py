"""The long short-term memory and its variants: cell and layer."""

from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp

from jaxnn.functional import arguments
from jaxnn.functional.arguments import functions
from jaxnn.functional.bound import Bound
from jaxnn.functional.exportable import exportable
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.cell import Activation, Cell, NotServedError
from jaxnn.functional.recurrent.fused import check_activations
from jaxnn.functional.recurrent.heads import columns_of, product, rows_of
from jaxnn.functional.recurrent.run import RunOptions, recurrent, recurrent_step
from jaxnn.kernels import lstm as kernels
from jaxnn.kernels.accumulate import accumulator
from jaxnn.kernels.recurrence import dot, rows
from jaxnn.shapes import shown


@exportable
@shown
class LSTMState(NamedTuple):
    """State of an LSTM.

    Attributes:
        h: `(*batch, output)`, the output of the last step: `output` is the projection's size, else `hidden`.
        c: `(*batch, hidden)`, the cell state. At least float32, also where the inputs are half precision:
            it is a long sum of small terms.
    """

    h: jax.Array
    c: jax.Array


@exportable
@shown
class LSTMNorm(NamedTuple):
    """Gains and shift of a layer-normalised LSTM (Ba et al. 2016); the products' shifts are the bias `b`.

    Attributes:
        x: `(gates * hidden,)`, gain on the normalised input product.
        h: `(gates * hidden,)`, gain on the normalised recurrent product.
        c: `(hidden,)`, gain on the normalised cell state.
        c_shift: `(hidden,)`, shift of the normalised cell state.
    """

    x: jax.Array
    h: jax.Array
    c: jax.Array
    c_shift: jax.Array


@exportable
@shown
class LSTMParams(NamedTuple):
    """Parameters of an LSTM; the gates are ordered i (input), f (forget), g (candidate), o (output).

    The parameters determine the variant, so no flag can contradict them: three gates (f, g, o) instead of four couple
    the input and forget gates, `i = 1 - f`; each optional part is used if it is present.

    Attributes:
        w_x: `(features, gates * hidden)`.
        w_h: `(output, gates * hidden)`; `output` is `hidden` without a projection. With heads
            `(heads, output / heads, gates * hidden / heads)`: each head's gates see the outputs of that head alone,
            and the columns of each head are in the order of the gates.
        b: `(gates * hidden,)`.
        peephole: `(gates - 1, hidden)`, diagonal weights from the cell state to i, f, o (coupled: f, o).
        projection: `(hidden, output)`.
        norm: Gains of the layer normalisation.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array
    peephole: jax.Array | None = None
    projection: jax.Array | None = None
    norm: LSTMNorm | None = None

    @property
    def hidden(self) -> int:
        """Number of memory cells."""
        return self.output if self.projection is None else self.projection.shape[0]

    @property
    def output(self) -> int:
        """Number of output features."""
        return rows_of(self.w_h)

    @property
    def gates(self) -> int:
        """Four, or three where the input and forget gates are coupled."""
        return columns_of(self.w_h) // self.hidden

    def zero_state(self, batch: tuple[int, ...], dtype: jax.typing.DTypeLike) -> LSTMState:
        """The default initial state for inputs of `dtype`."""
        batch = arguments.shape("batch", batch)
        h = jnp.zeros((*batch, self.output), dtype)
        return LSTMState(h, jnp.zeros((*batch, self.hidden), accumulator(dtype)))


def lstm_step(
    params: LSTMParams,
    state: LSTMState,
    x: jax.typing.ArrayLike,
    *,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
) -> LSTMState:
    r"""One step of a long short-term memory.

    .. math::

        \begin{aligned}
        (i_t, f_t, g_t, o_t) &= x_t W_x + h_{t-1} W_h + b \\
        c_t &= \sigma(f_t) \odot c_{t-1} + \sigma(i_t) \odot \tanh(g_t) \\
        h_t &= \sigma(o_t) \odot \tanh(c_t)
        \end{aligned}

    Optional parts of `params` change the formula:

    - *peephole* :math:`p`: :math:`p_i \odot c_{t-1}` is added to :math:`i_t`, :math:`p_f \odot c_{t-1}` to :math:`f_t`,
      :math:`p_o \odot c_t` to :math:`o_t`.
    - *projection* :math:`P`: :math:`h_t = (\sigma(o_t) \odot \tanh(c_t)) P`.
    - *three gates* (f, g, o): :math:`1 - \sigma(f_t)` replaces :math:`\sigma(i_t)` (coupled gates).
    - *heads*: :math:`W_h` is block-diagonal.
    - *norm*: :math:`\mathrm{LN}(x_t W_x) \odot \alpha_x + \mathrm{LN}(h_{t-1} W_h) \odot \alpha_h + b` are the
      gates, and the output sees :math:`\tanh(\mathrm{LN}(c_t) \odot \alpha_c + \beta_c)`; each product is
      normalised over all its gates together, as in the paper, with :math:`\epsilon = 10^{-5}` added to the
      variance.

    Args:
        params: The layer's parameters; the gates are ordered i, f, g, o.
        state: `h` of shape `(*batch, output)` and `c` of shape `(*batch, hidden)`; `c` is at least float32.
        x: `(*batch, features)`.
        activation: Activation of the candidate and the cell state, :math:`\tanh` in the formula.
        gate_activation: Activation of the gates, :math:`\sigma` in the formula.

    Returns:
        The new state; its `h` is the step's output.

    Raises:
        ValueError: If shapes or dtypes do not fit each other.

    References:
        Hochreiter, Schmidhuber: Long short-term memory, 1997. Gers, Schmidhuber, Cummins: Learning to forget,
        2000. Gers, Schmidhuber: Recurrent nets that time and count, 2000 (peepholes). Sak, Senior, Beaufays:
        Long short-term memory recurrent neural network architectures for large scale acoustic modeling, 2014
        (projection). Ba, Kiros, Hinton: Layer normalization, 2016. Greff et al.: LSTM: a search space
        odyssey, 2017.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_lstm(jax.random.key(0), features=3, hidden=5)
        >>> state = F.lstm_step(params, params.zero_state((2,), jnp.float32), jnp.ones((2, 3)))
        >>> state.h.shape, state.c.shape
        ((2, 5), (2, 5))
    """
    return recurrent_step(lstm_cell(activation=activation, gate_activation=gate_activation), params, state, x)


def _step(
    params: LSTMParams,
    state: LSTMState,
    x: jax.Array,
    *,
    activation: Activation,
    gate_activation: Activation,
) -> LSTMState:
    of_x, of_h = dot(x, params.w_x), product(state.h, params.w_h, params.gates)
    if params.norm is not None:
        of_x, of_h = _normalise(of_x, params.norm.x), _normalise(of_h, params.norm.h)
    pre = of_x + of_h
    *i, f, g, o = jnp.split(pre + rows(params.b, pre), params.gates, axis=-1)
    c = state.c
    if params.peephole is not None:
        *p_i, p_f, p_o = params.peephole
        i = [a + rows(p, c) * c for a, p in zip(i, p_i, strict=True)]
        f = f + rows(p_f, c) * c
    f = gate_activation(f)
    c = f * c + (gate_activation(i[0]) if i else 1 - f) * activation(g)
    if params.peephole is not None:
        o = o + rows(p_o, c) * c
    seen = c if params.norm is None else _normalise(c, params.norm.c) + rows(params.norm.c_shift, c)
    h = gate_activation(o) * activation(seen)
    if params.projection is not None:
        h = dot(h.astype(x.dtype), params.projection)
    return LSTMState(h.astype(x.dtype), c)


def lstm_cell(*, activation: Activation = jnp.tanh, gate_activation: Activation = jax.nn.sigmoid) -> Cell:
    """Returns the cell of `lstm`, for `recurrent` and functions that take any cell.

    Args:
        activation: As in `lstm_step`.
        gate_activation: As in `lstm_step`.

    Returns:
        The cell, of `LSTMParams` and `LSTMState`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_lstm(jax.random.key(0), features=3, hidden=5)
        >>> F.recurrent(F.lstm_cell(activation=jax.nn.relu), params, jnp.ones((2, 7, 3)))[0].shape
        (2, 7, 5)
    """
    options = {"activation": activation, "gate_activation": gate_activation}
    functions(activation=activation, gate_activation=gate_activation)
    return Cell(LSTMParams.zero_state, Bound(_step, **options), check=_check, fused=Bound(_fused, **options))


def lstm(
    params: LSTMParams,
    x: jax.typing.ArrayLike,
    state: LSTMState | None = None,
    *,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
    **options: Unpack[RunOptions],
) -> tuple[jax.Array, LSTMState]:
    """Runs a long short-term memory over every time step; `lstm_step` states the formula.

    Accepts any number of batch axes, including none. Half-precision inputs give half-precision outputs; products are
    summed and gates computed in float32, and the cell state stays float32.

    Args:
        params: The layer's parameters; the gates are ordered i, f, g, o. Heads, peepholes, projection, coupled gates
            and layer normalisation are used if `params` holds them.
        x: `(*batch, time, features)`.
        state: The initial state, `h` of shape `(*batch, output)` and `c` of shape `(*batch, hidden)`; zeros
            by default.
        activation: As in `lstm_step`. It must be pure. Outside of `jax.jit`, a jitted function or one defined at the
            top level of a module is compiled once; any other is traced in every call.
        gate_activation: As in `lstm_step`.
        **options: How the sequence is run, as in `recurrent`: `lengths`, `mask`, `reverse`, `resets`, `time_major`,
            `remat`, `truncate` and `algorithm`.

    Returns:
        The outputs `(*batch, time, output)` and the final state, that after each sequence's last step.

    Raises:
        ValueError: As `recurrent`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> params = F.init_lstm(jax.random.key(0), features=3, hidden=5)
        >>> y, state = F.lstm(params, jnp.ones((2, 7, 3)), lengths=jnp.array([7, 4]))
        >>> y.shape, state.h.shape, state.c.shape
        ((2, 7, 5), (2, 5), (2, 5))
        >>> bool((y[1, 4:] == 0).all()), bool((y[1, 3] == state.h[1]).all())
        (True, True)
    """
    return recurrent(lstm_cell(activation=activation, gate_activation=gate_activation), params, x, state, **options)


def _check(p: LSTMParams, x: jax.Array, axes: str) -> None:
    check.weights(p, LSTMParams, heads=True)
    if p.projection is not None and p.projection.ndim != 2:
        raise ValueError(f"params.projection: expected (hidden, output), got shape {p.projection.shape}")
    h, out, width = p.hidden, p.output, columns_of(p.w_h)
    if width not in (4 * h, 3 * h) or p.w_h.shape[-1] % p.gates:
        raise ValueError(
            "params.w_h: expected 4 * hidden columns (i, f, g, o), or 3 * hidden (f, g, o: coupled), for hidden "
            f"{h}, got shape {p.w_h.shape}"
        )
    optional = {"peephole": (p.gates - 1, h), "projection": (h, out)}
    held = {name: shape for name, shape in optional.items() if getattr(p, name) is not None}
    check.shapes({"w_x": (p.w_x.shape[0], width), "b": (width,), **held}, p)
    if p.norm is not None:
        for name, size in (("x", width), ("h", width), ("c", h), ("c_shift", h)):
            if getattr(p.norm, name).shape != (size,):
                raise ValueError(f"params.norm.{name}: expected shape {(size,)}, got {getattr(p.norm, name).shape}")
    check.features(p, x, axes)


def _fused(params: LSTMParams, *, activation: Activation, gate_activation: Activation) -> tuple[Any, Any]:
    check_activations(activation, gate_activation)
    held = [part for part in ("peephole", "projection", "norm") if getattr(params, part) is not None]
    if held:
        raise NotServedError(f"no support for {' and '.join(held)}")
    if params.gates == 3:
        raise NotServedError("no support for coupled gates")
    if params.w_h.ndim == 3:
        raise NotServedError("no support for heads")
    return kernels.LSTM, params


def _normalise(a: jax.Array, gain: jax.Array) -> jax.Array:
    """Layer normalisation over the last axis."""
    centred = a - jnp.mean(a, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * rows(gain, a)
