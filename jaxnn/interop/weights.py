"""Weights as one `.npz` file, by name: readable without jaxnn, and never run as code."""

import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnn.files import replacing

T = TypeVar("T")

ABOUT = "about"
"""The entry of the file that holds the argument `about`, as JSON."""
SHOWN = 5
"""Arrays that an error names at most."""


def save_weights(path: str | os.PathLike[str], model: Any, *, about: Mapping[str, Any] | None = None) -> None:
    """Writes the weights of a model by name, beside the path first, so that the file is whole or not there.

    Args:
        path: The file to make or replace; its name ends with `.npz`.
        model: A `flax.nnx.Module`, of which the `nnx.Param`s are written; or any pytree of arrays.
        about: What else is needed to build the model again, values that JSON can hold. `load_about` returns it.

    Raises:
        ValueError: If the name does not end with `.npz`, or the model holds no weights, an array named `about`, or one
            that `.npz` cannot hold.
        OSError: If the file cannot be written.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from flax import nnx
        >>> from jaxnn import interop, models
        >>> model = models.MLP((4, 8, 3), rngs=nnx.Rngs(0))
        >>> interop.save_weights("mlp.npz", model, about={"features": [4, 8, 3]})
        >>> sorted(np.load("mlp.npz").files)[:3]
        ['about', 'layers/0/bias', 'layers/0/kernel']
        >>> features = interop.load_about("mlp.npz")["features"]
        >>> again = interop.load_weights("mlp.npz", models.MLP(features, rngs=nnx.Rngs(1)))
        >>> bool((again(jnp.ones(4)) == model(jnp.ones(4))).all())
        True
    """
    path = _npz(path)
    named = _named(_weights(model))
    if not named or ABOUT in named:
        found = "one named about" if named else "none"
        raise ValueError(f"model: expected named arrays, got {found}; give a module, or a pytree with other names.")
    for name, array in named.items():
        if jnp.issubdtype(array.dtype, jax.dtypes.extended) or (_is_new(array.dtype) and array.dtype != jnp.bfloat16):
            raise ValueError(f"model: expected arrays that .npz can hold, got {array.dtype} at {name}; convert it.")
    arrays: dict[str, Any] = {name: np.asarray(array) for name, array in named.items()}
    with replacing(path) as beside:
        np.savez(beside, about=np.frombuffer(json.dumps(dict(about or {})).encode(), np.uint8), **arrays)


def load_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads what `save_weights` was given as `about`.

    Args:
        path: The file.

    Returns:
        Names and values; empty if nothing was given.

    Raises:
        ValueError: If the file is damaged, or not one that `save_weights` wrote.
        OSError: If it cannot be read.
    """
    return _read(path)[0]


def load_weights(path: str | os.PathLike[str], model: T) -> T:
    """Reads weights that `save_weights` wrote into a model of the same structure.

    Args:
        path: The file.
        model: The module or pytree to take the structure from; its weights are not used, and may be
            `jax.ShapeDtypeStruct`s. It is not changed.

    Returns:
        A copy of the model with the file's weights.

    Raises:
        ValueError: If the file is damaged, or its arrays are not those of the model: by name, shape or dtype.
        OSError: If it cannot be read.
    """
    arrays = _read(path)[1]
    weights = _weights(model)
    named = _named(weights)
    for name in arrays.keys() & named.keys():
        if arrays[name].dtype.kind == "V" and named[name].dtype == jnp.bfloat16:  # NumPy does not know it by name
            arrays[name] = arrays[name].view(jnp.bfloat16)
    expected, got = ({name: f"{x.dtype}{list(x.shape)}" for name, x in each.items()} for each in (named, arrays))
    if expected != got:
        differing = [name for name in sorted({*expected, *got}) if expected.get(name) != got.get(name)]
        each = [f"{name} {expected.get(name, 'nothing')}, not {got.get(name, 'nothing')}" for name in differing]
        more = f", and {len(each) - SHOWN} more" if len(each) > SHOWN else ""
        raise ValueError(
            f"path: expected the weights of this model, got {os.fspath(path)}, which should hold the arrays "
            f"{'; '.join(each[:SHOWN])}{more}; build the model as it was saved."
        )
    loaded = jax.tree_util.tree_map_with_path(lambda at, _: jnp.asarray(arrays[_name(at)]), weights)
    if not isinstance(model, nnx.Module):
        return loaded
    copy = nnx.clone(model)
    params = nnx.state(copy, nnx.Param)
    nnx.replace_by_pure_dict(params, loaded)
    nnx.update(copy, params)
    return copy


def _npz(path: str | os.PathLike[str]) -> Path:
    if not os.fspath(path).endswith(".npz"):
        raise ValueError(f"path: expected a name that ends with .npz, got {os.fspath(path)!r}; add it.")
    return Path(path)


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with np.load(io.BytesIO(Path(path).read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop(ABOUT).tobytes())
        if not isinstance(about, dict):
            raise ValueError(f"{ABOUT}: expected a dictionary, got a {type(about).__name__}")
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"path: expected a file that save_weights wrote, got {os.fspath(path)}, which is damaged or another "
            f"({error}); save the weights again."
        ) from error
    return about, arrays


def _weights(model: Any) -> Any:
    return nnx.to_pure_dict(nnx.state(model, nnx.Param)) if isinstance(model, nnx.Module) else model


def _named(weights: Any) -> dict[str, Any]:
    return {_name(at): array for at, array in jax.tree.leaves_with_path(weights)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_new(dtype: Any) -> bool:
    """Whether a dtype is one of those that JAX adds to NumPy's."""
    return np.dtype(dtype).isbuiltin != 1
