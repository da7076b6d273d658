"""Creation of the parameters of modules, and casts to the dtype to compute in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from jaxnn.functional import arguments
from jaxnn.modules.static import hashable

Initializer = Callable[..., Any]
"""`(key, shape, dtype) -> array`, as in `jax.nn.initializers`; `nnx.with_partitioning` of one adds sharding."""


def parameter(
    name: str,
    initializer: Initializer,
    rngs: nnx.Rngs,
    shape: Sequence[int],
    dtype: Any,
    metadata: Mapping[str, Any] | None = None,
) -> nnx.Param:
    """Creates a parameter with the sharding metadata of its initialiser, the argument `name`, or of `metadata`."""
    named = {label: hashable(value) for label, value in (metadata or {}).items()}
    return nnx.Param(arguments.drawn(name, initializer, rngs.params(), tuple(shape), dtype), **named)


def in_dtype(dtype: Any, x: jax.typing.ArrayLike, *params: nnx.Param | None) -> tuple[Any, ...]:
    """Casts the input and the parameters to `dtype`, or, if that is None, to the dtype of the input."""
    x = arguments.array("x", x)
    target = x.dtype if dtype is None else dtype
    held = (None if p is None else arguments.cast("a parameter", p[...], target) for p in params)
    return (arguments.cast("x", x, target), *held)
