"""What a function costs before it has run once: FLOPs, memory, and the time to compile it."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxnn.inspect.flops import of_jaxpr
from jaxnn.inspect.memory import Memory, memory_of


class Cost(NamedTuple):
    """What `cost` finds.

    Attributes:
        flops: As `flops` counts them, for all devices together.
        memory: Of the compiled program, on each device; None if the backend does not tell.
        seconds: How long tracing and compiling took.
    """

    flops: int
    memory: Memory | None
    seconds: float


def cost(function: Callable[..., Any], *args: Any) -> Cost:
    """Compiles a function for its arguments without running it, and tells what it costs.

    Args:
        function: Any function; one that is jitted as it is, with what it donates.
        *args: Its arguments, or `jax.ShapeDtypeStruct`s in their place, with shardings where there are several devices.

    Returns:
        FLOPs, memory and the time to compile. JAX's persistent cache, where it is on, makes that time short.

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
