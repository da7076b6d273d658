"""Static configuration of modules: hashable, and equal after a copy or a pickle."""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxnn.functional.programs import parts

# Where JAX's functions are public; they name the private files that define them.
_PUBLIC = ("jax.nn", "jax.numpy", "jax.lax")


class ByReference:
    """A function that is compared, copied and pickled by reference, as plain functions of Python are.

    `copy.deepcopy` makes new objects of `jnp.tanh`, `jax.nn.relu` and all results of `jax.jit`, and `pickle` refuses
    them.

    Args:
        function: The function.

    Example:
        >>> import copy, pickle
        >>> import jax.numpy as jnp
        >>> from jaxnn.modules.static import ByReference
        >>> tanh = ByReference(jnp.tanh)
        >>> copy.deepcopy(tanh).function is jnp.tanh, pickle.loads(pickle.dumps(tanh)).function is jnp.tanh
        (True, True)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        return self.function(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByReference) and parts(self.function) == parts(other.function)

    def __hash__(self) -> int:
        return hash(parts(self.function))

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))

    def __deepcopy__(self, memo: Any) -> "ByReference":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        function = self.function
        if isinstance(function, functools.partial):
            args, keywords = tuple(map(_held, function.args)), {k: _held(v) for k, v in function.keywords.items()}
            return _partial, (type(function), ByReference(function.func), args, keywords)
        name = getattr(function, "__qualname__", "")
        for module in (*_PUBLIC, getattr(function, "__module__", None)):
            if getattr(sys.modules.get(module or ""), name, None) is function:
                return _named, (module, name)
        return ByReference, (function,)


def _held(value: Any) -> Any:
    """Holds an argument of a partial function; functions by reference."""
    return ByReference(value) if callable(value) else value


def hashable(value: Any) -> Any:
    """Turns lists into tuples."""
    return tuple(map(hashable, value)) if isinstance(value, list | tuple) else value


def _partial(
    kind: type[functools.partial[Any]], function: ByReference, args: tuple[Any, ...], keywords: dict[str, Any]
) -> ByReference:
    return ByReference(kind(function.function, *map(_given, args), **{k: _given(v) for k, v in keywords.items()}))


def _named(module: str, name: str) -> ByReference:
    __import__(module)
    return ByReference(getattr(sys.modules[module], name))


def static_options(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Turns options into hashable pairs of names and values; the inverse is `keywords`."""
    return tuple((name, static_function(value) if callable(value) else value) for name, value in options.items())


def keywords(options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """Turns pairs of names and values into options."""
    return {name: _given(value) for name, value in options}


def _given(value: Any) -> Any:
    return value.function if isinstance(value, ByReference) else value


def static_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function by reference, or unchanged if it holds arrays (a module, a pytree) that Flax must see."""
    return ByReference(function) if jax.tree_util.all_leaves([function]) else function
