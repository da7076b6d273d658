"""The networks in jaxnn, as its users train them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from experiments.bench.case import Work
from experiments.bench.network import NETWORKS
from experiments.bench.sides.pictures import batches, pictures
from jaxnn import models, train
from jaxnn.train.step.compiling import Jitted

ADAM = optax.adam(1e-3)


def step(network: str, batch: int, steps: int) -> Work:
    """Training steps, called from Python."""
    state = initial_state(network)
    one = training_step()
    data = jax.tree.map(jnp.asarray, batches(network, batch, steps))

    def work() -> None:
        nonlocal state
        for each in data:
            state, _ = one(state, each)
        jax.block_until_ready(state)

    return work


def scanned(network: str, batch: int, steps: int) -> Work:
    """Training steps inside the compiled epoch."""
    state = initial_state(network)
    run = train.make_epoch(training_step(), batch_size=batch)
    data = jax.tree.map(jnp.asarray, pictures(network, batch * steps))

    def work() -> None:
        nonlocal state
        state, _ = run(state, data)
        jax.block_until_ready(state)

    return work


def forward(network: str, batch: int, steps: int) -> Work:
    """Logits of each batch."""
    graph, params = nnx.split(_model(network))
    data = [jnp.asarray(images) for images, _ in batches(network, batch, steps)]

    @jax.jit
    def logits(params: nnx.State, images: jax.Array) -> jax.Array:
        return nnx.merge(graph, params)(images.astype(jnp.float32) / 255)

    return lambda: jax.block_until_ready([logits(params, images) for images in data])


def epoch(network: str, batch: int, examples: int, data_dir: str | None) -> Work:
    """An epoch over pictures on the device, as in `train.fit`: shuffled, with its metrics fetched at the end."""
    state = initial_state(network)
    data = jax.tree.map(jnp.asarray, pictures(network, examples, data_dir))
    run = train.make_epoch(training_step(), batch_size=batch).lower(state, data).compile()

    def work() -> None:
        nonlocal state
        state, metrics = run(state, data)
        jax.device_get(metrics)

    return work


def ensemble(network: str, batch: int, steps: int, members: int, at_once: int | None) -> Work:
    """Training steps of several networks on the same pictures: `at_once` in one program, or None for single runs."""
    run = train.make_epoch(training_step(), batch_size=batch)
    data = jax.tree.map(jnp.asarray, pictures(network, batch * steps))
    together = train.ensemble.make(run, members_per_chunk=at_once)
    stacked = train.ensemble.create(lambda key: _model(network, key), ADAM, {"seed": range(members)})
    states = [train.ensemble.member(stacked, i) for i in range(members)] if at_once is None else []

    def work() -> None:
        nonlocal stacked
        if at_once is None:
            for i, state in enumerate(states):
                states[i], _ = run(state, data)
            jax.block_until_ready(states)
        else:
            stacked, _ = together(stacked, data)
            jax.block_until_ready(stacked)

    return work


def _model(network: str, seed: int | jax.Array = 0) -> nnx.Module:
    makers: dict[str, Callable[..., nnx.Module]] = {"cifar10": models.Cifar10Net, "lenet": models.LeNet}
    return makers[network](NETWORKS[network].picture, rngs=nnx.Rngs(seed))


def initial_state(network: str) -> train.TrainState:
    """A state before training."""
    return train.create_state(_model(network), ADAM, jax.random.key(0))


def training_step() -> Jitted:
    """A training step of a network that classifies pictures."""
    return train.make_step(train.losses.classification(), preprocess=train.image_preprocess())
