"""The floor: what the machine's cores reach in a product of two matrices."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def product(size: int) -> Callable[[], object]:
    """A product of two square matrices, float32, as XLA computes it."""
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    return lambda: multiply(a, b).block_until_ready()
