"""Weights as one safetensors file, by name: readable without jaxnn, and never run as code."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from flax import nnx

from jaxnn.files.tensors import read_about, read_tensors, write_tensors

T = TypeVar("T")

PASSING = (nnx.RngState, nnx.Intermediate, nnx.Perturbation, nnx.Cache)
"""Variables that a call creates and consumes; all others, of user-defined kinds too, are weights."""

_WEIGHTS = nnx.Not(nnx.Any(*PASSING))


def save_weights(path: str | os.PathLike[str], model: Any, *, about: Mapping[str, Any] | None = None) -> None:
    """Writes the weights of a model by name to a safetensors file, atomically.

    Args:
        path: The file to create or replace atomically; its name ends with `.safetensors`.
        model: A `flax.nnx.Module`, of which all variables but random streams, intermediates and caches are
            written; or any pytree of arrays.
        about: Whatever else is needed to build the model again, values that JSON can hold. `load_about` returns it.

    Raises:
        ValueError: If the name has another ending, the model holds no weights, or one of a dtype that the format
            does not have, or JSON cannot hold `about`.
        OSError: If the file cannot be written.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from safetensors.numpy import load_file
        >>> from jaxnn import interop, models
        >>> model = models.MLP((4, 8, 3), rngs=nnx.Rngs(0))
        >>> interop.save_weights("mlp.safetensors", model, about={"features": [4, 8, 3]})
        >>> sorted(load_file("mlp.safetensors"))[:2]
        ['layers/0/bias', 'layers/0/kernel']
        >>> features = interop.load_about("mlp.safetensors")["features"]
        >>> again = interop.load_weights("mlp.safetensors", models.MLP(features, rngs=nnx.Rngs(1)))
        >>> bool((again(jnp.ones(4)) == model(jnp.ones(4))).all())
        True
    """
    write_tensors(path, _weights(model), {"about": dict(about or {})})


def load_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the `about` that `save_weights` wrote.

    Args:
        path: The file.

    Returns:
        Names and values; empty if there are none.

    Raises:
        ValueError: If the file is damaged, or not a safetensors file.
        OSError: If it cannot be read.
    """
    about = read_about(path).get("about")
    return about if isinstance(about, dict) else {}


def load_weights(path: str | os.PathLike[str], model: T) -> T:
    """Reads weights that `save_weights` wrote into a model of the same structure.

    Args:
        path: The file.
        model: The module or pytree to take the structure from; not changed. Its weights are not used, and may be
            `jax.ShapeDtypeStruct`s.

    Returns:
        A copy of the model with the file's weights.

    Raises:
        ValueError: If the file is damaged, or names, shapes or dtypes of its arrays are not those of the model.
        OSError: If it cannot be read.
    """
    advice = "a state that train.save wrote is read with train.load" if "static" in read_about(path) else None
    loaded = read_tensors(path, _weights(model), "the weights of this model", advice)
    if not isinstance(model, nnx.Module):
        return loaded
    copy = nnx.clone(model)
    state = nnx.state(copy, _WEIGHTS)
    nnx.replace_by_pure_dict(state, loaded)
    nnx.update(copy, state)
    return copy


def _weights(model: Any) -> Any:
    return nnx.to_pure_dict(nnx.state(model, _WEIGHTS)) if isinstance(model, nnx.Module) else model
