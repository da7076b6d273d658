"""Arrays by name in one safetensors file: readable in every language, and never run as code."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import keys
from jaxnn.files.replace import replacing

SHOWN = 5
"""Largest number of arrays that an error names."""

_DTYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bfloat16", "float16", "float32", "float64", "complex64"),
}
"""Dtypes that safetensors supports for NumPy's arrays."""


class _DamagedError(Exception):
    """The arrays of a file are not those that were written; `_opened` quotes it."""


def write_tensors(path: str | os.PathLike[str], tree: Any, about: Mapping[str, Any]) -> None:
    """Writes the arrays of a pytree by name to a safetensors file, atomically.

    The name of an array is its path in the tree, `layers/0/kernel`. A random key is written as its data, uint32.

    Args:
        path: The file to create or replace atomically; its name ends with `.safetensors`.
        tree: A pytree of arrays.
        about: Names and values that JSON can hold, for the file's metadata: each value is one JSON text.

    Raises:
        ValueError: If the name has another ending, or the tree holds no array, two of one name, or one of a dtype that
            the format does not have, or JSON cannot hold `about`.
        OSError: If the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    if not os.fspath(path).endswith(".safetensors"):
        raise ValueError(f"path: expected a name that ends with .safetensors, got {os.fspath(path)!r}; add it.")
    named = names(tree)
    arrays = {name: _held(name, leaf) for name, leaf in named.items()}
    impls = {name: str(jax.random.key_impl(leaf)) for name, leaf in named.items() if keys.is_key(leaf)}
    # Hugging Face's tools read `format`.
    texts = {name: as_json(name, value) for name, value in {**about, "keys": impls}.items()}
    metadata = texts | {"format": "flax", "sha256": _digest(arrays)}
    with replacing(path) as beside:
        try:
            save_file(arrays, beside, metadata)
        except SafetensorError as error:
            raise OSError(f"path: expected a place to write {os.fspath(path)} to, got {error}; try another.") from error


def as_json(name: str, value: Any, indent: int | None = None) -> str:
    """Formats the argument `name` as JSON; raises a ValueError if JSON cannot hold it."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=indent is None)
    except TypeError as error:
        raise ValueError(f"{name}: expected values that JSON can hold, got {error}; convert them.") from None


def read_about(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the metadata of a file, without its arrays; a value that is not JSON is its text.

    Args:
        path: The file.

    Returns:
        Names and values.

    Raises:
        ValueError: If the file is damaged, or not a safetensors file.
        OSError: If it cannot be read.
    """
    with _opened(path) as file:
        return {name: _json(text) for name, text in (file.metadata() or {}).items()}


def read_tensors(path: str | os.PathLike[str], tree: Any, what: str, advice: str | None = None) -> Any:
    """Reads the arrays of a file into a pytree of the structure of another.

    Args:
        path: The file.
        tree: A pytree of arrays, which are not used and may be `jax.ShapeDtypeStruct`s. If they are arrays, what is
            read has their shardings.
        what: What the error says that the file was expected to hold.
        advice: What the error says to do; by default, to build the model as it was saved.

    Returns:
        The same structure with the arrays of the file.

    Raises:
        ValueError: If the file is damaged, or its arrays are not those of the tree: by name, shape or dtype.
        OSError: If it cannot be read.
    """
    with _opened(path) as file:
        # A scalar may come as a NumPy number, not as an array.
        arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        texts = file.metadata() or {}
        if "sha256" in texts and texts["sha256"] != _digest(arrays):
            raise _DamagedError("arrays: not those that were written")
    impls = _json(texts.get("keys", "{}"))
    impls = impls if isinstance(impls, dict) else {}
    found: dict[str, Any] = {
        name: jax.random.wrap_key_data(jnp.asarray(array), impl=impls[name]) if name in impls else array
        for name, array in arrays.items()
    }
    expected, got = ({name: described(x) for name, x in each.items()} for each in (names(tree), found))
    if expected != got:
        differing = [name for name in sorted({*expected, *got}) if expected.get(name) != got.get(name)]
        each = [f"{name} {expected.get(name, 'nothing')}, not {got.get(name, 'nothing')}" for name in differing]
        of_torch = "it is PyTorch's: interop.from_torch(model, safetensors.numpy.load_file(path))"
        raise ValueError(
            f"path: expected {what}, got {os.fspath(path)}, which should hold the arrays {shown(each)}; "
            f"{of_torch if texts.get('format') == 'pt' else advice or 'build it as it was saved'}."
        )
    return jax.tree.map_with_path(lambda at, like: _placed(found[path_name(at)], like), tree)


def names(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by name, in the order of the tree; raises if there is none, or two have one name."""
    leaves = [(path_name(at), leaf) for at, leaf in jax.tree.leaves_with_path(tree)]
    named = dict(leaves)
    if not named or len(named) < len(leaves):
        found = "none" if not named else "two of one name"
        raise ValueError(f"model: expected named arrays, got {found}; give a module, or a pytree with other names.")
    return named


def path_name(path: Any) -> str:
    """The name of an array in a file by its path in the tree: its keys, for example `layers/0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def shown(each: list[str]) -> str:
    """The first of several things, and how many more there are, in one line."""
    return "; ".join(each[:SHOWN]) + (f"; and {len(each) - SHOWN} more" if len(each) > SHOWN else "")


def described(leaf: Any) -> str:
    """Dtype and shape of an array of any framework, or of a number: `float32[3, 2]`."""
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return f"{array.dtype}{list(array.shape)}".removeprefix("torch.")


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """A number that changes with any bit of arrays, or their names, dtypes and shapes; the format itself has none."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    if Path(path).is_dir():
        raise IsADirectoryError(f"path: expected a file, got the folder {os.fspath(path)}; add the file's name.")
    try:
        with safe_open(Path(path), framework="np") as file:
            yield file
    except (
        SafetensorError,
        _DamagedError,
        AttributeError,
    ) as error:  # AttributeError: a dtype that NumPy does not have
        raise ValueError(
            f"path: expected a whole safetensors file, got {os.fspath(path)}, which is damaged or another ({error}); "
            "save it again."
        ) from error


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _held(name: str, leaf: Any) -> np.ndarray:
    """A leaf as an array that the format can hold; raises if it cannot."""
    array = np.asarray(keys.data_of(leaf))
    if array.dtype.name not in _DTYPES:
        raise ValueError(f"model: expected arrays that a file can hold, got {array.dtype} at {name}; convert it.")
    return np.require(array, requirements="C")  # safetensors writes the memory in its order, transposed or not


def _placed(found: Any, like: Any) -> jax.Array:
    # Committed where `like` is not, it would compile anew what was compiled for `like`, and refuse other devices.
    return jax.device_put(found, like.sharding) if getattr(like, "committed", False) else jnp.asarray(found)
