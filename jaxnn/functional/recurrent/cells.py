"""One step of each recurrent layer, as its formula stands. The layers scan exactly these."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.params import (
    GRUParams,
    GRUState,
    LSTMParams,
    LSTMState,
    Params,
    RNNParams,
    RNNState,
    State,
)
from jaxnn.kernels.accumulate import accumulator

Activation = Callable[[jax.Array], jax.Array]


def rnn_step(params: RNNParams, state: RNNState, x: jax.Array, *, activation: Activation = jnp.tanh) -> RNNState:
    r"""One step of a simple recurrent layer.

    $$h_t = \phi(x_t W_x + h_{t-1} W_h + b)$$

    Args:
        params: the layer's parameters.
        state: `h` of shape `(*batch, hidden)`.
        x: `(*batch, features)`.
        activation: $\phi$.

    Returns:
        The new state; its `h` is the step's output.

    Raises:
        ValueError: shapes or dtypes do not fit each other.

    References:
        Elman: Finding structure in time, 1990.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.recurrent import init_rnn, rnn_step
        >>> params = init_rnn(jax.random.key(0), features=3, hidden=5)
        >>> state = rnn_step(params, params.zero_state((2,), jnp.float32), jnp.ones((2, 3)))
        >>> state.h.shape
        (2, 5)
    """
    check.params(params, RNNParams)
    _check(params, state, x)
    a = _dot(x, params.w_x) + _dot(state.h, params.w_h)
    return RNNState(activation(a + _rows(params.b, a)).astype(x.dtype))


def gru_step(
    params: GRUParams,
    state: GRUState,
    x: jax.Array,
    *,
    reset_after: bool = True,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
) -> GRUState:
    r"""One step of a gated recurrent unit.

    $$
    \begin{aligned}
    r_t &= \sigma(x_t W_{xr} + h_{t-1} W_{hr} + b_r) \\
    z_t &= \sigma(x_t W_{xz} + h_{t-1} W_{hz} + b_z) \\
    n_t &= \tanh(x_t W_{xn} + b_n + r_t \odot (h_{t-1} W_{hn} + b_{hn})) && \text{reset after the product} \\
    n_t &= \tanh(x_t W_{xn} + b_n + (r_t \odot h_{t-1}) W_{hn} + b_{hn}) && \text{reset before the product} \\
    h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}
    \end{aligned}
    $$

    Args:
        params: the layer's parameters; gates stand in the order r, z, n.
        state: `h` of shape `(*batch, hidden)`.
        x: `(*batch, features)`.
        reset_after: whether the reset gate is applied after the recurrent product (PyTorch, cuDNN, Keras's
            default) or before it (the paper).
        activation: the candidate's, $\tanh$ in the formula.
        gate_activation: the gates', $\sigma$ in the formula.

    Returns:
        The new state; its `h` is the step's output.

    Raises:
        ValueError: shapes or dtypes do not fit each other.

    References:
        Cho et al.: Learning phrase representations using RNN encoder-decoder, 2014.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.recurrent import init_gru, gru_step
        >>> params = init_gru(jax.random.key(0), features=3, hidden=5)
        >>> state = gru_step(params, params.zero_state((2,), jnp.float32), jnp.ones((2, 3)))
        >>> state.h.shape
        (2, 5)
    """
    check.params(params, GRUParams)
    _check(params, state, x)
    n_at = 2 * params.hidden
    of_x = _dot(x, params.w_x)
    of_x = of_x + _rows(params.b, of_x)
    h = state.h.astype(of_x.dtype)
    b_hn = _rows(params.b_hn, h)
    if reset_after:
        of_h = _dot(state.h, params.w_h)
        r, z = jnp.split(gate_activation(of_x[..., :n_at] + of_h[..., :n_at]), 2, axis=-1)
        n = activation(of_x[..., n_at:] + r * (of_h[..., n_at:] + b_hn))
    else:
        r, z = jnp.split(gate_activation(of_x[..., :n_at] + _dot(state.h, params.w_h[:, :n_at])), 2, axis=-1)
        n = activation(of_x[..., n_at:] + _dot((r * h).astype(x.dtype), params.w_h[:, n_at:]) + b_hn)
    # The formula with h taken out: a closed update gate (z = 1) keeps h to the last bit, and with one product
    # instead of two, compilers have no choice of which to fuse, so a step and a scan round alike.
    return GRUState((h + (1 - z) * (n - h)).astype(x.dtype))


def lstm_step(
    params: LSTMParams,
    state: LSTMState,
    x: jax.Array,
    *,
    activation: Activation = jnp.tanh,
    gate_activation: Activation = jax.nn.sigmoid,
) -> LSTMState:
    r"""One step of a long short-term memory.

    $$
    \begin{aligned}
    (i_t, f_t, g_t, o_t) &= x_t W_x + h_{t-1} W_h + b \\
    c_t &= \sigma(f_t) \odot c_{t-1} + \sigma(i_t) \odot \tanh(g_t) \\
    h_t &= \sigma(o_t) \odot \tanh(c_t)
    \end{aligned}
    $$

    What `params` holds beyond the three weights changes the formula:

    - *peephole* $p$: $p_i \odot c_{t-1}$ is added to $i_t$, $p_f \odot c_{t-1}$ to $f_t$, $p_o \odot c_t$ to
      $o_t$.
    - *projection* $P$: $h_t = (\sigma(o_t) \odot \tanh(c_t)) P$.
    - *three gates* (f, g, o): coupled, $1 - \sigma(f_t)$ stands in the place of $\sigma(i_t)$.
    - *norm*: $\mathrm{LN}(x_t W_x) \odot \alpha_x + \mathrm{LN}(h_{t-1} W_h) \odot \alpha_h + b$ are the
      gates, and the output sees $\tanh(\mathrm{LN}(c_t) \odot \alpha_c + \beta_c)$; each product is
      normalised over all its gates together, as in the paper, with $\epsilon = 10^{-5}$ added to the
      variance.

    Args:
        params: the layer's parameters; gates stand in the order i, f, g, o.
        state: `h` of shape `(*batch, output)` and `c` of shape `(*batch, hidden)`; `c` is at least float32.
        x: `(*batch, features)`.
        activation: the candidate's and the cell's, $\tanh$ in the formula.
        gate_activation: the gates', $\sigma$ in the formula.

    Returns:
        The new state; its `h` is the step's output.

    Raises:
        ValueError: shapes or dtypes do not fit each other.

    References:
        Hochreiter, Schmidhuber: Long short-term memory, 1997. Gers, Schmidhuber, Cummins: Learning to forget,
        2000. Gers, Schmidhuber: Recurrent nets that time and count, 2000 (peepholes). Sak, Senior, Beaufays:
        Long short-term memory recurrent neural network architectures for large scale acoustic modeling, 2014
        (projection). Ba, Kiros, Hinton: Layer normalization, 2016. Greff et al.: LSTM: a search space
        odyssey, 2017.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.recurrent import init_lstm, lstm_step
        >>> params = init_lstm(jax.random.key(0), features=3, hidden=5)
        >>> state = lstm_step(params, params.zero_state((2,), jnp.float32), jnp.ones((2, 3)))
        >>> state.h.shape, state.c.shape
        ((2, 5), (2, 5))
    """
    check.params(params, LSTMParams)
    _check(params, state, x)
    of_x, of_h = _dot(x, params.w_x), _dot(state.h, params.w_h)
    if params.norm is not None:
        of_x, of_h = _normalise(of_x, params.norm.x), _normalise(of_h, params.norm.h)
    pre = of_x + of_h
    *i, f, g, o = jnp.split(pre + _rows(params.b, pre), params.gates, axis=-1)
    c = state.c
    if params.peephole is not None:
        *p_i, p_f, p_o = params.peephole
        i = [a + _rows(p, c) * c for a, p in zip(i, p_i, strict=True)]
        f = f + _rows(p_f, c) * c
    f = gate_activation(f)
    c = f * c + (gate_activation(i[0]) if i else 1 - f) * activation(g)
    if params.peephole is not None:
        o = o + _rows(p_o, c) * c
    seen = c if params.norm is None else _normalise(c, params.norm.c) + _rows(params.norm.c_shift, c)
    h = gate_activation(o) * activation(seen)
    if params.projection is not None:
        h = _dot(h.astype(x.dtype), params.projection)
    return LSTMState(h.astype(x.dtype), c)


def _check(params: Params, state: State, x: jax.Array) -> None:
    check.inputs(params, x, "(*batch, features)")
    check.state(params, state, x.shape[:-1], x.dtype)


def _dot(a: jax.Array, w: jax.Array) -> jax.Array:
    """`a @ w`, summed and returned in at least float32."""
    return jnp.dot(a, w, preferred_element_type=accumulator(a.dtype))


def _rows(v: jax.Array, like: jax.Array) -> jax.Array:
    """A vector repeated for every batch element of `like`."""
    return jnp.broadcast_to(v.astype(like.dtype), like.shape)


def _normalise(a: jax.Array, gain: jax.Array) -> jax.Array:
    """Layer normalisation over the last axis."""
    centred = a - jnp.mean(a, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + 1e-5) * _rows(gain, a)
