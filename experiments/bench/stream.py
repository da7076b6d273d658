"""The epoch on the device beside the streamed one, on pictures of CIFAR-10's size: how fast each is, and what it needs.

    python -m experiments.bench.stream
    python -m experiments.bench.stream --examples 50000 --workers 4

Both train on the same random pictures in the same order. "CIFAR-10 network" is the tutorial's; "one dense layer" has
next to no arithmetic, so that it shows what bringing the batches costs. Reading alone says what a stream can deliver
at best. Files are in a folder for temporary files, and the system's cache may hold them, as in a second epoch.
"""

import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from experiments.bench.report import table
from experiments.command import run
from jaxnn import data, models, modules, train
from jaxnn.data import Examples

PICTURE = 32 * 32 * 3 + 4
"""Bytes of a picture and its label."""


@dataclasses.dataclass
class Options:
    """What to measure."""

    examples: int = 12_800
    """Pictures of 32 x 32 x 3 bytes; CIFAR-10 has 50,000 to train on."""
    batch_size: int = 128
    """Pictures a step."""
    workers: int = 1
    """Processes that read, in the measurement with processes."""
    epochs: int = 3
    """Timed epochs of each, of which the fastest counts, after one that compiles."""
    network: bool = True
    """Measure the CIFAR-10 network too, which takes most of the time."""


class Dense(nnx.Module):
    """One dense layer: a network that costs next to nothing."""

    def __init__(self, rngs: nnx.Rngs):
        self.dense = modules.Dense(3072, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """`(batch, 32, 32, 3)` -> logits."""
        return self.dense(x.reshape(x.shape[0], -1))


def main(options: Options) -> None:
    """Prints both tables."""
    if min(options.examples, options.batch_size, options.epochs, options.workers) < 1:
        raise ValueError("--examples, --batch-size, --epochs and --workers must be at least 1")
    rng = np.random.default_rng(0)
    pictures = Examples(
        rng.integers(0, 256, (options.examples, 32, 32, 3), np.uint8),
        rng.integers(0, 10, options.examples).astype(np.int32),
    )
    networks: dict[str, Callable[[nnx.Rngs], nnx.Module]] = {"one dense layer": lambda rngs: Dense(rngs)}
    if options.network:
        networks["CIFAR-10 network"] = lambda rngs: models.Cifar10Net(rngs=rngs)
    with tempfile.TemporaryDirectory() as folder:
        names = Examples(f"{folder}/images.npy", f"{folder}/labels.npy")  # type: ignore[arg-type]
        np.save(str(names.images), pictures.images)
        np.save(str(names.labels), pictures.labels)
        files = data.ArrayFiles(names)
        ways: dict[str, Any] = {
            "on the device": jax.tree.map(jax.numpy.asarray, pictures),
            "stream, arrays in memory": data.Stream(pictures),
            "stream, memory-mapped files": data.Stream(files),
            f"stream, files, {options.workers} worker process{'es' * (options.workers > 1)}": data.Stream(
                files, workers=options.workers
            ),
        }
        rates = {
            name: {way: rate(options, network, source) for way, source in ways.items()}
            for name, network in networks.items()
        }
        streams = {way: source for way, source in ways.items() if isinstance(source, data.Stream)}
        reading = {way: reading_rate(options, stream) for way, stream in streams.items()}
    # The batch in use and two ahead.
    held = {way: (3 * options.batch_size if way in streams else options.examples) * PICTURE for way in ways}
    rows = [
        [
            way,
            *(f"{rates[name][way]:,.0f}" for name in networks),
            f"{reading[way]:,.0f}" if way in streams else "-",
            f"{held[way] / 2**20:.1f}",
        ]
        for way in ways
    ]
    kind = jax.devices()[0].device_kind
    print(f"{options.examples:,} pictures, batches of {options.batch_size}, {kind}; examples a second\n")
    print(table(["data", *networks, "reading alone", "MiB of data on the device"], rows))
    memory, of = device_memory()
    fits = int(memory * 0.8) // PICTURE
    print(
        f"\n{of} has {memory / 2**30:.1f} GiB. With a fifth of it for the network and its batches, {fits:,} such "
        f"pictures fit, {fits / 50_000:,.0f} times CIFAR-10: up to there the epoch on the device serves, from there on "
        "a stream is needed. Arrays serve a stream as far as the host's memory goes, files as far as the disk does."
    )


def rate(options: Options, network: Callable[[nnx.Rngs], nnx.Module], source: Any) -> float:
    """Examples a second of the fastest epoch."""
    state = train.create_state(network(nnx.Rngs(0)), optax.adam(1e-3), jax.random.key(0))
    step = train.make_step(train.classification_loss(), preprocess=train.image_preprocess())
    epoch: Any = (
        train.StreamedEpoch(step, batch_size=options.batch_size)
        if isinstance(source, data.Stream)
        else train.make_epoch(step, batch_size=options.batch_size)
    )
    seconds = []
    for _ in range(1 + options.epochs):
        began = time.perf_counter()
        state, _ = jax.block_until_ready(epoch(state, source))
        seconds.append(time.perf_counter() - began)
    return options.examples / min(seconds[1:])


def reading_rate(options: Options, stream: data.Stream) -> float:
    """Examples a second, read and dropped."""
    order = np.random.default_rng(1).permutation(options.examples // options.batch_size * options.batch_size)
    began = time.perf_counter()
    for _ in stream.batches(order.reshape(-1, options.batch_size)):
        pass
    return order.size / (time.perf_counter() - began)


def device_memory() -> tuple[int, str]:
    """Bytes of the device's memory, or of the host's where the device is its processor."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]), "The device"
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "This host, whose processor is the device,"


if __name__ == "__main__":
    run(main, Options, __doc__)
