"""What a training function expects, said where it gets something else."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def explain(error: Exception, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises in place of an error of `jax.jit` where its reason is an argument that is used up or no array.

    It runs after an error alone, so a call that succeeds pays nothing for it.

    Args:
        error: What the call raised.
        function: What was called.
        args: With what; the first two are the state, and the data or the batch.
        kwargs: Likewise.
    """
    if isinstance(error, jax.errors.JaxRuntimeError):
        return  # the device's own trouble: what it was given may be used up since
    try:
        named = inspect.signature(function).bind(*args, **kwargs).arguments
    except TypeError:
        return  # Python's own message says which argument there is not
    for name, value in list(named.items())[:2]:
        if is_used_up(value):
            raise ValueError(used_up(name)) from None
        if isinstance(error, TypeError):
            check_arrays(value, name)


def is_used_up(tree: Any) -> bool:
    """Whether an array of a pytree was donated or deleted."""
    return any(
        isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted()
        for leaf in jax.tree.leaves(tree)
    )


def used_up(name: str) -> str:
    """What to say of a state whose arrays are gone."""
    return (
        f"{name}: expected arrays that are still there, got ones that were donated to an earlier step, epoch or fit; "
        f"use what that returned ({name}, ... = step({name}, ...)), or give it a copy: jax.tree.map(jnp.copy, {name})"
    )


def check_arrays(data: Any, name: str) -> None:
    """Raises where something in a pytree is no array."""
    if hasattr(data, "train") and hasattr(data, "test"):
        raise ValueError(f"{name}: expected examples, got a data set of two parts; take one of them: {name}.train")
    for path, leaf in jax.tree.leaves_with_path(data):
        if not _is_array(leaf):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: expected arrays, or a pytree of them, got {described(leaf)}; "
                "put all examples into arrays of one leading length (NumPy's serve), or give fit a data.Stream"
            )


def described(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, str | int | float | bool | None):
        return repr(value)
    if inspect.isroutine(value):
        return f"the function {value.__name__}"
    kind = type(value)
    return f"{'an' if kind.__name__[0] in 'AEIOUaeiou' else 'a'} {kind.__name__}"


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex) or hasattr(
        leaf, "__jax_array__"
    )
