"""Small models and data that the tests train, and a count of traces."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnn import train


class Batch(NamedTuple):
    images: jax.Array
    labels: jax.Array


class MLP(nnx.Module):
    def __init__(self, seed=0, features=6, classes=3):
        rngs = nnx.Rngs(seed)
        self.hidden = nnx.Linear(features, 16, rngs=rngs)
        self.out = nnx.Linear(16, classes, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.relu(self.hidden(x)))


class ConvNet(nnx.Module):
    """With everything that has state of its own: batch normalisation and dropout."""

    def __init__(self, seed=0, classes=3):
        rngs = nnx.Rngs(seed)
        self.conv = nnx.Conv(1, 4, (3, 3), use_bias=False, rngs=rngs)  # a bias has no gradient there
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drops = nnx.List([nnx.Dropout(0.5, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)])
        self.out = nnx.Linear(4, classes, rngs=rngs)

    def __call__(self, x):
        x = self.drops[0](nnx.relu(self.norm(self.conv(x))))
        return self.out(self.drops[1](x.mean((1, 2))))


class Counted:
    """A loss function that counts how often it is traced."""

    def __init__(self, loss_fn=None):
        self.loss_fn, self.training, self.evaluation = loss_fn or train.losses.classification(), 0, 0

    def __call__(self, model, batch, key):
        if key is None:
            self.evaluation += 1
        else:
            self.training += 1
        return self.loss_fn(model, batch, key)


def blobs(n, seed=0, features=6, classes=3):
    """Points around a centre for each class: easy to learn, on the host."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n).astype(np.int32)
    centres = np.random.default_rng(99).normal(size=(classes, features)) * 3
    return Batch((centres[labels] + rng.normal(size=(n, features))).astype(np.float32), labels)


def pictures(n, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    return Batch(rng.integers(0, 256, (n, 6, 5, 1), np.uint8), rng.integers(0, classes, n).astype(np.int32))


def quadratic(w, batch, key):
    """Of a functional model: `w (features,)`."""
    x, y = batch
    return (x @ w - y) ** 2, {}


def equal(a, b):
    """Whether the arrays of two pytrees are the same bit for bit."""
    return all(np.array_equal(bits(x), bits(y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def bits(x):
    x = jax.random.key_data(x) if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return np.asarray(x)


def copy(tree):
    return jax.tree.map(jnp.copy, tree)
