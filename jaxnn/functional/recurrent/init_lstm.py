"""Random parameters of an LSTM."""

import jax
import jax.numpy as jnp
from jax.nn.initializers import glorot_uniform, lecun_normal

from jaxnn.functional.arguments import drawn
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.heads import divides, initial
from jaxnn.functional.recurrent.init import Initializer, orthogonal, per_gate
from jaxnn.functional.recurrent.lstm import LSTMNorm, LSTMParams


def forget_bias(value: float = 1.0, gates: int = 4) -> Initializer:
    """Returns an initialiser for an LSTM's bias: `value` for the forget gate, zero for the others.

    A positive value makes an untrained LSTM remember: at 1 the forget gate starts near 0.73 instead of 0.5.

    Args:
        value: The forget gate's bias.
        gates: 4, or 3 for coupled gates.

    Returns:
        An initialiser for shapes `(gates * hidden,)`.

    References:
        Gers, Schmidhuber, Cummins: Learning to forget, 2000. Jozefowicz, Zaremba, Sutskever: An empirical
        exploration of recurrent network architectures, 2015.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> F.forget_bias(1.0)(jax.random.key(0), (8,), jnp.float32)
        Array([0., 0., 1., 1., 0., 0., 0., 0.], dtype=float32)
    """

    def bias(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        hidden = shape[-1] // gates
        start = (gates - 3) * hidden  # the gates are i, f, g, o, or f, g, o where they are coupled
        return jnp.zeros(shape, dtype).at[..., start : start + hidden].set(value)

    return bias


def init_lstm(
    key: jax.Array,
    features: int,
    hidden: int,
    *,
    heads: int | None = None,
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
        key: A random key.
        features: Number of input features.
        hidden: Number of memory cells.
        heads: Number of heads, a divisor of `hidden` and `projection`: the recurrent weights are block-diagonal, one
            block per head (Beck et al. 2024). None makes dense recurrent weights.
        projection: Number of output features, to project the output (Sak et al. 2014); None for no projection.
        peephole: Whether the gates see the cell state (Gers and Schmidhuber 2000).
        coupled: Whether the input gate is one minus the forget gate (Greff et al. 2017).
        layer_norm: Whether products and cell state are layer-normalised (Ba et al. 2016).
        kernel_init: For `w_x`, given its whole shape; Glorot uniform for each gate by default.
        recurrent_kernel_init: For `w_h`, given its whole shape, or that of one head; orthogonal for each gate by
            default.
        bias_init: For `b`; `forget_bias(1.0)` by default.
        projection_init: For the projection; LeCun normal by default.
        dtype: Dtype of all parameters.

    Returns:
        The parameters. Peepholes start at zero, gains at one.

    Raises:
        ValueError: If a size is not a positive integer, or `heads` does not divide `hidden` and `projection`.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> params = F.init_lstm(jax.random.key(0), features=3, hidden=5, projection=2)
        >>> params.w_x.shape, params.w_h.shape, params.b.shape, params.projection.shape
        ((3, 20), (2, 20), (20,), (5, 2))
    """
    output = hidden if projection is None else projection
    check.init(key, features=features, hidden=hidden, projection=output)
    divides(heads, hidden=hidden, projection=output)
    gates = 3 if coupled else 4
    k_x, k_h, k_b, k_p = jax.random.split(key, 4)
    width = gates * hidden
    one, zero = jnp.ones, jnp.zeros
    return LSTMParams(
        w_x=drawn("kernel_init", kernel_init or per_gate(glorot_uniform(), gates), k_x, (features, width), dtype),
        w_h=initial(k_h, recurrent_kernel_init or per_gate(orthogonal, gates), output, width, heads, dtype),
        b=drawn("bias_init", bias_init or forget_bias(1.0, gates), k_b, (width,), dtype),
        peephole=zero((gates - 1, hidden), dtype) if peephole else None,
        projection=None
        if projection is None
        else drawn("projection_init", projection_init or lecun_normal(), k_p, (hidden, projection), dtype),
        norm=LSTMNorm(one(width, dtype), one(width, dtype), one(hidden, dtype), zero(hidden, dtype))
        if layer_norm
        else None,
    )
