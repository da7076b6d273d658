"""The networks in Haiku."""

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from experiments.bench.case import Work
from experiments.bench.network import NETWORKS
from experiments.bench.sides.optax_step import steps_of
from experiments.bench.sides.pictures import batches


def step(network: str, batch: int, steps: int) -> Work:
    """Training steps, called from Python."""
    apply, params = _model(network)
    return steps_of(apply, params, batches(network, batch, steps))


def forward(network: str, batch: int, steps: int) -> Work:
    """Logits of each batch."""
    apply, params = _model(network)
    logits = jax.jit(apply)
    data = [jnp.asarray(images) for images, _ in batches(network, batch, steps)]
    return lambda: jax.block_until_ready([logits(params, images) for images in data])


def _model(network: str) -> tuple[Callable[..., jax.Array], Any]:
    spec = NETWORKS[network]
    pool = {"max": hk.MaxPool, "mean": hk.AvgPool}[spec.pool]

    def net(images: jax.Array) -> jax.Array:
        return hk.Sequential(
            [
                hk.Conv2D(spec.filters[0], 3, padding=spec.padding),
                jax.nn.relu,
                pool((2, 2, 1), (2, 2, 1), "VALID"),
                hk.Conv2D(spec.filters[1], 3, padding=spec.padding),
                jax.nn.relu,
                pool((2, 2, 1), (2, 2, 1), "VALID"),
                hk.Flatten(),
                hk.Linear(spec.hidden),
                {"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}[spec.activation],
                hk.Linear(spec.classes),
            ]
        )(images.astype(jnp.float32) / 255)

    pure = hk.without_apply_rng(hk.transform(net))
    return pure.apply, pure.init(jax.random.key(0), jnp.zeros((1, *spec.picture), jnp.uint8))
