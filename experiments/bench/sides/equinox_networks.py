"""The networks in Equinox: the layers take one picture, channels first; `vmap` adds the batch."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from experiments.bench.case import Work
from experiments.bench.network import NETWORKS
from experiments.bench.sides.optax_step import steps_of
from experiments.bench.sides.pictures import batches
from jaxnn.data import Examples


def step(network: str, batch: int, steps: int) -> Work:
    """Training steps, called from Python."""
    apply, params = _model(network)
    return steps_of(apply, params, _batches(network, batch, steps))


def forward(network: str, batch: int, steps: int) -> Work:
    """Logits of each batch."""
    apply, params = _model(network)
    logits = jax.jit(apply)
    data = [jnp.asarray(images) for images, _ in _batches(network, batch, steps)]
    return lambda: jax.block_until_ready([logits(params, images) for images in data])


def _batches(network: str, batch: int, steps: int) -> list[Examples]:
    """Batches with the channels first, as the layers take them."""
    return [each._replace(images=each.images.transpose(0, 3, 1, 2).copy()) for each in batches(network, batch, steps)]


def _model(network: str) -> tuple[Callable[..., jax.Array], Any]:
    spec, keys = NETWORKS[network], jax.random.split(jax.random.key(0), 4)
    pool = {"max": eqx.nn.MaxPool2d, "mean": eqx.nn.AvgPool2d}[spec.pool]
    net = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(spec.picture[2], spec.filters[0], 3, padding=spec.padding, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            pool(2, 2),
            eqx.nn.Conv2d(*spec.filters, 3, padding=spec.padding, key=keys[1]),
            eqx.nn.Lambda(jax.nn.relu),
            pool(2, 2),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(spec.features, spec.hidden, key=keys[2]),
            eqx.nn.Lambda({"relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}[spec.activation]),
            eqx.nn.Linear(spec.hidden, spec.classes, key=keys[3]),
        ]
    )
    params, static = eqx.partition(net, eqx.is_inexact_array)

    def apply(params: Any, images: jax.Array) -> jax.Array:
        return jax.vmap(eqx.combine(params, static))(images.astype(jnp.float32) / 255)

    return apply, params
