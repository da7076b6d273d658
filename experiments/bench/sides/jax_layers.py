"""Single layers in jaxnn and in plain `jax.lax`, called from Python and inside a compiled loop."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.case import Work
from jaxnn import functional as F

Layer = Callable[..., jax.Array]
Pairs = Sequence[Sequence[int]]


def layer(
    kind: str,
    x: Sequence[int],
    window: Sequence[int],
    stride: int,
    padding: Pairs,
    groups: int,
    gradients: str,
    calls: int,
    plain: bool,
    looped: bool,
) -> Work:
    """Calls of a layer, each on a different input.

    Args:
        kind: "conv", "max_pool" or "avg_pool".
        x: Shape of the input.
        window: Shape of a convolution's kernel, or window of a pool.
        stride: Stride of every axis.
        padding: Pairs (low, high), one for each axis.
        groups: Groups of a convolution.
        gradients: Gradients to compute besides the output: "" for none, "kernel", "input" or "both".
        calls: Number of calls.
        plain: Whether to use `jax.lax` instead of jaxnn.
        looped: Whether to call it in a `lax.scan` instead of from Python.

    Returns:
        The work.
    """
    once, arguments = program_of(kind, x, window, stride, padding, groups, gradients, calls, plain)
    if looped:
        run = jax.jit(in_a_loop(once))
        return lambda: jax.block_until_ready(run(*arguments))
    inputs, kernel, cotangent = arguments
    compiled = jax.jit(once)
    each = list(inputs)
    return lambda: [jax.block_until_ready(compiled(x, kernel, cotangent)) for x in each]


def program_of(
    kind: str,
    x: Sequence[int],
    window: Sequence[int],
    stride: int,
    padding: Pairs,
    groups: int,
    gradients: str,
    calls: int,
    plain: bool,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> tuple[Callable[..., Any], tuple[jax.Array, jax.Array, jax.Array]]:
    """Returns the work on one input, `(x, kernel, cotangent) -> results`, and its arguments with all inputs stacked."""
    function = (_plain if plain else _jaxnn)(kind, tuple(window), stride, [tuple(p) for p in padding], groups)
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = jax.random.normal(keys[0], (calls, *x), dtype)
    kernel = jax.random.normal(keys[1], tuple(window), dtype) * 0.1 if kind == "conv" else jnp.zeros((), dtype)
    cotangent = jax.random.normal(keys[2], jax.eval_shape(function, inputs[0], kernel).shape, dtype)

    def once(x: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Any:
        if not gradients:
            return function(x, kernel)
        if gradients == "kernel":
            y, pull = jax.vjp(lambda kernel: function(x, kernel), kernel)
        elif gradients == "input":
            y, pull = jax.vjp(lambda x: function(x, kernel), x)
        else:
            y, pull = jax.vjp(function, x, kernel)
        return y, pull(cotangent)

    return once, (inputs, kernel, cotangent)


def in_a_loop(once: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the work on each of the stacked inputs, in a `lax.scan`."""

    def run(inputs: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> Any:
        # The results are the loop's state: each step writes them, and the loop stacks none.
        shapes = jax.eval_shape(once, inputs[0], kernel, cotangent)
        start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        return jax.lax.scan(lambda _, x: (once(x, kernel, cotangent), None), start, inputs)[0]

    return run


def _jaxnn(kind: str, window: tuple[int, ...], stride: int, padding: list[Any], groups: int) -> Layer:
    if kind == "conv":
        return lambda x, kernel: F.conv(x, kernel, stride=stride, padding=padding, groups=groups)
    pool = {"max_pool": F.max_pool, "avg_pool": F.avg_pool}[kind]
    return lambda x, _: pool(x, window, stride=stride, padding=padding)


def _plain(kind: str, window: tuple[int, ...], stride: int, padding: list[Any], groups: int) -> Layer:
    strides, spatial = (stride,) * len(padding), "HW"[-len(padding) :]
    if kind == "conv":
        layout = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
        return lambda x, kernel: jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=layout, feature_group_count=groups
        )
    places = (1, *window, 1), (1, *strides, 1), [(0, 0), *padding, (0, 0)]
    if kind == "max_pool":
        return lambda x, _: jax.lax.reduce_window(x, -np.inf, jax.lax.max, *places)
    return lambda x, _: jax.lax.reduce_window(x, 0.0, jax.lax.add, *places) / np.prod(window).astype(np.float32)
