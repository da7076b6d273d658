"""Going over a batch in blocks, so that temporaries stay in cache and memory stays bounded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

BLOCK_BYTES = 1 << 21
"""Temporaries of one block of examples: about what a core's cache holds."""


def map_blocks(function: Callable[..., jax.Array], arrays: tuple[jax.Array, ...], bytes_an_example: int) -> jax.Array:
    """`function(*arrays)`, which maps examples to examples, computed block by block."""
    batch, block = arrays[0].shape[0], _block(arrays[0].shape[0], bytes_an_example)
    if block == batch:
        return function(*arrays)
    whole = batch - batch % block
    y = lax.map(lambda part: function(*part), _in_blocks(arrays, whole, block))
    y = y.reshape(whole, *y.shape[2:])
    if whole == batch:
        return y
    return jnp.concatenate([y, function(*(array[whole:] for array in arrays))])


def sum_blocks(function: Callable[..., jax.Array], arrays: tuple[jax.Array, ...], bytes_an_example: int) -> jax.Array:
    """`function(*arrays)`, which sums over examples, computed block by block."""
    batch, block = arrays[0].shape[0], _block(arrays[0].shape[0], bytes_an_example)
    if block == batch:
        return function(*arrays)
    whole = batch - batch % block
    rest = tuple(array[whole:] for array in arrays)
    start = jnp.zeros_like(jax.eval_shape(function, *rest)) if whole == batch else function(*rest)
    total, _ = lax.scan(lambda total, part: (total + function(*part), None), start, _in_blocks(arrays, whole, block))
    return total


def _block(batch: int, bytes_an_example: int) -> int:
    return min(batch, max(1, BLOCK_BYTES // max(1, bytes_an_example)))


def _in_blocks(arrays: tuple[jax.Array, ...], whole: int, block: int) -> tuple[jax.Array, ...]:
    return tuple(array[:whole].reshape(whole // block, block, *array.shape[1:]) for array in arrays)
