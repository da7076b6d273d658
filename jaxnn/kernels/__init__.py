"""The fastest formulation of each layer on each platform, with the same results.

A kernel is a JAX primitive with two lowerings: that of `jax.lax`, for every platform, and another formulation of the
same sum for CPU, where XLA's is slow. The choice is made when a program is lowered, so one traced function runs
correctly on every platform. Programs for GPU and TPU are those of `jax.lax`, except where these are wrong: derivatives
of max pooling at padding, infinities and NaN, those of dilated sum pooling at padding, and gradients of grouped kernels
over several devices. Empty operands and symbolic sizes also get the programs of `jax.lax`, since the other formulations
compare sizes. Inside `plain` no primitive of this package is traced.
"""

from jaxnn.kernels import interpreters as interpreters
from jaxnn.kernels.settings import plain

__all__ = ["plain"]
