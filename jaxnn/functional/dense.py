"""The dense layer."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.functional import arguments
from jaxnn.kernels.accumulate import accumulator


def dense(
    x: jax.typing.ArrayLike,
    kernel: jax.typing.ArrayLike,
    bias: jax.typing.ArrayLike | None = None,
    *,
    precision: Any = None,
) -> jax.Array:
    r"""Applies the affine map :math:`y = x W + b` to the last axis.

    Args:
        x: Array of shape `(*batch, in)`, with any number of batch axes.
        kernel: :math:`W`, array of shape `(in, out)`.
        bias: :math:`b`, array of shape `(out,)`, or None.
        precision: Precision of the product, as in `jax.lax`.

    Returns:
        Array of shape `(*batch, out)`, in the dtype of `x`. Half precision accumulates in float32.

    Raises:
        ValueError: If shapes or dtypes do not fit; the message names the argument.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> F.dense(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]]), jnp.array([0.5, 0.5, 0.5]))
        Array([1.5, 2.5, 8.5], dtype=float32)
    """
    x, kernel = arguments.array("x", x), arguments.array("kernel", kernel)
    bias = arguments.array_or_none("bias", bias)
    if kernel.ndim != 2:
        raise ValueError(f"kernel: expected (in, out), got shape {kernel.shape}")
    arguments.rank("x", x, 1, "(*batch, in)")
    arguments.floating(x=x, kernel=kernel, bias=bias)
    if x.shape[-1] != kernel.shape[0]:
        raise ValueError(
            f"x: expected (*batch, {kernel.shape[0]}) for a kernel of shape {kernel.shape}, got {x.shape}"
            + _advice(x.shape, kernel.shape)
        )
    arguments.bias_of(bias, kernel.shape[1])
    wide = accumulator(x.dtype)
    y = jnp.matmul(x, kernel, precision=precision, preferred_element_type=wide)
    if bias is not None:
        y = y + bias.astype(wide).reshape((1,) * (y.ndim - 1) + bias.shape)
    return y.astype(x.dtype)


def _advice(x: tuple[int, ...], kernel: tuple[int, ...]) -> str:
    """Says what may be wrong with a shape: axes that are not joined, or a kernel (out, in)."""
    for n in range(2, len(x) + 1):
        if math.prod(x[-n:]) == kernel[0]:
            return f"; join its last {n} axes: x.reshape({'' if len(x) == n else '*x.shape[:-' + str(n) + '], '}-1)."
    return "; kernels are (in, out), not (out, in): kernel.T." if x[-1] == kernel[1] else ""
