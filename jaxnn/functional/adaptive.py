"""Pooling to a given output size, for inputs of any size."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.functional import arguments, pool
from jaxnn.kernels.accumulate import widened
from jaxnn.kernels.geometry import Sizes, known
from jaxnn.kernels.platform import inside_auto_axes


def adaptive_avg_pool(x: jax.typing.ArrayLike, output: int | Sequence[int | None]) -> jax.Array:
    r"""Averages over windows that cut each spatial axis into `output` parts.

    Window :math:`i` of an axis of :math:`n` elements with output size :math:`o` covers
    :math:`[\lfloor i n / o \rfloor, \lceil (i + 1) n / o \rceil)`, as in PyTorch. Windows overlap if :math:`o` does not
    divide :math:`n`.

    Args:
        x: `(*batch, *spatial, channels)`, floats.
        output: Size of the output, one entry per spatial axis; a single int means a square over two axes. None keeps
            the size of an axis.

    Returns:
        `(*batch, *output, channels)`, in the dtype of `x`. Half precision accumulates in float32.

    Raises:
        ValueError: If shapes or dtypes do not fit; the message names the argument.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> F.adaptive_avg_pool(jnp.arange(5.0)[:, None], (2,))[:, 0]
        Array([1., 3.], dtype=float32)
    """
    x = arguments.array("x", x)
    arguments.floating(x=x)
    return _adaptive(widened(x), output, mean=True).astype(x.dtype)


def adaptive_max_pool(x: jax.typing.ArrayLike, output: int | Sequence[int | None]) -> jax.Array:
    """Takes the maximum over the windows of `adaptive_avg_pool`, which cut each spatial axis into `output` parts.

    Args:
        x: `(*batch, *spatial, channels)`, floats or integers.
        output: As in `adaptive_avg_pool`.

    Returns:
        `(*batch, *output, channels)`, in the dtype of `x`. The first maximum of each window, in row-major order,
        gets the gradient.

    Raises:
        ValueError: If shapes or dtypes do not fit; the message names the argument.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> F.adaptive_max_pool(jnp.arange(5.0)[:, None], (2,))[:, 0]
        Array([2., 4.], dtype=float32)
    """
    x = arguments.array("x", x)
    return _adaptive(widened(x), output, mean=False).astype(x.dtype)


def _adaptive(x: jax.Array, output: int | Sequence[int | None], *, mean: bool) -> jax.Array:
    n = len(output) if isinstance(output, Sequence) else 2
    arguments.rank("x", x, n + 1, f"(*batch, *spatial, channels) with {n} spatial axes, as output={output!r} says")
    spatial = x.shape[-1 - n : -1]
    if not all(map(known, spatial)):
        raise ValueError(
            f"x: expected spatial axes of known size, got {x.shape}; export a program for each size, or for an output "
            "of size 1 use global_avg_pool or global_max_pool."
        )
    wanted = output if isinstance(output, Sequence) else (output,) * n
    size = arguments.sizes(
        "output", [o if o is not None else max(1, s) for o, s in zip(wanted, spatial, strict=True)], n
    )
    if not all(spatial):
        raise ValueError(f"x: expected spatial axes of at least 1 element, got {spatial}")
    return _along_axes(x, size, spatial, mean=mean)


def _along_axes(x: jax.Array, size: Sizes, spatial: Sizes, *, mean: bool) -> jax.Array:
    """Pools one axis after the other: windows are boxes, and the mean of the means of equal parts is the mean.

    The last axis is pooled first: in row-major order, the first maximum is in the first row that holds it.
    """
    n, pooling = len(size), pool.avg_pool if mean else pool.max_pool
    if all(length % o == 0 for length, o in zip(spatial, size, strict=True)):
        return pooling(x, tuple(length // o for length, o in zip(spatial, size, strict=True)))
    for axis, (length, o) in reversed([*enumerate(zip(spatial, size, strict=True))]):
        if length == o:
            continue
        starts, stops = np.arange(o) * length // o, -(-np.arange(1, o + 1) * length // o)
        most = int((stops - starts).max())
        box = tuple(most if a == axis else 1 for a in range(n))
        if length % o == 0:
            x = pooling(x, box)
            continue
        at = x.ndim - 1 - n + axis
        x = pooling(_filled_windows(x, at, starts, stops, mean=mean), box)
        if mean:
            x = x * _along(most / (stops - starts), at, x.ndim).astype(x.dtype)
    return x


def _filled_windows(x: jax.Array, at: int, starts: np.ndarray, stops: np.ndarray, *, mean: bool) -> jax.Array:
    """Gathers the windows along axis `at` side by side, each padded to the size of the largest.

    A single gather keeps the size of the program independent of the number of windows. The padding repeats the last
    element, which changes neither the maximum nor the position of the first one; for a mean it is zero.
    """
    places = starts[:, None] + np.arange((stops - starts).max())
    index = (slice(None),) * at + (np.minimum(places, stops[:, None] - 1).ravel(),)
    spec = jax.typeof(x).sharding.spec
    x = inside_auto_axes(lambda x: x.at[index].get(mode="promise_in_bounds"), x, spec=spec)
    return jnp.where(_along(places < stops[:, None], at, x.ndim), x, 0) if mean else x


def _along(values: np.ndarray, at: int, axes: int) -> np.ndarray:
    """Values for the elements along axis `at` of an array of `axes` axes."""
    return values.reshape([-1 if axis == at else 1 for axis in range(axes)])
