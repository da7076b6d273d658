r"""An exponential moving average of the parameters, which often generalises better than the parameters themselves.

After step number :math:`t = 0, 1, \ldots`

.. math::

    \bar\theta \leftarrow d_t \, \bar\theta + (1 - d_t) \, \theta, \qquad
    d_t = \min\!\left(d, \frac{1 + t}{10 + t}\right)

starting from :math:`\bar\theta = \theta_0`. The decay warms up: the first parameters are soon forgotten, and
the average needs no bias correction.

References:
    Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992.
    The warm-up is that of `tf.train.ExponentialMovingAverage(num_updates=...)`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.kernels.accumulate import widened


def check_decay(decay: float) -> float:
    """Reads a decay; raises unless it is from 0 to below 1."""
    if isinstance(decay, bool) or not isinstance(decay, float | int) or not 0 <= decay < 1:
        raise ValueError(f"ema: expected a decay from 0 to below 1, for example 0.999, got {decay!r}")
    return float(decay)


def start(params: Any) -> Any:
    """The average before the first step: copies, float32 for half precision."""
    return jax.tree.map(lambda p: jnp.array(widened(p), copy=True), params)


def update(average: Any, params: Any, decay: float, step: jax.Array) -> Any:
    """The average after step number `step`, from the average before it and the parameters after it."""

    def one(a: jax.Array, p: jax.Array) -> jax.Array:
        # 1 - d is taken outside of float32, where a small difference from 1 has few digits.
        share = jnp.maximum(1 - decay, 9 / (10 + step.astype(jnp.finfo(a.dtype).dtype)))
        return a + share.astype(a.dtype) * (p.astype(a.dtype) - a)

    return jax.tree.map(one, average, params)
