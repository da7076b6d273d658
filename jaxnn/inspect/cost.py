"""Costs of a function before it runs: FLOPs, memory, and the time to compile it."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxnn.inspect.flops import of_jaxpr
from jaxnn.inspect.memory import Memory, memory_of


class Cost(NamedTuple):
    """Result of `cost`.

    Attributes:
        flops: Number of FLOPs as `flops` counts them, for all devices together.
        memory: Memory of the compiled program on each device; None if the backend does not report it.
        seconds: Time of tracing and compiling.
    """

    flops: int
    memory: Memory | None
    seconds: float


def cost(function: Callable[..., Any], *args: Any) -> Cost:
    """Compiles a function for its arguments, without running it, and returns its cost.

    Args:
        function: Any function; a jitted one is compiled with its `jit` options, for example donated arguments.
        *args: Its arguments, or `jax.ShapeDtypeStruct`s instead, with shardings for several devices.

    Returns:
        FLOPs, memory and the time to compile. JAX's persistent cache, if it is on, shortens that time.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxnn import inspect, train
        >>> def loss_fn(w, batch, key):
        ...     x, y = batch
        ...     return (x @ w - y) ** 2, {}
        >>> state = train.create_state(jnp.zeros(1000), optax.adam(0.1), jax.random.key(0))
        >>> epoch = train.make_epoch(train.make_step(loss_fn), batch_size=8)
        >>> data = jax.ShapeDtypeStruct((40, 1000), jnp.float32), jax.ShapeDtypeStruct((40,), jnp.float32)
        >>> cost = inspect.cost(epoch, state, data)
        >>> cost.flops  # 5 steps of 8 examples, forward and the gradient of w
        160000
        >>> cost.memory.arguments - 40 * 1001 * 4 >= 3 * 1000 * 4  # beside the data w and Adam's two moments
        True
    """
    jitted: Any = function if hasattr(function, "trace") else jax.jit(function)
    started = time.perf_counter()
    traced = jitted.trace(*args)
    compiled = traced.lower().compile()
    seconds = time.perf_counter() - started
    return Cost(of_jaxpr(traced.jaxpr), memory_of(compiled), seconds)
