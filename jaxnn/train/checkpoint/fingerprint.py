"""What tells arrays from others: a number that changes when any bit does. Checkpoints are checked with it."""

from typing import Any

import jax
import jax.numpy as jnp


@jax.jit
def fingerprint(tree: Any) -> Any:
    r"""Maps every array of a pytree to one uint32.

    \[ f(x) = \sum_i (2 i + 1) \, b_i \bmod 2^{32} \]

    over the array's bits \(b_i\), read as unsigned integers. A change of one element always changes it, because the
    factors are odd. The order of summation does not matter, so it is the same however the array is sharded, and
    it is computed where the array lies.

    Args:
        tree: Arrays of any dtype, random keys too.

    Returns:
        The same structure, uint32 `()` in place of each array.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.train.checkpoint.fingerprint import fingerprint
        >>> int(fingerprint(jnp.array([1, 2, 3], jnp.int32)))
        22
    """
    return jax.tree.map(_one, tree)


def identity(tree: Any) -> str:
    """What tells one set of arrays from another: their dtypes, shapes and fingerprints as one line.

    Args:
        tree: Arrays, NumPy's too.

    Example:
        >>> import numpy as np
        >>> from jaxnn.train.checkpoint.fingerprint import identity
        >>> identity([np.array([1, 2, 3], np.int32)])
        'int32(3,)#00000016'
    """
    leaves = jax.tree.leaves(tree)
    numbers = (int(number) for number in jax.device_get(fingerprint(leaves)))
    return " ".join(f"{x.dtype}{x.shape}#{number:08x}" for x, number in zip(leaves, numbers, strict=True))


def _one(x: jax.Array) -> jax.Array:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag])
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    width = jax.dtypes.itemsize_bits(x.dtype)
    x = jax.lax.bitcast_convert_type(x, {64: jnp.uint32, 32: jnp.uint32, 16: jnp.uint16}.get(width, jnp.uint8))
    words = x.astype(jnp.uint32).reshape(-1)
    return jnp.sum(words * (2 * jnp.arange(words.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)
