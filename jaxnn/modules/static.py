"""Static configuration of modules: hashable, and equal after a copy or a pickle."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxnn.functional.bound import ByReference, given


def hashable(value: Any) -> Any:
    """Turns lists into tuples."""
    return tuple(map(hashable, value)) if isinstance(value, list | tuple) else value


def static_options(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Turns options into hashable pairs of names and values; the inverse is `keywords`."""
    return tuple((name, static_function(value) if callable(value) else value) for name, value in options.items())


def keywords(options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """Turns pairs of names and values into options."""
    return {name: given(value) for name, value in options}


def static_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function by reference, or unchanged if it holds arrays (a module, a pytree) that Flax must see."""
    return ByReference(function) if jax.tree_util.all_leaves([function]) else function
