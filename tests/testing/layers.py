"""Small layers in plain JAX for the tests of the tests: right ones, and wrong ones beside them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests import oracles


def conv(x, kernel, bias, padding="SAME"):
    """``(height, width, in)``, ``(*window, in, out)`` -> ``(height, width, out)``."""
    y = lax.conv_general_dilated(x[None], kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y[0] + jnp.broadcast_to(bias, y.shape[1:])


def conv_args(rng):
    return rng.normal(size=(5, 6, 2)), rng.normal(size=(3, 3, 2, 3)), rng.normal(size=3)


CONV = {"reduction": 18, "sum_of_products": True}


def max_pool(x):
    """Windows of 2 x 2, the first of equal maxima gets the gradient."""
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 1), (2, 2, 1), "VALID")


def max_pool_with_ties(share):
    """A max pool whose gradient goes where ``share`` says: from the mask of maxima in each window to weights."""

    @jax.custom_vjp
    def pool(x):
        return max_pool(x)

    def backward(x, cotangent):
        height, width, channels = x.shape
        windows = x.reshape(height // 2, 2, width // 2, 2, channels).swapaxes(1, 2)
        windows = windows.reshape(height // 2, width // 2, 4, channels)
        weights = share(windows == windows.max(axis=2, keepdims=True))
        spread = (weights * cotangent[:, :, None]).reshape(height // 2, width // 2, 2, 2, channels)
        return (spread.swapaxes(1, 2).reshape(x.shape),)

    pool.defvjp(lambda x: (max_pool(x), x), backward)
    return pool


def to_first(mask):
    return (mask & (jnp.cumsum(mask, axis=2) == 1)).astype(jnp.float32)


def to_last(mask):
    return jnp.flip(to_first(jnp.flip(mask, 2)), 2)


def to_all(mask):
    return mask.astype(jnp.float32) / mask.sum(axis=2, keepdims=True).astype(jnp.float32)


def gradient_of(pool):
    return lambda x, cotangent: jax.vjp(pool, x)[1](cotangent)[0]


def max_pool_gradient_oracle(x, cotangent):
    return oracles.max_pool_gradient(x, cotangent, (2, 2))


def scaled_gradient(function, factor):
    """The same values, all derivatives multiplied by ``factor``."""

    @jax.custom_jvp
    def scaled(*args):
        return function(*args)

    @scaled.defjvp
    def _(primals, tangents):
        value, tangent = jax.jvp(function, primals, tangents)
        return value, factor * tangent

    return scaled


def mlp(params, x):
    """A pytree of parameters, a smooth nonlinearity, a tree as result."""
    hidden = jnp.tanh(x @ params["in"])
    return {"hidden": hidden, "out": hidden @ params["out"]}


def mlp_oracle(params, x):
    hidden = np.tanh(x @ params["in"])
    return {"hidden": hidden, "out": hidden @ params["out"]}


def mlp_args(rng):
    return {"in": rng.normal(size=(4, 6)) / 2, "out": rng.normal(size=(6, 2))}, rng.normal(size=4)
