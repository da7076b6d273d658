"""Going over a batch in blocks, so that temporaries stay in cache and memory stays bounded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

BLOCK_BYTES = 1 << 22
"""Temporaries of one block of examples: small enough for a shared cache, large enough to keep several threads busy."""

LARGE_BYTES = 1 << 26
"""What one example is never laid out to, however fast that would be."""


def map_blocks(function: Callable[..., jax.Array], arrays: tuple[jax.Array, ...], bytes_an_example: int) -> jax.Array:
    """`function(*arrays)`, which maps examples to examples, computed block by block."""
    batch, block = arrays[0].shape[0], _block(arrays[0].shape[0], bytes_an_example)
    if block == batch:
        return function(*arrays)

    def step(i: jax.Array, y: jax.Array) -> jax.Array:
        # Where blocks do not fill the batch, the last one goes over some examples again and puts the same there.
        first = jnp.minimum(i * block, batch - block)
        return lax.dynamic_update_slice_in_dim(y, function(*_cut(arrays, first, block)), first, axis=0)

    one = jax.eval_shape(function, *_cut(arrays, 0, block))
    # All of it is written over. Were it zeros, loops of the same shape would share them, and each copy them first.
    start = jnp.broadcast_to(arrays[0].reshape(-1)[0].astype(one.dtype), (batch, *one.shape[1:]))
    return lax.fori_loop(0, -(-batch // block), step, start)


def sum_blocks(function: Callable[..., jax.Array], arrays: tuple[jax.Array, ...], bytes_an_example: int) -> jax.Array:
    """`function(*arrays)`, which sums over examples, computed block by block."""
    batch, block = arrays[0].shape[0], _block(arrays[0].shape[0], bytes_an_example)
    if block == batch:
        return function(*arrays)

    def step(i: jax.Array, total: jax.Array) -> jax.Array:
        return total + function(*_cut(arrays, i * block, block))

    rest = tuple(array[batch - batch % block :] for array in arrays)
    return lax.fori_loop(0, batch // block, step, function(*rest))


def _block(batch: int, bytes_an_example: int) -> int:
    largest = max(1, BLOCK_BYTES // max(1, bytes_an_example))
    return -(-batch // max(1, -(-batch // largest)))  # of as few blocks as that takes, as equal as they can be


def _cut(arrays: tuple[jax.Array, ...], first: jax.Array | int, block: int) -> tuple[jax.Array, ...]:
    # Not a reshape to (blocks, block, ...): with blocks of one example XLA:CPU would copy the whole array for that.
    return tuple(lax.dynamic_slice_in_dim(array, first, block) for array in arrays)
