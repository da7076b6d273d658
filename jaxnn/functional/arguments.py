"""Reads the arguments that layers share, and reports what is wrong with them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxnn.counts import check_count, whole
from jaxnn.functional.programs import concrete, traced
from jaxnn.kernels.geometry import Sizes, known
from jaxnn.keys import is_key

SizesLike = int | Sequence[int]
"""One int for every spatial axis, or one per axis."""


def axes_of(window: SizesLike) -> int:
    """Returns the number of spatial axes of a window; a single int is a square over two."""
    window = listed(window)
    return len(window) if isinstance(window, Sequence) else 2


def listed(value: Any) -> Any:
    """Returns numbers in an array of NumPy as a list."""
    return value.tolist() if isinstance(value, np.ndarray) else value


def sizes(name: str, value: SizesLike, spatial: int, least: int = 1) -> Sizes:
    """Reads one int per spatial axis, each at least `least`."""
    value = listed(value)
    numbers = [whole(v) for v in value] if isinstance(value, Sequence) else [whole(value)] * spatial
    result = tuple(number for number in numbers if number is not None)
    if len(result) < len(numbers):
        got = (
            f"a traced value; make it static: jax.jit(..., static_argnames={name!r})." if traced(value) else repr(value)
        )
        raise ValueError(f"{name}: expected an int or one int per spatial axis, {spatial}, got {got}")
    if not spatial:
        raise ValueError(f"{name}: expected an entry for at least one spatial axis, got {value!r}")
    if len(result) != spatial:
        raise ValueError(f"{name}: expected one entry per spatial axis, {spatial}, got {len(result)} in {value!r}")
    if any(v < least for v in result):
        raise ValueError(f"{name}: expected at least {least} along every axis, got {value!r}")
    return result


def integer(name: str, value: Any, least: int) -> int:
    """Reads an int of at least `least` that is known while tracing."""
    if traced(value):
        raise ValueError(
            f"{name}: expected a whole number of at least {least}, got a traced value; make it static: "
            f"jax.jit(..., static_argnames={name!r})."
        )
    return check_count(name, value, least)


def number(name: str, value: Any, expected: str, fits: Callable[[float], bool], hint: str) -> jax.Array:
    """Reads a real scalar as float32. A concrete one must be finite and pass `fits`; the caller checks a traced one."""
    seen = concrete(value)
    given: Any = jnp.asarray(value) if seen is None else seen
    real = jnp.issubdtype(given.dtype, jnp.floating) or jnp.issubdtype(given.dtype, jnp.integer)
    if given.shape != () or not real:
        raise ValueError(f"{name}: expected {expected}, got {value!r}; {hint}")
    if seen is not None and not (abs(given) <= jnp.finfo(jnp.float32).max and fits(float(given))):
        raise ValueError(f"{name}: expected {expected}, got {value}; {hint}")
    return jnp.asarray(value).astype(jnp.float32)


def channels_advice(shape: tuple[int, ...], spatial: int, channels: int) -> str:
    """Advice for a shape whose last axis is not the channels; empty if no cause is likely."""
    if len(shape) > spatial and shape[-1 - spatial] == channels and shape[-1] != channels:
        return f"channels come last: jnp.moveaxis(x, {-1 - spatial}, -1)"
    if len(shape) >= spatial and channels == 1 and shape[-1:] != (1,):
        return "a channel axis is missing: x[..., None]"
    return ""


def channels_last(x: jax.Array, kernel: jax.Array, channels: int, layout: str = "(*window, in / groups, out)") -> None:
    """Raises unless the last axis of `x` has the channels that a kernel takes."""
    spatial = kernel.ndim - 2
    advice = channels_advice(x.shape, spatial, channels)
    if (x.ndim == spatial and advice) or (x.ndim > spatial and x.shape[-1] != channels):
        raise ValueError(
            f"x: expected (*batch, *spatial, {channels}) for a kernel of shape {kernel.shape}, got {x.shape}; "
            f"{advice or f'its last axis is the channels, and kernels are {layout}'}."
        )


def array(name: str, value: Any) -> jax.Array:
    """Reads whatever `jnp.asarray` accepts: an array of JAX or NumPy, a number, or nested lists of numbers.

    float64 becomes float32 unless x64 is enabled, as everywhere in JAX. No other dtype is changed or guessed.
    """
    cause = None
    try:
        made = jnp.asarray(value)
        if not jnp.issubdtype(made.dtype, jax.dtypes.extended):  # random keys
            return made
    except jax.errors.JaxRuntimeError:
        raise  # the device's, not the argument's: memory, or `jax.transfer_guard`
    except (TypeError, ValueError, RuntimeError) as error:
        cause = error
    if isinstance(value, list | tuple):
        got, advice = (
            f"a {type(value).__name__} that is not an array",
            "; its parts must be numbers of one shape: pad them, or pass one at a time.",
        )
    else:
        dtype = getattr(value, "dtype", None)
        got = "None" if value is None else type(value).__name__ + ("" if dtype is None else f" of {dtype}")
        advice = "" if value is None else "; convert it: np.asarray(..., np.float32)."
    raise ValueError(f"{name}: expected an array of numbers, got {got}{advice}") from cause


def array_or_none(name: str, value: Any) -> jax.Array | None:
    """Reads an optional array."""
    return None if value is None else array(name, value)


def lengths(value: Any, batch: Sizes, time: int, *, batch_of: str, steps: str) -> jax.Array:
    """Reads lengths as int32 of shape `batch`; concrete ones lie in 0..time, the number of `steps`."""
    n = array("lengths", value)
    if n.shape != batch or not jnp.issubdtype(n.dtype, jnp.integer):
        advice = ""
        if n.shape == batch:
            advice = "; convert them: lengths.astype(jnp.int32)."
        elif len(batch) == 1 and n.shape == (time,):
            advice = f"; batches come before time: jnp.swapaxes({batch_of}, 0, 1)."
        raise ValueError(
            f"lengths: expected integers of shape {batch}, the batch axes of {batch_of}, got {n.dtype} of shape "
            f"{n.shape}{advice}"
        )
    given = concrete(value)
    if given is not None:
        bad = given[(given < 0) | (given > (time if known(time) else np.inf))]
        if bad.size:
            raise ValueError(f"lengths: expected 0..{time}, the number of {steps}, got {bad[:5].tolist()}")
    return n.astype(jnp.int32)


def random_key(key: Any) -> None:
    """Raises unless the argument `key` is one random key or several, typed or raw."""
    raw = isinstance(key, jax.Array | np.ndarray) and key.dtype == np.uint32
    if not (raw or is_key(key)):
        got = repr(key) if isinstance(key, int | str | None) else type(key).__name__
        raise ValueError(f"key: expected a random key, got {got}; make it with jax.random.key(seed).")


def functions(**named: Any) -> None:
    """Raises if an activation is not a function, for example its name."""
    for name, value in named.items():
        if not callable(value):
            raise ValueError(f"{name}: expected a function, got {value!r}; pass one, for example jax.nn.sigmoid.")


def drawn(name: str, init: Any, key: jax.Array, shape: Sizes, dtype: jax.typing.DTypeLike) -> Any:
    """Calls an initialiser; raises if it is none, or one that still has to be made, `he_normal` for `he_normal()`."""
    made = init(key, shape, dtype) if callable(init) else None
    if made is None or callable(made):
        got = repr(init) if made is None else f"{getattr(init, '__name__', init)}, which returns a function"
        raise ValueError(
            f"{name}: expected an initialiser (key, shape, dtype) -> array, got {got}; make one, for example "
            "jax.nn.initializers.he_normal()."
        )
    return made


def real(name: str, array: jax.Array) -> None:
    """Raises if an array is complex; does not advise a cast, which drops the imaginary part."""
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(
            f"{name}: expected real numbers, got {array.dtype}; give real and imaginary parts as real arrays, for "
            "example side by side: jnp.concatenate([z.real, z.imag], axis=-1)."
        )


def cast(name: str, array: jax.Array, dtype: Any) -> jax.Array:
    """Casts an array to a dtype of real numbers; raises if it is complex."""
    real(name, array)
    return array.astype(dtype)


def floating(**arrays: jax.Array | None) -> None:
    """Raises unless the arrays are real floats, all of one dtype."""
    given = {name: array for name, array in arrays.items() if array is not None}
    for name, array in given.items():
        real(name, array)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"{name}: expected a floating dtype, got {array.dtype}; convert it: jnp.asarray({name}, jnp.float32)."
            )
    if len({array.dtype for array in given.values()}) > 1:
        listed = ", ".join(f"{name} {array.dtype}" for name, array in given.items())
        raise ValueError(f"{', '.join(given)}: expected one dtype, got {listed}; cast them to one of these.")


def rank(name: str, array: jax.Array, least: int, form: str, advice: str = "") -> None:
    """Raises unless the array has at least this many axes."""
    if array.ndim < least:
        raise ValueError(f"{name}: expected {form}, got shape {array.shape}" + (advice and f"; {advice}"))


def bias_of(bias: jax.Array | None, channels: int) -> None:
    """Raises unless the bias is None or has one number per channel."""
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f"bias: expected one entry per output channel, shape ({channels},), got {bias.shape}")


def with_one_batch(x: jax.Array, trailing: int) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    """Joins the batch axes, all but the last `trailing` axes, into one; also returns the function that splits them."""
    axes = x.ndim - trailing
    # Only the first of joined axes may be sharded over an explicit mesh.
    sharded = [axis is not None for axis in jax.typeof(x).sharding.spec[:axes]]
    order = sorted(range(axes), key=lambda axis: not sharded[axis])
    moved = order != [*range(axes)]  # without `jit`, a move to the same place is a program that copies
    x = jnp.moveaxis(x, order, range(axes)) if moved else x
    batch = x.shape[:axes]

    def split(y: jax.Array) -> jax.Array:
        y = y.reshape(*batch, *y.shape[1:])
        return jnp.moveaxis(y, range(axes), order) if moved else y

    return x.reshape(math.prod(batch), *x.shape[axes:]), split


def shape(name: str, value: Any) -> tuple[Any, ...]:
    """Reads an argument that is a shape, the sizes of axes; those of `jax.export` may be symbolic.

    Args:
        name: The argument, for the message.
        value: A tuple or list.

    Returns:
        The shape.

    Raises:
        ValueError: If it is another thing, or holds what is no size.

    Example:
        >>> from jaxnn.functional.arguments import shape
        >>> shape("batch", 3)
        Traceback (most recent call last):
            ...
        ValueError: batch: expected a tuple of sizes, for example (3,), got 3
    """
    sizes = value if isinstance(value, tuple | list) else [None]
    numbers = [whole(size) for size in sizes if size is None or not export.is_symbolic_dim(size)]
    if any(number is None or number < 0 for number in numbers):
        raise ValueError(f"{name}: expected a tuple of sizes, for example (3,), got {value!r}")
    return tuple(sizes)
