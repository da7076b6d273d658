"""What sums are accumulated in, those of derivatives too.

The transpose of a broadcast is a sum, and JAX makes it in the dtype of the array: in bfloat16 a sum of ones sticks at
256. Where a parameter is broadcast, it is `widened` first, so that its cotangent is summed in float32 and rounded once.
Of float32 and float64 nothing changes, not even the program.
"""

from typing import Any

import jax
import jax.numpy as jnp


def accumulator(dtype: Any) -> Any:
    """float32 for floats that are narrower, otherwise the dtype itself."""
    return jnp.dtype(jnp.float32) if jnp.finfo(dtype).bits < 32 else jnp.dtype(dtype)


def widened(array: jax.Array) -> jax.Array:
    """The array in the dtype that its sums accumulate in; integers as they are."""
    return array.astype(accumulator(array.dtype)) if jnp.issubdtype(array.dtype, jnp.floating) else array


def narrowed(wide: Any, like: Any) -> Any:
    """`widened` trees in the dtypes they had; what holds no floats, random keys too, as it is."""
    return jax.tree.map(lambda a, b: a.astype(b.dtype) if jnp.issubdtype(b.dtype, jnp.floating) else a, wide, like)


def add_row(y: jax.Array, row: jax.Array) -> jax.Array:
    """`y + row`, a vector added along the last axis, rounded to the dtype of `y`."""
    return (widened(y) + widened(row).reshape((1,) * (y.ndim - 1) + row.shape)).astype(y.dtype)


def broadcast(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """`jnp.broadcast_to`, with a transpose that sums as an `accumulator` does."""
    return jnp.broadcast_to(widened(array), shape).astype(array.dtype)
