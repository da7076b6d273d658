"""Loops over blocks of a batch, so that temporaries stay in cache and memory stays bounded."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

BLOCK_BYTES = 5 << 20
"""Size of the temporaries of a block: small enough for the cache, large enough to keep threads busy."""


def map_blocks(
    function: Callable[..., jax.Array], arrays: tuple[jax.Array, ...], bytes_an_example: int, least: int = 1
) -> jax.Array:
    """Computes `function(*arrays)`, which maps examples to examples, in at least `least` blocks if the batch allows."""
    batch = arrays[0].shape[0]
    block = _block(batch, bytes_an_example, least)
    if block == batch:
        return function(*arrays)

    def step(i: jax.Array, y: jax.Array) -> jax.Array:
        # If the block size does not divide the batch, the last block recomputes some examples and writes the same
        # results.
        first = jnp.minimum(i * block, batch - block)
        return lax.dynamic_update_slice_in_dim(y, function(*_cut(arrays, first, block)), first, axis=0)

    one = jax.eval_shape(function, *_cut(arrays, 0, block))
    # A buffer to write to. Loops of the same shape would share one buffer of zeros, and each would copy it first.
    unset = jnp.broadcast_to(arrays[0].reshape(-1)[0].astype(one.dtype), (batch, *one.shape[1:]))
    return lax.fori_loop(0, -(-batch // block), step, unset)


def sum_blocks(function: Callable[..., jax.Array], arrays: tuple[jax.Array, ...], bytes_an_example: int) -> jax.Array:
    """Computes `function(*arrays)`, which sums over examples, block by block."""
    batch = arrays[0].shape[0]
    block = _block(batch, bytes_an_example)
    if block == batch:
        return function(*arrays)
    whole = batch - batch % block
    rest = function(*(array[whole:] for array in arrays))
    return lax.fori_loop(0, whole // block, lambda i, total: total + function(*_cut(arrays, i * block, block)), rest)


def map_apart(function: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
    """Computes `function(*arrays)`, which maps examples to examples, in a loop that XLA does not fuse with other work.

    Otherwise XLA:CPU recomputes the result for each tap of a window that reads it. Through several windows in a row the
    work and the program multiply. A batch of one needs no loop.
    """
    return map_blocks(function, arrays, math.prod(arrays[0].shape[1:]) * 4, least=2)


def _block(batch: int, bytes_an_example: int, least: int = 1) -> int:
    """Returns the size of a block: the fewest equal blocks within the limit."""
    largest = max(1, min(BLOCK_BYTES // max(1, bytes_an_example), -(-batch // least)))
    if batch <= largest:
        return batch
    block = -(-batch // -(-batch // largest))
    # Prefer slightly smaller blocks that divide the batch.
    return next((b for b in range(block, block // 2, -1) if batch % b == 0), block)


def _cut(arrays: tuple[jax.Array, ...], first: jax.Array | int, block: int) -> tuple[jax.Array, ...]:
    # Not a reshape to (blocks, block, ...), for which XLA:CPU would copy the whole array if a block is one example.
    return tuple(lax.dynamic_slice_in_dim(array, first, block) for array in arrays)
