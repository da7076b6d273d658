"""Agreement with an oracle: the same function written plainly, in NumPy and float64."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnn.testing.comparison import assert_close
from jaxnn.testing.floating import as_arguments, cast_floating, computing_in, is_floating, to_float64

Tree = Any


def assert_close_to_oracle(
    function: Callable[..., Tree],
    oracle: Callable[..., Tree],
    args: Sequence[Tree],
    *,
    reduction: int,
    dtype: DTypeLike = jnp.float32,
    roundings: int = 2,
    sum_of_products: bool = False,
    accumulate: DTypeLike | None = None,
    precision: str | None = "highest",
) -> None:
    """Asserts that a function computed in `dtype` agrees with an oracle computed in float64.

    The floating leaves of `args` are first rounded to `dtype`, and the oracle receives float64 copies of the rounded
    values. So only the error of the function remains. The function runs under `jax.jit`.

    Args:
        function: Function of JAX arrays that returns a tree of arrays.
        oracle: Function of NumPy float64 arrays that returns a tree of the same structure.
        args: Positional arguments, pytrees of arrays. Integer leaves (lengths, labels) and random keys stay
            unchanged.
        reduction: Number of products in each sum, from which the tolerance follows; see `tolerance`.
        dtype: Floating dtype of the computation; float64 works without the global x64 flag.
        roundings: See `tolerance`.
        sum_of_products: Whether each result is a sum of products of the arguments with constant, non-negative factors,
            as in a convolution, a dense layer or a mean. The scale of the error at each element, `Σ |a_i| |b_i|`, is
            then the oracle itself on the arguments' absolute values. Otherwise it is the largest value of each leaf of
            the result.
        accumulate: See `tolerance`.
        precision: The `jax.default_matmul_precision` during the call. The default gives products in full precision on
            every device; None keeps the current setting.

    Raises:
        AssertionError: As `assert_close`, naming the worst element.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from jaxnn import testing
        >>> rng = np.random.default_rng(0)
        >>> args = (rng.normal(size=(4, 100)), rng.normal(size=(100, 3)))
        >>> testing.assert_close_to_oracle(jnp.matmul, np.matmul, args, reduction=100, sum_of_products=True)
        >>> testing.assert_close_to_oracle(jnp.matmul, np.matmul, args, reduction=100, dtype="bfloat16")
        >>> testing.assert_close_to_oracle(lambda a, b: a @ b + 1e-3, np.matmul, args, reduction=100)
        Traceback (most recent call last):
        ...
        AssertionError: <lambda> in float32 against its oracle: 12 of 12 elements differ by more than the...
    """
    with computing_in(dtype, precision):
        rounded = cast_floating(as_arguments(args), dtype)
        got = jax.block_until_ready(jax.jit(function)(*rounded))
        exact = to_float64(rounded)
    expected = oracle(*exact)
    magnitude = None
    if sum_of_products:
        magnitude = oracle(*jax.tree.map(lambda leaf: np.abs(leaf) if is_floating(leaf) else leaf, exact))
    assert_close(
        got,
        expected,
        reduction=reduction,
        roundings=roundings,
        magnitude=magnitude,
        accumulate=accumulate,
        what=f"{name_of(function)} in {jnp.dtype(dtype).name} against its oracle",
    )


def name_of(function: Callable[..., Any]) -> str:
    """Returns the name of a function, also inside a `functools.partial`."""
    function = getattr(function, "func", function)
    return getattr(function, "__name__", type(function).__name__)
