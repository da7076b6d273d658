"""A training state as arrays by name, as checkpoints hold it: to be read without jaxnn too."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxnn.train.fingerprint import fingerprint
from jaxnn.train.state import TrainState


def named(state: TrainState) -> dict[str, jax.Array]:
    """The arrays of a state by their place in it; random keys as their data.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import train
        >>> from jaxnn.train.named import named
        >>> list(named(train.create_state({"w": jnp.zeros(2)}, optax.sgd(0.1), jax.random.key(0))))
        [".params['w']", '.key', '.step']
    """
    return {
        jax.tree_util.keystr(path): jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def unnamed(arrays: Mapping[str, jax.Array], like: TrainState) -> TrainState:
    """The state of which these are the arrays.

    Args:
        arrays: From `named`.
        like: A state of the same model and optimiser.
    """
    leaves, structure = jax.tree.flatten(like)
    found = [_as(leaf, arrays[name]) for leaf, name in zip(leaves, named(like), strict=True)]
    return jax.tree.unflatten(structure, found)


def shapes(arrays: Mapping[str, jax.Array]) -> dict[str, str]:
    """Dtype and shape of each, as a person reads them."""
    return {name: f"{x.dtype} {x.shape}" for name, x in arrays.items()}


def fingerprints(arrays: Mapping[str, jax.Array]) -> dict[str, int]:
    """The fingerprint of each."""
    return {name: int(number) for name, number in jax.device_get(fingerprint(dict(arrays))).items()}


def _as(like: jax.Array, array: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like)) if _is_key(like) else array


def _is_key(x: jax.Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))
