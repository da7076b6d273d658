"""Initialisers of recurrent weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnn.functional.arguments import drawn
from jaxnn.kernels.accumulate import accumulator

Initializer = Callable[..., jax.Array]  # `(key, shape, dtype)`, as in jax.nn.initializers


def per_gate(init: Initializer, gates: int) -> Initializer:
    """Returns an initialiser that draws each gate's block of columns separately.

    `init` then sees the shape of one gate, `(rows, hidden)`: an orthogonal recurrent matrix is orthogonal for every
    gate, and the fan-out is that of one gate.

    Args:
        init: An initialiser as in `jax.nn.initializers`.
        gates: The number of blocks.

    Returns:
        An initialiser for shapes `(rows, gates * hidden)`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> w = F.per_gate(jax.nn.initializers.orthogonal(), 4)(jax.random.key(0), (8, 32), jnp.float32)
        >>> bool(jnp.allclose(w[:, 8:16].T @ w[:, 8:16], jnp.eye(8), atol=1e-5))
        True
    """

    def blocks(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
        if shape[-1] % gates:
            raise ValueError(f"shape[-1]: expected a multiple of the {gates} gates, got shape {tuple(shape)}")
        block = (*shape[:-1], shape[-1] // gates)
        return jnp.concatenate([drawn("init", init, k, block, dtype) for k in jax.random.split(key, gates)], axis=-1)

    return blocks


def orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike) -> jax.Array:
    """Draws an orthogonal matrix in any dtype: the QR decomposition behind it does not support half precision.

    Under `vmap` the matrices are drawn one after another. On CPU a batched decomposition waits, in a thread of XLA's
    pool, for work that it submits to the same pool: a program with one per thread deadlocks.
    """

    def draw(key: jax.Array) -> jax.Array:
        return jax.nn.initializers.orthogonal()(key, shape, accumulator(dtype)).astype(dtype)

    drawn: jax.Array = jax.custom_batching.sequential_vmap(draw)(key)
    return drawn
