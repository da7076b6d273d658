"""Chrono initialisation: gates that keep the state at the start of training."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional.recurrent.init import Initializer


def chrono(keeps: Sequence[int], hidden: int, longest: float) -> Initializer:
    r"""Returns an initialiser of gate biases that make the units keep their states for different times.

    A gate :math:`f = \sigma(b)` keeps the state for about :math:`1 / (1 - f) = 1 + e^b` steps, so

    .. math:: b = \log u, \quad u \sim U(1, \max(2, T - 1))

    keeps it for up to :math:`T` steps. A gate that admits the input gets :math:`-b`, so that it admits as much as is
    forgotten.

    Args:
        keeps: For each gate, in the layer's order: 1 if it keeps the state, -1 if it admits the input, 0 for a bias of
            zero: `(-1, 1, 0, 0)` for an LSTM (i, f, g, o), `(0, 1, 0)` for a GRU (r, z, n).
        hidden: Hidden units.
        longest: :math:`T`, the number of steps over which the layer has to remember.

    Returns:
        An initialiser for `bias_init`. A bias of another shape than `(gates * hidden,)`, for example the separate
        recurrent bias of a GRU's candidate, becomes zero.

    References:
        Tallec and Ollivier, Can recurrent neural networks warp time?, 2018.

    Example:
        >>> import jax
        >>> from jaxnn import functional as F
        >>> params = F.init_lstm(jax.random.key(0), 2, 4, bias_init=F.chrono((-1, 1, 0, 0), 4, longest=100))
        >>> i, f, g, o = params.b.reshape(4, 4)
        >>> bool((i == -f).all() and (f > 0).all() and (g == 0).all())
        True
    """

    def bias(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        if shape != (len(keeps) * hidden,):
            return jnp.zeros(shape, dtype)
        times = jnp.log(jax.random.uniform(key, (hidden,), dtype, 1.0, max(2.0, longest - 1.0)))
        return jnp.concatenate([sign * times for sign in keeps])

    return bias
