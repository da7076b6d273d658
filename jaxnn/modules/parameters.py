"""How modules own parameters: their creation, and the dtype they are used in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnn.functional import arguments
from jaxnn.modules.static import hashable

Initializer = Callable[..., Any]
"""`(key, shape, dtype) -> array`, as in `jax.nn.initializers`; `nnx.with_partitioning` of one adds sharding."""


def parameter(
    initializer: Initializer,
    rngs: nnx.Rngs,
    shape: Sequence[int],
    dtype: Any,
    metadata: Mapping[str, Any] | None = None,
) -> nnx.Param:
    """A new parameter, with the sharding metadata that its initialiser or `metadata` gives it."""
    named = {name: hashable(value) for name, value in (metadata or {}).items()}
    return nnx.Param(initializer(rngs.params(), tuple(shape), dtype), **named)


def in_dtype(dtype: Any, x: jax.Array, *params: nnx.Param | None) -> tuple[Any, ...]:
    """The input and the parameters in the dtype to compute in: `dtype`, or where that is None the input's."""
    x = jnp.asarray(x)
    target = x.dtype if dtype is None else dtype
    held = (None if p is None else arguments.cast("a parameter", p[...], target) for p in params)
    return (arguments.cast("x", x, target), *held)
