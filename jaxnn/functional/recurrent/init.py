"""Random parameters for the recurrent layers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform, lecun_normal, zeros

from jaxnn.functional.recurrent.params import GRUParams, LSTMNorm, LSTMParams, RNNParams
from jaxnn.kernels.accumulate import accumulator

Initializer = Callable[..., jax.Array]  # `(key, shape, dtype)`, as in jax.nn.initializers


def per_gate(init: Initializer, gates: int) -> Initializer:
    """An initialiser that draws each gate's block of columns by itself.

    `init` then sees the shape of one gate, `(rows, hidden)`: an orthogonal recurrent matrix is orthogonal for
    every gate, and a fan-out is that of one gate.

    Args:
        init: an initialiser as in `jax.nn.initializers`.
        gates: the number of blocks.

    Returns:
        An initialiser for shapes `(rows, gates * hidden)`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.recurrent import per_gate
        >>> w = per_gate(jax.nn.initializers.orthogonal(), 4)(jax.random.key(0), (8, 32), jnp.float32)
        >>> bool(jnp.allclose(w[:, 8:16].T @ w[:, 8:16], jnp.eye(8), atol=1e-5))
        True
    """

    def blocks(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        if shape[-1] % gates:
            raise ValueError(f"shape[-1] must be a multiple of the {gates} gates, got shape {tuple(shape)}")
        block = (*shape[:-1], shape[-1] // gates)
        return jnp.concatenate([init(k, block, dtype) for k in jax.random.split(key, gates)], axis=-1)

    return blocks


def forget_bias(value: float = 1.0, gates: int = 4) -> Initializer:
    """An initialiser for an LSTM's bias: `value` for the forget gate, zero for the others.

    A positive value lets a fresh LSTM remember: at 1 the forget gate starts near 0.73 instead of 0.5.

    Args:
        value: the forget gate's bias.
        gates: 4, or 3 for coupled gates.

    Returns:
        An initialiser for shapes `(gates * hidden,)`.

    References:
        Gers, Schmidhuber, Cummins: Learning to forget, 2000. Jozefowicz, Zaremba, Sutskever: An empirical
        exploration of recurrent network architectures, 2015.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn.functional.recurrent import forget_bias
        >>> forget_bias(1.0)(jax.random.key(0), (8,), jnp.float32)
        Array([0., 0., 1., 1., 0., 0., 0., 0.], dtype=float32)
    """

    def bias(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        hidden = shape[-1] // gates
        start = (gates - 3) * hidden  # the gates are i, f, g, o, or f, g, o where they are coupled
        return jnp.zeros(shape, dtype).at[..., start : start + hidden].set(value)

    return bias


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
        key: a random key.
        features: number of input features.
        hidden: number of hidden units.
        kernel_init: for `w_x`; Glorot uniform by default.
        recurrent_kernel_init: for `w_h`; orthogonal by default, so that at first nothing vanishes or explodes
            by the weights alone.
        bias_init: for `b`.
        dtype: of all parameters.

    Returns:
        The parameters.

    Example:
        >>> import jax
        >>> from jaxnn.functional.recurrent import init_rnn
        >>> params = init_rnn(jax.random.key(0), features=3, hidden=5)
        >>> params.w_x.shape, params.w_h.shape, params.b.shape
        ((3, 5), (5, 5), (5,))
    """
    sizes(features=features, hidden=hidden)
    k_x, k_h, k_b = jax.random.split(key, 3)
    return RNNParams(
        w_x=(kernel_init or glorot_uniform())(k_x, (features, hidden), dtype),
        w_h=(recurrent_kernel_init or _orthogonal)(k_h, (hidden, hidden), dtype),
        b=bias_init(k_b, (hidden,), dtype),
    )


def init_gru(
    key: jax.Array,
    features: int,
    hidden: int,
    *,
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer = zeros,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> GRUParams:
    """Random parameters of a GRU.

    Args:
        key: a random key.
        features: number of input features.
        hidden: number of hidden units.
        kernel_init: for `w_x`, given its whole shape; Glorot uniform for each gate by default.
        recurrent_kernel_init: for `w_h`, given its whole shape; orthogonal for each gate by default.
        bias_init: for `b` and `b_hn`.
        dtype: of all parameters.

    Returns:
        The parameters.

    Example:
        >>> import jax
        >>> from jaxnn.functional.recurrent import init_gru
        >>> params = init_gru(jax.random.key(0), features=3, hidden=5)
        >>> params.w_x.shape, params.w_h.shape, params.b.shape, params.b_hn.shape
        ((3, 15), (5, 15), (15,), (5,))
    """
    sizes(features=features, hidden=hidden)
    k_x, k_h, k_b, k_n = jax.random.split(key, 4)
    return GRUParams(
        w_x=(kernel_init or per_gate(glorot_uniform(), 3))(k_x, (features, 3 * hidden), dtype),
        w_h=(recurrent_kernel_init or per_gate(_orthogonal, 3))(k_h, (hidden, 3 * hidden), dtype),
        b=bias_init(k_b, (3 * hidden,), dtype),
        b_hn=bias_init(k_n, (hidden,), dtype),
    )


def init_lstm(
    key: jax.Array,
    features: int,
    hidden: int,
    *,
    projection: int | None = None,
    peephole: bool = False,
    coupled: bool = False,
    layer_norm: bool = False,
    kernel_init: Initializer | None = None,
    recurrent_kernel_init: Initializer | None = None,
    bias_init: Initializer | None = None,
    projection_init: Initializer | None = None,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> LSTMParams:
    """Random parameters of an LSTM.

    Args:
        key: a random key.
        features: number of input features.
        hidden: number of memory cells.
        projection: number of output features, where the output is projected (Sak et al. 2014).
        peephole: whether the gates see the cell state (Gers and Schmidhuber 2000).
        coupled: whether the input gate is one minus the forget gate (Greff et al. 2017).
        layer_norm: whether products and cell state are layer-normalised (Ba et al. 2016).
        kernel_init: for `w_x`, given its whole shape; Glorot uniform for each gate by default.
        recurrent_kernel_init: for `w_h`, given its whole shape; orthogonal for each gate by default.
        bias_init: for `b`; `forget_bias(1.0)` by default.
        projection_init: for the projection; LeCun normal by default.
        dtype: of all parameters.

    Returns:
        The parameters. Peepholes start at zero, gains at one.

    Example:
        >>> import jax
        >>> from jaxnn.functional.recurrent import init_lstm
        >>> params = init_lstm(jax.random.key(0), features=3, hidden=5, projection=2)
        >>> params.w_x.shape, params.w_h.shape, params.b.shape, params.projection.shape
        ((3, 20), (2, 20), (20,), (5, 2))
    """
    output = hidden if projection is None else projection
    sizes(features=features, hidden=hidden, projection=output)
    gates = 3 if coupled else 4
    k_x, k_h, k_b, k_p = jax.random.split(key, 4)
    width = gates * hidden
    one, zero = jnp.ones, jnp.zeros
    return LSTMParams(
        w_x=(kernel_init or per_gate(glorot_uniform(), gates))(k_x, (features, width), dtype),
        w_h=(recurrent_kernel_init or per_gate(_orthogonal, gates))(k_h, (output, width), dtype),
        b=(bias_init or forget_bias(1.0, gates))(k_b, (width,), dtype),
        peephole=zero((gates - 1, hidden), dtype) if peephole else None,
        projection=None
        if projection is None
        else (projection_init or lecun_normal())(k_p, (hidden, projection), dtype),
        norm=LSTMNorm(one(width, dtype), one(width, dtype), one(hidden, dtype), zero(hidden, dtype))
        if layer_norm
        else None,
    )


def sizes(**named: int) -> None:
    """Raises where a size is not a positive number."""
    for name, size in named.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def _orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
    """An orthogonal matrix in any dtype: the QR decomposition behind it knows no half precision.

    Under `vmap` the matrices are drawn one after another. On CPU a batched decomposition waits, in a thread of XLA's
    pool, for work that it hands to the same pool: as many of them in one program as there are threads wait for ever.
    """

    def draw(key: jax.Array) -> jax.Array:
        return jax.nn.initializers.orthogonal()(key, shape, accumulator(dtype)).astype(dtype)

    drawn: jax.Array = jax.custom_batching.sequential_vmap(draw)(key)
    return drawn
