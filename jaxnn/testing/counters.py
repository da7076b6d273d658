"""Counters of traces of a function, and of operations in its compiled program."""

import collections
import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, Generic, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


class CountedFunction(Generic[P, R]):
    """A function that counts how often Python runs it: under `jax.jit`, how often it is traced.

    Args:
        function: The function.

    Attributes:
        traces: Number of calls so far.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self.traces = 0

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls the function and counts the call.

        Args:
            *args: Its arguments.
            **kwargs: Its keyword arguments.

        Returns:
            Its result.
        """
        self.traces += 1
        return self._function(*args, **kwargs)


def count_traces(function: Callable[P, R]) -> CountedFunction[P, R]:
    """Wraps a function; `.traces` counts its traces.

    Wrap before `jax.jit`: the compiled program does not run Python, so every counted call is a trace.

    Args:
        function: The function.

    Returns:
        The function with a counter.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnn import testing
        >>> counted = testing.count_traces(lambda x: x + 1)
        >>> compiled = jax.jit(counted)
        >>> _ = compiled(jnp.ones(3)), compiled(jnp.zeros(3))
        >>> counted.traces
        1
        >>> _ = compiled(jnp.ones(4))  # another shape
        >>> counted.traces
        2
    """
    return CountedFunction(function)


@contextlib.contextmanager
def record_traces() -> Iterator[collections.Counter[str]]:
    """Counts every trace of a jitted function while the block runs, by the function's name.

    For functions that are jitted inside a library or a training loop. A function that is jitted inside another jitted
    one is part of that one. Jitted helpers of JAX are counted too.

    Yields:
        Counter of traces by name; it fills as the block runs.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnn import testing
        >>> @jax.jit
        ... def step(x):
        ...     return x + 1
        >>> x = jnp.ones(3)
        >>> with testing.record_traces() as traces:
        ...     for _ in range(5):
        ...         x = step(x)
        >>> traces["step"]
        1
    """
    traces: collections.Counter[str] = collections.Counter()

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == "/jax/core/compile/jaxpr_trace_duration":
            traces[str(details.get("fun_name", "?"))] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield traces
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@contextlib.contextmanager
def assert_traces(n: int, function: CountedFunction | str) -> Iterator[None]:
    """Asserts that a function is traced exactly `n` times while the block runs.

    Args:
        n: Number of traces; 0 for a function that must already be compiled.
        function: The result of `count_traces`, or the name of a jitted function.

    Raises:
        AssertionError: If the function was traced more or less often.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnn import testing
        >>> @jax.jit
        ... def double(x):
        ...     return 2 * x
        >>> with testing.assert_traces(1, "double"):
        ...     _ = double(jnp.ones(2)), double(jnp.zeros(2))
        >>> with testing.assert_traces(1, "double"):
        ...     _ = double(jnp.ones(3)), double(3.0)
        Traceback (most recent call last):
        ...
        AssertionError: double was traced 2 times, expected 1: a shape, a dtype, a static argument...
    """
    if isinstance(function, str):
        name = function
        with record_traces() as traces:
            yield
        count = traces[name]
    else:
        name = getattr(function, "__name__", "the function")
        before = function.traces
        yield
        count = function.traces - before
    if count != n:
        why = ": a shape, a dtype, a static argument or the function object itself changed" if count > n else ""
        raise AssertionError(f"{name} was traced {count} times, expected {n}{why}")


def compiled_ops(function: Callable[..., Any], *args: Any, optimized: bool = True) -> collections.Counter[str]:
    """Counts the operations of the compiled program by their HLO names, also those inside fusions.

    Args:
        function: A function, jitted or not.
        *args: Its arguments, or `jax.ShapeDtypeStruct`s of their shapes.
        optimized: Whether to count after XLA's optimisations, which differ by device, or before them.

    Returns:
        Counter, for example `{"convolution": 1, "transpose": 2}`. A call of a library or of Python is counted as
        "custom-call" and under its target, as in "custom-call:xla_ffi_python_cpu_callback".

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import testing
        >>> ops = testing.compiled_ops(lambda x: x.T @ x, jnp.ones((3, 3)), optimized=False)
        >>> ops["dot"], ops["transpose"], ops["convolution"]
        (1, 1, 0)
    """
    jitted = function if hasattr(function, "lower") else jax.jit(function)
    lowered = jitted.lower(*args)
    text = lowered.compile().as_text() if optimized else lowered.as_text(dialect="hlo")
    ops: collections.Counter[str] = collections.Counter()
    for line in text.splitlines():
        instruction = _INSTRUCTION.match(line)
        if instruction is None:
            continue
        ops[instruction["op"]] += 1
        target = re.search(r'custom_call_target="([^"]*)"', line)
        if target is not None:
            ops[f"custom-call:{target[1]}"] += 1
    return ops


# `  ROOT %name = (f32[2,3]{1,0}, s32[]) opcode(operands), attributes`: the name, the type, the opcode.
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) (?P<op>[a-z][a-z0-9\-]*)\(")
