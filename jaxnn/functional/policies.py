"""A policy for `jax.checkpoint` that keeps convolutions."""

from typing import Any

from jax import lax

from jaxnn.kernels.conv import conv_dw_p, conv_dx_p, conv_p

_CONVOLUTIONS = (conv_p, conv_dx_p, conv_dw_p, lax.conv_general_dilated_p)


def convolutions_saveable(primitive: Any, *args: Any, **params: Any) -> bool:
    """Keeps the results of convolutions; `jax.checkpoint` recomputes everything between them.

    `jax.checkpoint_policies.dots_saveable` keeps matrix products and the convolutions of `jax.lax`. It does not know
    those of this library; compose the two policies as in the example.

    Args:
        primitive: The operation that JAX asks about.
        *args: Not used.
        **params: Not used.

    Returns:
        Whether the operation is `conv`, `conv_transpose`, a gradient of one, or a convolution of `jax.lax`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> policies = jax.checkpoint_policies
        >>> policy = policies.save_from_both_policies(policies.dots_saveable, F.convolutions_saveable)
        >>> block = jax.checkpoint(lambda kernel, x: jnp.tanh(F.conv(x, kernel)), policy=policy)
        >>> jax.grad(lambda kernel: block(kernel, jnp.ones((1, 4, 4, 2))).sum())(jnp.zeros((3, 3, 2, 8))).shape
        (3, 3, 2, 8)
    """
    del args, params
    return primitive in _CONVOLUTIONS
