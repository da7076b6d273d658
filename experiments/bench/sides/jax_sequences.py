"""A recurrent layer's outputs, and all its gradients, for JAX libraries: what their users would jit."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def work_of(
    apply: Callable[[Any, jax.Array], jax.Array], params: Any, shape: tuple[int, int, int], train: bool
) -> Callable[[], object]:
    """A call of `apply(params, x)` on random `x` of `(batch, time, features)`.

    With `train`, gradients with respect to parameters and `x` too.
    """
    keys = jax.random.split(jax.random.key(1))
    x = jax.random.normal(keys[0], shape, jnp.float32)
    cotangent = jax.random.normal(keys[1], jax.eval_shape(apply, params, x).shape)

    def gradients(params: Any, x: jax.Array, cotangent: jax.Array) -> Any:
        y, pull = jax.vjp(apply, params, x)
        return y, pull(cotangent)

    forward, both = jax.jit(apply), jax.jit(gradients)
    if train:
        return lambda: jax.block_until_ready(both(params, x, cotangent))
    return lambda: jax.block_until_ready(forward(params, x))
