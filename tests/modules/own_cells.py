"""Cells that the library has never seen, a functional one and a module as Flax wants it; comparisons of trees."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnn import functional as F
from jaxnn import modules


def same(a, b):
    """Equal bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, a, b)


def close(a, b):
    """Equal to rounding: two programs may join a product and a sum differently."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), a, b)


def named(options):
    """Options as the name of a test, the same in every process."""
    return ", ".join(f"{key}={getattr(value, '__name__', value)}" for key, value in options.items()) or "default"


def zero_average(params, batch, dtype):
    zeros = jnp.zeros((*batch, *params["decay"].shape), dtype)
    return {"mean": zeros, "square": zeros}


def average(params, state, x):
    decay = jnp.broadcast_to(params["decay"], x.shape)
    return {"mean": decay * state["mean"] + x, "square": decay * state["square"] + x * x}


def deviation(params, state):
    return jnp.broadcast_to(params["scale"], state["mean"].shape) * state["mean"] - state["square"]


AVERAGE = F.Cell(zero_average, average, deviation)
"""A mean and a mean square; the output depends on parameters that the step does not use."""


def average_params(seed, features=3):
    decay, scale = jax.random.uniform(jax.random.key(seed), (2, features))
    return {"decay": decay, "scale": scale}


def learned_start(params, batch, dtype):
    return {"h": jnp.broadcast_to(params["start"].astype(dtype), (*batch, *params["start"].shape))}


def elementwise(params, state, x):
    from_x = x @ params["w"]
    return {"h": jnp.tanh(from_x + jnp.broadcast_to(params["decay"], from_x.shape) * state["h"])}


def learned(in_features, hidden_features, *, rngs):
    """Makes a functional cell that learns its initial state."""
    w = jax.random.normal(rngs.params(), (in_features, hidden_features))
    decay, start = jax.random.normal(rngs.params(), (2, hidden_features))
    return modules.Cell(F.Cell(learned_start, elementwise), {"w": w, "decay": decay, "start": start})


class Scaled(modules.GRUCell):
    """A subclass of a cell of this library, with another start and another output."""

    def zero_state(self, batch=(), dtype=jnp.float32):
        return jax.tree.map(lambda h: h + jnp.asarray(0.5, h.dtype), super().zero_state(batch, dtype))

    def __call__(self, carry, x):
        carry, y = super().__call__(carry, x)
        return carry, 2 * y


class Leaky(nnx.Module):
    """A leaky sum, which puts out something that its carry does not hold."""

    num_feature_axes = 1

    def __init__(self, in_features, hidden_features, *, rngs):
        init = jax.nn.initializers.lecun_normal()
        self.into = nnx.Param(init(rngs.params(), (in_features, hidden_features)))
        self.out = nnx.Param(init(rngs.params(), (hidden_features, hidden_features)))

    def initialize_carry(self, input_shape, rngs=None):
        return jnp.zeros((*input_shape[:-1], self.into.shape[1]))

    def __call__(self, carry, x):
        carry = 0.5 * carry + x @ self.into[...]
        return carry, jnp.tanh(carry @ self.out[...])
