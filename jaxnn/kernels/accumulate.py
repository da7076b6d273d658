"""The dtype in which sums accumulate, including those of derivatives.

The transpose of a broadcast is a sum, and JAX computes it in the dtype of the array: in bfloat16 a sum of ones
stagnates at 256. So a parameter is `widened` before it is broadcast: its cotangent is summed in float32 and rounded
once. Programs in float32 and float64 do not change.
"""

from typing import Any

import jax
import jax.numpy as jnp


def accumulator(dtype: Any) -> Any:
    """Returns float32 for narrower floats, otherwise the dtype itself."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)


def widened(array: jax.Array) -> jax.Array:
    """Casts the array to the dtype in which its sums accumulate; integers do not change."""
    return array.astype(accumulator(array.dtype)) if jnp.issubdtype(array.dtype, jnp.floating) else array


def narrowed(wide: Any, like: Any) -> Any:
    """Casts `widened` trees back to their dtypes; arrays that are not floats do not change, random keys included."""
    return jax.tree.map(lambda a, b: a.astype(b.dtype) if jnp.issubdtype(b.dtype, jnp.floating) else a, wide, like)


def add_row(y: jax.Array, row: jax.Array) -> jax.Array:
    """`y + row`, a vector added along the last axis, rounded to the dtype of `y`."""
    return (widened(y) + widened(row).reshape((1,) * (y.ndim - 1) + row.shape)).astype(y.dtype)


def broadcast(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`jnp.broadcast_to`, with a transpose that sums as an `accumulator` does."""
    return jnp.broadcast_to(widened(array), shape).astype(array.dtype)
