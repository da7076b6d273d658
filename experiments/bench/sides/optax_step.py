"""A training step with Optax for a network that is a function of its parameters, as in Haiku and Equinox."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.bench.case import Work
from jaxnn.data import Examples


def steps_of(apply: Callable[..., jax.Array], params: Any, data: Sequence[Examples]) -> Work:
    """Steps of Adam for `apply(params, images) -> logits`, called from Python."""
    tx = optax.adam(1e-3)
    opt_state = tx.init(params)
    on_device = [(jnp.asarray(images), jnp.asarray(labels)) for images, labels in data]

    def loss_fn(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, images), labels).mean()

    def step(params: Any, opt_state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any, jax.Array]:
        loss, grads = jax.value_and_grad(loss_fn)(params, images, labels)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    compiled = jax.jit(step, donate_argnums=(0, 1))

    def work() -> None:
        nonlocal params, opt_state
        for images, labels in on_device:
            params, opt_state, _ = compiled(params, opt_state, images, labels)
        jax.block_until_ready((params, opt_state))

    return work
