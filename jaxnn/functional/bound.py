"""Functions with options bound, and functions by reference, which compare, copy and pickle as plain functions do."""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

# Where JAX's functions are public; they name the private files that define them.
_PUBLIC = ("jax.nn", "jax.numpy", "jax.lax")


class Bound(functools.partial[Any]):
    """A function with options bound. Unlike `functools.partial`, it equals another one of the same function and
    options.

    Example:
        >>> Bound(max, key=abs) == Bound(max, key=abs)
        True
        >>> Bound(max, key=functools.partial(pow, 2)) == Bound(max, key=functools.partial(pow, 2))
        True
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and parts(self) == parts(other)

    def __hash__(self) -> int:
        return hash(parts(self))

    def __deepcopy__(self, memo: Any) -> "Bound":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return given, (ByReference(self),)


def parts(value: Any) -> Any:
    """The key that functions are compared by: a partial function by its parts, and theirs likewise."""
    if not isinstance(value, functools.partial):
        return value
    keywords = tuple((name, parts(option)) for name, option in sorted(value.keywords.items()))
    return parts(value.func), tuple(map(parts, value.args)), keywords


@dataclasses.dataclass(frozen=True)
class Static:
    """A hashable value that does not change, as an argument of `Bound`: a function of it is `lasting`.

    Attributes:
        value: The value.

    Example:
        >>> from jaxnn.functional.programs import lasting
        >>> lasting(Bound(lasting, of=Static(frozenset("a")))), lasting(Bound(lasting, of=frozenset("a")))
        (True, False)
    """

    value: Any


class ByReference:
    """A function that is compared, copied and pickled by reference, as plain functions of Python are.

    `copy.deepcopy` makes new objects of `jnp.tanh`, `jax.nn.relu` and all results of `jax.jit`, and `pickle` refuses
    them.

    Args:
        function: The function.

    Example:
        >>> import copy, pickle
        >>> import jax.numpy as jnp
        >>> from jaxnn.functional.bound import ByReference
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


def _partial(
    kind: type[functools.partial[Any]], function: ByReference, args: tuple[Any, ...], keywords: dict[str, Any]
) -> ByReference:
    return ByReference(kind(function.function, *map(given, args), **{k: given(v) for k, v in keywords.items()}))


def _named(module: str, name: str) -> ByReference:
    __import__(module)
    return ByReference(getattr(sys.modules[module], name))


def given(value: Any) -> Any:
    """Returns the function that is held by reference; any other value as it is."""
    return value.function if isinstance(value, ByReference) else value
