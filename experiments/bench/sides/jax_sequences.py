"""Outputs and all gradients of a recurrent layer in a JAX library, as its users compile them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.bench.case import Work


def work_of(
    apply: Callable[[Any, jax.Array], jax.Array], params: Any, shape: tuple[int, int, int], train: bool
) -> Work:
    """A call of `apply(params, x)` on random `x` of shape `(batch, time, features)`, sharded over all devices.

    With `train` it also computes the gradients with respect to the parameters and `x`.
    """
    function, (params, *batches) = program_of(apply, params, shape, train)
    if jax.device_count() > 1:
        mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
        params = jax.device_put(params, NamedSharding(mesh, P()))
        batches = jax.device_put(batches, NamedSharding(mesh, P("batch")))
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready(compiled(params, *batches))


def program_of(
    apply: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    shape: tuple[int, int, int],
    train: bool,
    dtype: jax.typing.DTypeLike = jnp.float32,
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Returns the function that `work_of` compiles, and its arguments."""
    keys = jax.random.split(jax.random.key(1))
    x = jax.random.normal(keys[0], shape, dtype)
    if not train:
        return apply, (params, x)
    y = jax.eval_shape(apply, params, x)

    def gradients(params: Any, x: jax.Array, cotangent: jax.Array) -> Any:
        y, pull = jax.vjp(apply, params, x)
        return y, pull(cotangent)

    return gradients, (params, x, jax.random.normal(keys[1], y.shape, y.dtype))
