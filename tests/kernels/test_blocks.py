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


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_what_runs_apart_is_a_loop_unless_there_is_one_example(batch):
    """XLA does not fuse across a loop: a chain of pools would be compiled as one sum that grows with each of them."""
    x = jnp.arange(2.0 * batch).reshape(batch, 2)
    program = jax.jit(lambda x: blocks.map_apart(jnp.square, x))
    np.testing.assert_array_equal(program(x), x * x)
    assert ("while" in program.lower(x).as_text()) == (batch > 1)


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
