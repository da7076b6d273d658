"""A training step of the CIFAR-10 network: jaxnn called step by step and inside its epoch, and peers on the same work.

Every side trains conv 32, max pool, conv 64, max pool, dense 512, dense 10 with Adam on the same pictures, in float32.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.bench.timing import Work
from jaxnn import models, train
from jaxnn.data import Examples

STEPS = 8
"""Steps in one call of each side."""


def sides(batch: int) -> tuple[dict[str, Work], list[str]]:
    """What to time, `STEPS` steps a call, and what is missing and why."""
    rng = np.random.default_rng(0)
    examples = Examples(
        rng.integers(0, 256, (batch * STEPS, 32, 32, 3), np.uint8),
        rng.integers(0, 10, batch * STEPS).astype(np.int32),
    )
    chosen = {
        "jaxnn, step": jaxnn_step(examples, batch),
        "jaxnn, step in the epoch": jaxnn_epoch(examples, batch),
        "Flax NNX": flax_step(examples, batch),
    }
    try:
        chosen["PyTorch, channels last"] = torch_step(examples, batch)
    except ImportError:
        return chosen, ["PyTorch is not installed"]
    return chosen, []


def to_float(key: jax.Array | None, batch: Any) -> Any:
    """Pictures of 0 to 1."""
    del key
    return batch._replace(images=batch.images.astype(jnp.float32) / 255)


def jaxnn_step(examples: Examples, batch: int) -> Work:
    """The step called from Python."""
    state = _state()
    step = train.make_step(train.classification_loss(), preprocess=to_float)
    batches = [jax.tree.map(lambda a, i=i: jnp.asarray(a[i * batch :][:batch]), examples) for i in range(STEPS)]

    def work() -> None:
        nonlocal state
        for each in batches:
            state, _ = step(state, each)
        jax.block_until_ready(state)

    return work


def jaxnn_epoch(examples: Examples, batch: int) -> Work:
    """The step inside the compiled epoch."""
    state = _state()
    step = train.make_step(train.classification_loss(), preprocess=to_float)
    epoch = train.make_epoch(step, batch_size=batch)
    data = jax.tree.map(jnp.asarray, examples)

    def work() -> None:
        nonlocal state
        state, _ = epoch(state, data)
        jax.block_until_ready(state)

    return work


def _state() -> train.TrainState:
    return train.create_state(models.Cifar10Net(rngs=nnx.Rngs(0)), optax.adam(1e-3), jax.random.key(0))


def flax_step(examples: Examples, batch: int) -> Work:
    """The network in Flax's own layers, trained as Flax's documentation does."""
    rngs = nnx.Rngs(0)
    net = nnx.Sequential(
        nnx.Conv(3, 32, (3, 3), padding="VALID", rngs=rngs),
        nnx.relu,
        lambda x: nnx.max_pool(x, (2, 2), (2, 2)),
        nnx.Conv(32, 64, (3, 3), padding="VALID", rngs=rngs),
        nnx.relu,
        lambda x: nnx.max_pool(x, (2, 2), (2, 2)),
        lambda x: x.reshape(len(x), -1),
        nnx.Linear(2304, 512, rngs=rngs),
        nnx.relu,
        nnx.Linear(512, 10, rngs=rngs),
    )
    optimizer = nnx.Optimizer(net, optax.adam(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(net: Any, optimizer: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
        def loss_fn(net: Any) -> jax.Array:
            logits = net(images.astype(jnp.float32) / 255)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, grads = nnx.value_and_grad(loss_fn)(net)
        optimizer.update(net, grads)
        return loss

    batches = [jax.tree.map(lambda a, i=i: jnp.asarray(a[i * batch :][:batch]), examples) for i in range(STEPS)]

    def work() -> None:
        for each in batches:
            loss = step(net, optimizer, *each)
        jax.block_until_ready((loss, nnx.state(net)))

    return work


def torch_step(examples: Examples, batch: int) -> Work:
    """The network in PyTorch, channels last, with fused Adam."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(2304, 512),
        torch.nn.ReLU(),
        torch.nn.Linear(512, 10),
    ).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    images = torch.from_numpy(examples.images.transpose(0, 3, 1, 2).copy())
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(examples.labels.astype(np.int64))

    def work() -> None:
        for i in range(STEPS):
            part = slice(i * batch, (i + 1) * batch)
            adam.zero_grad(set_to_none=True)
            logits = net(images[part].float() / 255)
            torch.nn.functional.cross_entropy(logits, labels[part]).backward()
            adam.step()

    return work
