"""Eager calls that compile once: a second equal call finds the program of the first.

JAX finds a compiled program by the function object that it traced, and a layer that builds a scan makes a new function
object in every call. There are two solutions. A function that is known not to change (`lasting`) is a static argument
of a jitted function of this library. A user's function that closes over arrays, which may change, is traced in every
call, and only the compiled program is kept (`once`).
"""

import functools
import hashlib
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxnn.functional.bound import Static


def lasting(function: Any) -> bool:
    """Whether a function always computes the same, so that its compiled program may be cached by its identity.

    Functions of JAX, jitted functions and functions that a module defines are lasting. Nested functions, lambdas and
    methods may hold something that changes, and may be new objects in every call.
    """
    if isinstance(function, types.MethodType):
        return False
    if isinstance(function, functools.partial):
        return lasting(function.func) and _stays((*function.args, *function.keywords.values()))
    of_jax = str(getattr(function, "__module__", "")).split(".")[0] == "jax"
    defined = isinstance(function, types.FunctionType) and "<" not in function.__qualname__
    return of_jax or defined or isinstance(function, _JITTED)


def _stays(value: Any) -> bool:
    """Whether an option does not change."""
    if isinstance(value, tuple):
        return all(map(_stays, value))
    return lasting(value) if callable(value) else isinstance(value, str | int | float | Static | None)


_JITTED = type(jax.jit(lambda: None))


def once(function: Callable[..., Any], *args: Any) -> Any:
    """Calls `function(*args)`; compiles only if no equal program ran before, whatever object `function` is.

    The function is traced in every call, so arrays that it closes over may change; they are arguments of the program,
    which keeps none of them. Under a transformation the function is called directly.

    Args:
        function: A function of pytrees of arrays.
        *args: Its arguments.

    Returns:
        The result of `function`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> for scale in (2.0, 3.0):
        ...     a = jnp.asarray(scale)
        ...     print(once(lambda x: a * x, jnp.ones(())))
        2.0
        3.0
    """
    if jax.config.jax_disable_jit or traced(args):  # type: ignore[attr-defined]
        return function(*args)
    closed, out = jax.make_jaxpr(function, return_shape=True)(*args)
    if closed.effects or traced(closed.consts):
        return function(*args)
    jaxpr, held = closed.jaxpr, len(closed.consts)

    def run(*arrays: jax.Array) -> Any:
        return jaxpr_as_fun(ClosedJaxpr(jaxpr, arrays[:held]))(*arrays[held:])

    program: Any = jax.jit(run)
    arrays = (*closed.consts, *jax.tree.leaves(args))
    text = program.lower(*arrays).as_text()
    if "callback" not in text:  # a program refers to a Python callback by a number that differs in every program
        program = _first(_Program(hashlib.sha256(text.encode()).digest(), program)).run
    return jax.tree.unflatten(jax.tree.structure(out), program(*arrays))


class _Program:
    """A jitted function, identified by its lowered program."""

    def __init__(self, text: bytes, run: Callable[..., Any]) -> None:
        self.text = text
        self.run = run

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Program) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@functools.lru_cache(maxsize=128)
def _first(program: _Program) -> _Program:
    """The first of equal programs."""
    return program


def concrete(value: Any) -> np.ndarray | None:
    """The numbers of what `jnp.asarray` accepts; None if they are traced."""
    return None if traced(value) else np.asarray(_held(value))


def traced(tree: Any) -> bool:
    """Whether any part of a value is traced: of a pytree, a list or an `nnx.Variable` too."""
    return any(isinstance(_held(leaf), jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def _held(value: Any) -> Any:
    """The array of an object that only JAX converts."""
    convert = getattr(value, "__jax_array__", None)
    return value if convert is None else convert()
