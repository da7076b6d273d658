"""What a checkpoint holds of a state: its arrays by name, and what tells whether they are those that were saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.train.checkpoint.fingerprint import fingerprint
from jaxnn.train.checkpoint.options import CheckpointError
from jaxnn.train.step.state import TrainState


def arrays(state: TrainState) -> dict[str, jax.Array]:
    """The arrays of a state by their place in it, so that it can be read without jaxnn; random keys as their data."""
    return {
        jax.tree_util.keystr(path): jax.random.key_data(leaf) if _is_key(leaf) else leaf
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def abstract(state: TrainState) -> dict[str, jax.ShapeDtypeStruct]:
    """What `arrays` gives, as shapes on the devices where they lie."""
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in arrays(state).items()}


def back(found: Mapping[str, jax.Array], like: TrainState) -> TrainState:
    """A state like another one, of the arrays that were found."""
    leaves, structure = jax.tree.flatten(like)
    restored = [
        jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if _is_key(leaf) else array
        for leaf, array in zip(leaves, (found[name] for name in arrays(like)), strict=True)
    ]
    return jax.tree.unflatten(structure, restored)


def shapes(named: Mapping[str, jax.Array]) -> dict[str, str]:
    """Dtype and shape of each array, as text."""
    return {name: f"{x.dtype} {x.shape}" for name, x in named.items()}


def fingerprints(named: Mapping[str, jax.Array]) -> dict[str, int]:
    """The fingerprint of each array."""
    return {name: int(number) for name, number in jax.device_get(fingerprint(dict(named))).items()}


def check_same(what: str, folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises a CheckpointError that names the first thing in which two descriptions differ."""
    for name in [*before, *now]:
        was, is_now = (values.get(name, "nothing") for values in (before, now))
        if was != is_now:
            raise CheckpointError(
                f"checkpoints: {what} {folder} is another one: {name} was {was} there and is {is_now} now; "
                "go on with what that run was started with, or start a new run in another folder"
            )


def _is_key(x: jax.Array) -> bool:
    return bool(jnp.issubdtype(x.dtype, jax.dtypes.prng_key))
