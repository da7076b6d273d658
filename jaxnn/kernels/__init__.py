"""The fastest formulation of each layer on each platform, behind the same numbers.

A kernel here is a JAX primitive with two lowerings: what `jax.lax` does, on every platform, and another formulation of
the same sum where XLA's own is slow on CPU. The choice falls when a program is lowered, so one traced function runs
right wherever it is placed, and programs for GPU and TPU are those of `jax.lax`, but for the derivatives of max
pooling, which `jax.lax` has wrong at padding, infinities and NaN. So are those for operands that are empty, or whose
sizes an exported program learns only when it is called: the other formulations compare sizes.
"""

from jaxnn.kernels import interpreters as interpreters
