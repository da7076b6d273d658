"""Going over a batch in blocks, so that temporaries stay in cache and memory stays bounded."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

BLOCK_BYTES = 5 << 20
"""Temporaries of the examples worked on at once: small enough for a cache, large enough to keep threads busy."""

LARGE_BYTES = 1 << 26
"""What one example is never laid out to, however fast that would be."""

LANES = 2
"""Blocks worked on side by side, each in a buffer of its own.

They depend on nothing of each other, so XLA:CPU runs the operations of one beside those of the other. That is the only
way to more threads for what it gives one thread each, such as the copies that fill a buffer.
"""

Buffer = Callable[[int], jax.Array]
"""What a block of so many examples is worked out in; its content before is of no matter."""


def map_blocks(
    function: Callable[..., Any], arrays: tuple[jax.Array, ...], bytes_an_example: int, buffer: Buffer | None = None
) -> jax.Array:
    """`function(*arrays)`, which maps examples to examples, computed block by block.

    With a `buffer`, it is `function(buffer, *arrays) -> buffer, result`, and is given no buffer for a single block.
    """
    batch, lanes = arrays[0].shape[0], LANES if buffer else 1
    function, buffer = _buffered(function, buffer)
    block = _block(batch, bytes_an_example, lanes)
    if block == batch:
        return function(None, *arrays)[1]

    def step(i: jax.Array, carry: tuple[jax.Array, list[Any]]) -> tuple[jax.Array, list[Any]]:
        y, buffers = carry
        # Where blocks do not fill the batch, the last ones go over some examples again and put the same there.
        firsts = [jnp.minimum((i * lanes + lane) * block, batch - block) for lane in range(lanes)]
        done = [function(b, *_cut(arrays, first, block)) for b, first in zip(buffers, firsts, strict=True)]
        for first, (_, result) in zip(firsts, done, strict=True):
            y = lax.dynamic_update_slice_in_dim(y, result, first, axis=0)
        return y, [b for b, _ in done]

    buffers = [buffer(block) for _ in range(lanes)]
    one = jax.eval_shape(function, buffers[0], *_cut(arrays, 0, block))[1]
    return lax.fori_loop(
        0, -(-batch // (block * lanes)), step, (unset(arrays[0], (batch, *one.shape[1:]), one.dtype), buffers)
    )[0]


def sum_blocks(
    function: Callable[..., Any], arrays: tuple[jax.Array, ...], bytes_an_example: int, buffer: Buffer | None = None
) -> jax.Array:
    """`function(*arrays)`, which sums over examples, computed block by block; with a `buffer` as in `map_blocks`."""
    batch, lanes = arrays[0].shape[0], LANES if buffer else 1
    function, buffer = _buffered(function, buffer)
    block = _block(batch, bytes_an_example, lanes)
    if block == batch:
        return function(None, *arrays)[1]

    def step(i: jax.Array, carry: tuple[jax.Array, list[Any]]) -> tuple[jax.Array, list[Any]]:
        total, buffers = carry
        done = [function(b, *_cut(arrays, (i * lanes + lane) * block, block)) for lane, b in enumerate(buffers)]
        for _, result in done:
            total = total + result
        return total, [b for b, _ in done]

    whole = batch - batch % (block * lanes)
    rest = function(None, *(array[whole:] for array in arrays))[1]
    return lax.fori_loop(0, whole // (block * lanes), step, (rest, [buffer(block) for _ in range(lanes)]))[0]


def unset(like: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """An array to be written over.

    Were it zeros, loops of the same shape would share them, and each copy them first.
    """
    return jnp.broadcast_to(like.reshape(-1)[0].astype(dtype), shape)


def _buffered(function: Callable[..., Any], buffer: Buffer | None) -> tuple[Callable[..., Any], Callable[[int], Any]]:
    if buffer is None:
        return lambda nothing, *arrays: (nothing, function(*arrays)), lambda block: None
    return function, buffer


def _block(batch: int, bytes_an_example: int, lanes: int) -> int:
    """As few equal blocks as keep to the limit, and as many for each lane."""
    if batch * bytes_an_example <= BLOCK_BYTES:
        return batch
    largest = max(1, BLOCK_BYTES // (lanes * max(1, bytes_an_example)))
    block = -(-batch // (lanes * max(1, -(-batch // (largest * lanes)))))
    # Rather somewhat smaller ones that come out even.
    return next((b for b in range(block, block // 2, -1) if batch % (b * lanes) == 0), block)


def _cut(arrays: tuple[jax.Array, ...], first: jax.Array | int, block: int) -> tuple[jax.Array, ...]:
    # Not a reshape to (blocks, block, ...): with blocks of one example XLA:CPU would copy the whole array for that.
    return tuple(lax.dynamic_slice_in_dim(array, first, block) for array in arrays)
