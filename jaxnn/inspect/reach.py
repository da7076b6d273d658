"""How far back a model's outputs depend on its inputs."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def reach(model: Any, inputs: jax.Array | np.ndarray, *, at_once: int = 32) -> jax.Array:
    r"""Computes how much the outputs depend on each step of the input; nothing is learned from steps where it vanishes.

    .. math:: g_t = \left\| \frac{\partial \sum_k y_k}{\partial x_t} \right\|

    Args:
        model: A module or a function, `(1, time, features) -> outputs`.
        inputs: `(examples, time, features)`.
        at_once: Examples per batch, since for long sequences the gradients of all would need gigabytes.

    Returns:
        The mean of the norms over the examples, `(time,)`.

    Raises:
        ValueError: If the inputs have other axes.

    References:
        Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks, 2013.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxnn import functional as F
        >>> from jaxnn import inspect
        >>> params = F.RNNParams(w_x=jnp.eye(1), w_h=jnp.full((1, 1), 0.5), b=jnp.zeros(1))
        >>> def last(x):
        ...     return F.rnn(params, x, activation=lambda h: h)[0][:, -1]
        >>> inspect.reach(last, jnp.ones((2, 4, 1))).tolist()
        [0.125, 0.25, 0.5, 1.0]
    """
    if inputs.ndim != 3:
        raise ValueError(f"inputs: expected (examples, time, features), got shape {inputs.shape}")
    # A module is a pytree, whose arrays are arguments of the program; a function is compiled with what it holds.
    is_function = any(leaf is model for leaf in jax.tree.leaves(model))
    function = jax.tree_util.Partial(model) if is_function else model
    return _norms(function, inputs, at_once).mean(0)


@partial(jax.jit, static_argnames="at_once")
def _norms(model: Any, inputs: jax.Array, at_once: int) -> jax.Array:
    """The norms of the gradients by each step, `(examples, time)`."""

    def of_one(x: jax.Array) -> jax.Array:
        return jnp.linalg.norm(jax.grad(lambda x: jnp.sum(model(x[None])))(x), axis=-1)

    return jax.lax.map(of_one, inputs, batch_size=at_once)
