"""The networks with Flax NNX's layers, trained as in Flax's documentation."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments.bench.case import Work
from experiments.bench.network import NETWORKS
from experiments.bench.sides.pictures import batches


def step(network: str, batch: int, steps: int) -> Work:
    """Training steps, called from Python."""
    net = _model(network)
    optimizer = nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param)
    data = jax.tree.map(jnp.asarray, batches(network, batch, steps))

    @nnx.jit
    def one(net: Any, optimizer: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        loss, grads = nnx.value_and_grad(lambda net: _loss(net, images, labels))(net)
        optimizer.update(net, grads)
        return loss

    def work() -> None:
        loss = None
        for each in data:
            loss = one(net, optimizer, *each)
        jax.block_until_ready((loss, nnx.state(net)))

    return work


def forward(network: str, batch: int, steps: int) -> Work:
    """Logits of each batch."""
    net = _model(network)
    data = [jnp.asarray(images) for images, _ in batches(network, batch, steps)]
    logits = nnx.jit(lambda net, images: net(images.astype(jnp.float32) / 255))
    return lambda: jax.block_until_ready([logits(net, images) for images in data])


def ensemble(network: str, batch: int, steps: int, members: int) -> Work:
    """Training steps of several networks on the same pictures, together by `vmap`."""
    graph = nnx.graphdef(_model(network))
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(nnx.state(_model(network, i)) for i in range(members)))
    tx = optax.adam(1e-3)
    opt_states = jax.vmap(tx.init)(params)
    data = jax.tree.map(jnp.asarray, batches(network, batch, steps))

    def one(params: Any, opt_state: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, Any]:
        grads = jax.grad(lambda params: _loss(nnx.merge(graph, params), images, labels))(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    all_at_once = jax.jit(jax.vmap(one, in_axes=(0, 0, None, None)), donate_argnums=(0, 1))

    def work() -> None:
        nonlocal params, opt_states
        for each in data:
            params, opt_states = all_at_once(params, opt_states, *each)
        jax.block_until_ready(params)

    return work


def _model(network: str, seed: int = 0) -> nnx.Module:
    spec, rngs = NETWORKS[network], nnx.Rngs(seed)
    pool = {"max": nnx.max_pool, "mean": nnx.avg_pool}[spec.pool]
    return nnx.Sequential(
        nnx.Conv(spec.picture[2], spec.filters[0], (3, 3), padding=spec.padding, rngs=rngs),
        nnx.relu,
        lambda x: pool(x, (2, 2), (2, 2)),
        nnx.Conv(*spec.filters, (3, 3), padding=spec.padding, rngs=rngs),
        nnx.relu,
        lambda x: pool(x, (2, 2), (2, 2)),
        lambda x: x.reshape(len(x), -1),
        nnx.Linear(spec.features, spec.hidden, rngs=rngs),
        {"relu": nnx.relu, "sigmoid": nnx.sigmoid}[spec.activation],
        nnx.Linear(spec.hidden, spec.classes, rngs=rngs),
    )


def _loss(net: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits = net(images.astype(jnp.float32) / 255)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
