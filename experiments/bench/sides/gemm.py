"""The floor: the speed of the cores in a product of two matrices."""

import jax
import jax.numpy as jnp

from experiments.bench.case import Work


def product(size: int) -> Work:
    """A product of two square matrices, float32, as XLA computes it."""
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.float32)
    multiply = jax.jit(jnp.matmul)
    return lambda: multiply(a, b).block_until_ready()
