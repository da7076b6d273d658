"""Counters of traces, compilations and the operations in a compiled program."""

import collections
import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax


@contextlib.contextmanager
def record_traces() -> Iterator[collections.Counter[str]]:
    """Counts every trace of a jitted function while the block runs, by the function's name.

    This suits functions that are jitted inside a library or a training loop. A jitted function that is called inside
    another one is part of that trace. Jitted helpers of JAX are counted too.

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
    with _listening("/jax/core/compile/jaxpr_trace_duration", lambda name: traces.update([name])):
        yield traces


@contextlib.contextmanager
def record_compilations() -> Iterator[list[str]]:
    """Records the names of all programs that are compiled, or read from the cache on disk, while the block runs.

    Yields:
        List of names; it fills as the block runs.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxnn import testing
        >>> @jax.jit
        ... def triple(x):
        ...     return 3 * x
        >>> with testing.record_compilations() as names:
        ...     _ = triple(jnp.ones(5)), triple(jnp.zeros(5))
        >>> sum("triple" in name for name in names)
        1
    """
    names: list[str] = []
    with _listening("/jax/core/compile/backend_compile_duration", names.append):
        yield names


@contextlib.contextmanager
def _listening(wanted: str, report: Callable[[str], None]) -> Iterator[None]:
    """Calls `report` with the name of the function of each event of this kind."""

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event == wanted:
            report(str(details.get("fun_name", "?")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@contextlib.contextmanager
def assert_traces(n: int, name: str) -> Iterator[None]:
    """Asserts that a jitted function is traced exactly `n` times while the block runs.

    It needs no access to the function. To limit the traces of a function of yours over the whole program, wrap it in
    `chex.assert_max_traces` before you jit it.

    Args:
        n: Number of traces; 0 if the function must already be compiled.
        name: Name of the function.

    Raises:
        AssertionError: If the number of traces differs.

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
    with record_traces() as traces:
        yield
    if traces[name] != n:
        why = ": a shape, a dtype, a static argument or the function object itself changed" if traces[name] > n else ""
        raise AssertionError(f"{name} was traced {traces[name]} times, expected {n}{why}")


def compiled_ops(function: Callable[..., Any], *args: Any, optimized: bool = True) -> collections.Counter[str]:
    """Counts the operations of a compiled program by HLO name, including those inside fusions.

    Args:
        function: A function, jitted or not.
        *args: Its arguments, or `jax.ShapeDtypeStruct`s of their shapes.
        optimized: Whether to count after XLA's optimisations, which differ by device, or before them.

    Returns:
        Counter, for example `{"convolution": 1, "transpose": 2}`. A call of a library or of Python is counted as
        "custom-call" and also under its target, for example "custom-call:xla_ffi_python_cpu_callback".

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
