"""Random keys among arrays: NumPy, files and other processes take their data, unsigned integers."""

from typing import Any

import jax
import jax.numpy as jnp


def is_key(value: Any) -> bool:
    """Whether a value is an array of random keys."""
    return isinstance(value, jax.Array) and bool(jnp.issubdtype(value.dtype, jax.dtypes.prng_key))


def data_of(value: Any) -> Any:
    """The data of random keys; any other value as it is."""
    return jax.random.key_data(value) if is_key(value) else value


def with_data(like: Any, array: Any) -> Any:
    """The inverse of `data_of`: `array` as random keys where `like` holds such."""
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(like)) if is_key(like) else array
