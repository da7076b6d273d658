"""Identity of arrays: names, shapes, and a number that changes when any bit does."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn import keys
from jaxnn.train.step.expected import kind
from jaxnn.train.step.state import TrainState


@jax.jit
def fingerprint(tree: Any) -> Any:
    r"""Maps every array of a pytree, random keys too, to one uint32.

    .. math:: f(x) = \sum_i (2 i + 1) \, b_i \bmod 2^{32}

    over the array's bits :math:`b_i`, read as unsigned integers. A change of one element always changes it, because
    the factors are odd. The order of summation does not matter, so it is the same however the array is sharded, and
    it is computed on the devices of the array.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn.train.checkpoint.fingerprint import fingerprint
        >>> int(fingerprint(jnp.array([1, 2, 3], jnp.int32)))
        22
    """
    return jax.tree.map(_one, tree)


def identity(tree: Any) -> str:
    """Identifies a set of arrays: dtypes, shapes and fingerprints as one line.

    Example:
        >>> import numpy as np
        >>> from jaxnn.train.checkpoint.fingerprint import identity
        >>> identity([np.array([1, 2, 3], np.int32)])
        'int32(3,)#00000016'
    """
    leaves = jax.tree.leaves(tree)
    numbers = (int(number) for number in jax.device_get(fingerprint(leaves)))
    return " ".join(f"{x.dtype}{x.shape}#{number:08x}" for x, number in zip(leaves, numbers, strict=True))


def arrays(state: TrainState) -> dict[str, jax.Array]:
    """The arrays of a state by their place in it, random keys as their data: they can be read without jaxnn."""
    return {jax.tree_util.keystr(path): keys.data_of(leaf) for path, leaf in jax.tree.leaves_with_path(state)}


def filled(named: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The arrays that have elements; Orbax refuses empty ones."""
    return {name: x for name, x in named.items() if x.size}


def shapes(named: Mapping[str, jax.Array]) -> dict[str, str]:
    """Dtype and shape of each array, as text."""
    return {name: kind(x) for name, x in named.items()}


def fingerprints(named: Mapping[str, jax.Array]) -> dict[str, int]:
    """The fingerprint of each array."""
    return {name: int(number) for name, number in jax.device_get(fingerprint(dict(named))).items()}


def _one(x: jax.Array) -> jax.Array:
    x = keys.data_of(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag])
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    width = jax.dtypes.itemsize_bits(x.dtype)
    x = jax.lax.bitcast_convert_type(x, {64: jnp.uint32, 32: jnp.uint32, 16: jnp.uint16}.get(width, jnp.uint8))
    words = x.astype(jnp.uint32).reshape(-1)
    return jnp.sum(words * (2 * jnp.arange(words.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)
