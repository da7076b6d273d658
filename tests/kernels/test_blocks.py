import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.kernels import blocks


@pytest.mark.parametrize("batch", [1, 4, 6, 7, 8])
@pytest.mark.parametrize("block", [1, 3, 4, 100])
def test_blocks_are_the_whole_whether_they_fill_the_batch_or_not(batch, block, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 16 * block)
    x, k = jnp.arange(2.0 * batch).reshape(batch, 2), jnp.arange(3.0 * batch).reshape(batch, 3)

    def product(x, k):
        return x[:, :, None] * k[:, None, :]

    mapped = jax.jit(lambda x, k: blocks.map_blocks(product, (x, k), 16))(x, k)
    np.testing.assert_array_equal(mapped, product(x, k))
    summed = jax.jit(lambda x, k: blocks.sum_blocks(lambda x, k: product(x, k).sum(0), (x, k), 16))(x, k)
    np.testing.assert_array_equal(summed, product(x, k).sum(0))


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_blocks_side_by_side_keep_to_their_own_buffers(batch, block, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2 * 8 * block)
    x = jnp.arange(2.0 * batch).reshape(batch, 2) - 3

    def squares(buffer, x):
        if buffer is not None:  # what was there before is still there, where nothing is written
            x = buffer.at[:, 0].set(x[:, 0]).at[:, 1].set(x[:, 1])
        return x, x * x

    def unset(block):
        return blocks.unset(x, (block, 2), x.dtype)

    mapped = jax.jit(lambda x: blocks.map_blocks(squares, (x,), 8, unset))(x)
    np.testing.assert_array_equal(mapped, x * x)
    summed = jax.jit(
        lambda x: blocks.sum_blocks(lambda b, x: (squares(b, x)[0], squares(b, x)[1].sum(0)), (x,), 8, unset)
    )(x)
    np.testing.assert_array_equal(summed, (x * x).sum(0))


def test_no_block_is_larger_than_asked_for_nor_smaller_than_an_example(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)
    sizes = []

    def function(x):
        sizes.append(x.shape[0])
        return x

    for bytes_an_example, largest in ((30, 3), (50, 2), (1000, 1), (1, 8)):
        sizes.clear()
        blocks.map_blocks(function, (jnp.ones((8, 2)),), bytes_an_example)
        assert largest // 2 < max(sizes) <= largest
