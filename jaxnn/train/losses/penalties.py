"""Penalties on the weights, and which parameters are weights."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxnn.counts import check_not_negative
from jaxnn.kernels.accumulate import widened
from jaxnn.train.losses.types import Penalty


def weight_mask(params: Any) -> Any:
    """Marks the weights among parameters: True for arrays with at least two axes.

    So kernels and matrices are weights; biases, scalars, and scales and offsets of normalisation are not. For example
    `optax.adamw(..., mask=train.losses.weight_mask)`.

    Args:
        params: Any pytree of arrays.

    Returns:
        A pytree of bools of the same structure.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> train.losses.weight_mask({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)})
        {'bias': False, 'kernel': True}
    """
    return jax.tree.map(lambda x: jnp.ndim(x) >= 2, params)


def l2(scale: float) -> Penalty:
    r"""Makes the L2 penalty of the weights, without biases (`losses.weight_mask`), for `make_step`.

    .. math:: R(\theta) = \lambda \sum_{w \in \text{weights}} \lVert w \rVert_2^2

    There is no factor 1/2, so the gradient is :math:`2 \lambda w`. With plain gradient descent that is weight decay;
    with Adam it is not: use `optax.adamw`.

    Args:
        scale: :math:`\lambda`, not negative.

    Returns:
        `(params) -> ()`, float32 at least.

    Raises:
        ValueError: If `scale` is negative.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import train
        >>> float(train.losses.l2(0.5)({"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}))
        3.0
    """
    check_not_negative(scale=scale)
    return partial(_l2, scale=scale)


def _l2(params: Any, *, scale: float) -> jax.Array:
    weights = [w for w in jax.tree.leaves(params) if weight_mask(w)]
    squares = [jnp.sum(jnp.square(widened(jnp.abs(w)))) for w in weights]
    with jax.numpy_dtype_promotion("standard"):  # of weights in float32 and in float64
        return scale * sum(squares, start=jnp.float32(0))
