"""What sums are accumulated in."""

from typing import Any

import jax.numpy as jnp


def accumulator(dtype: Any) -> Any:
    """float32 for floats that are narrower, otherwise the dtype itself."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)
