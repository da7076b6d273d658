"""Recurrent weights, dense or split into heads, each of which sees one part of the state."""

import jax
import jax.numpy as jnp

from jaxnn.functional.arguments import drawn
from jaxnn.functional.recurrent import check
from jaxnn.functional.recurrent.init import Initializer
from jaxnn.kernels.accumulate import accumulator
from jaxnn.kernels.recurrence import dot


def rows_of(w_h: jax.Array) -> int:
    """The number of elements of the state that recurrent weights see, those of all heads."""
    return w_h.shape[0] if w_h.ndim == 2 else w_h.shape[0] * w_h.shape[1]


def columns_of(w_h: jax.Array) -> int:
    """The number of elements of the product, those of all heads."""
    return w_h.shape[1] if w_h.ndim == 2 else w_h.shape[0] * w_h.shape[2]


def product(h: jax.Array, w_h: jax.Array, gates: int) -> jax.Array:
    """The product of the state and the recurrent weights, summed and returned in at least float32.

    Args:
        h: `(*batch, rows)`.
        w_h: `(rows, gates * size)`, or `(heads, rows / heads, gates * size / heads)`.
        gates: The number of gates in the columns.

    Returns:
        `(*batch, gates * size)`, gate after gate. The heads follow each other inside each gate.
    """
    if w_h.ndim == 2:
        return dot(h, w_h)
    heads, size, width = w_h.shape
    batch = h.shape[:-1]
    at = len(batch)
    of_heads = jax.lax.dot_general(
        h.reshape(*batch, heads, size),
        w_h,
        (((at + 1,), (1,)), ((at,), (0,))),
        preferred_element_type=accumulator(h.dtype),
    )
    by_gate = jnp.moveaxis(of_heads.reshape(heads, *batch, gates, width // gates), 0, -2)
    return by_gate.reshape(*batch, heads * width)


def initial(
    key: jax.Array, init: Initializer, rows: int, columns: int, heads: int | None, dtype: jax.typing.DTypeLike
) -> jax.Array:
    """Random recurrent weights; `init` draws those of each head separately."""
    if heads is None:
        return drawn("recurrent_kernel_init", init, key, (rows, columns), dtype)
    one = rows // heads, columns // heads
    return jnp.stack([drawn("recurrent_kernel_init", init, k, one, dtype) for k in jax.random.split(key, heads)])


def divides(heads: int | None, **sizes: int) -> None:
    """Raises unless the number of heads is positive and divides the sizes."""
    if heads is None:
        return
    check.sizes(heads=heads)
    for name, size in sizes.items():
        if size % heads:
            raise ValueError(f"heads: expected a divisor of {name}={size}, got {heads}; every head has equal parts.")
