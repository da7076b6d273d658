"""The fastest formulation of each layer on each platform, with the same results.

A kernel is a JAX primitive with two lowerings: that of `jax.lax`, on every platform, and another formulation of the
same sum where that of XLA is slow on CPU. The choice falls when a program is lowered, so one traced function runs right
on every platform. Programs for GPU and TPU are those of `jax.lax`, except the derivatives of max pooling, which are
wrong in `jax.lax` at padding, infinities and NaN. Empty operands, and operands whose sizes an exported program learns
only when it is called, get the programs of `jax.lax` too, since the other formulations compare sizes. Inside `plain` no
primitive of this package is traced.
"""

from jaxnn.kernels import interpreters as interpreters
from jaxnn.kernels.settings import plain

__all__ = ["plain"]
