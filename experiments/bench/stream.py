"""The epoch on the device beside the streamed one, on pictures of CIFAR-10's size: how fast each is, and what it needs.

    python -m experiments.bench.stream
    python -m experiments.bench.stream --examples 50000 --workers 4
    python -m experiments.bench.stream --examples 50000 200000 800000 --no-network     # from which size on a stream

Both train on the same random pictures in the same order. "CIFAR-10 network" is `models.Cifar10Net`; "one dense layer"
has next to no arithmetic, so it shows what bringing the batches costs. Reading alone says what a stream can deliver
at best. Files are in a folder for temporary files, and the system's cache may hold them, as in a second epoch.

How to read it, with several sizes: what is beyond the first 12,800 pictures repeats them, which costs as much to store,
shuffle and read as others would. As long as "on the device" has a number it is the simplest way; a stream is *needed*
from the size on where it does not fit, and is *as fast* where its row equals that one, as it does when the network
takes longer for a batch than reading it does. On CPU the device's memory is the host's: that row is a second copy
there, and the system may swap or end the process rather than refuse. No size that is tried on CPU shows where a GPU's
memory would end; the last line computes that size for the device at hand.
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
from experiments.bench.sides.pictures import pictures
from jaxnn import data, models, modules, train
from jaxnn.cli import Count, check, expect, run
from jaxnn.data import Examples

PICTURE = 32 * 32 * 3 + 4
"""Bytes of a picture and its label."""


@dataclasses.dataclass
class Options:
    """What to measure."""

    examples: tuple[Count, ...] = (12_800,)
    """Pictures of 32 x 32 x 3 bytes, one or several numbers of them; CIFAR-10 has 50,000 to train on."""
    batch_size: Count = 128
    """Pictures a step."""
    workers: Count = 1
    """Processes that read, in the measurement with processes."""
    epochs: Count = 3
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
    """Prints a table for each size, and the size that the device's memory ends at."""
    expect("examples", "none", len(options.examples) > 0, "at least one number")
    check(options)
    for examples in options.examples:
        measure(options, examples)
    memory, of = device_memory()
    fits = int(memory * 0.8) // PICTURE
    print(
        f"{of} has {memory / 2**30:.1f} GiB. With a fifth of it for the network and its batches, {fits:,} such "
        f"pictures fit, {fits / 50_000:,.0f} times CIFAR-10: up to there the epoch on the device serves, from there on "
        "a stream is needed. Arrays serve a stream as far as the host's memory goes, files as far as the disk does."
    )


def random_pictures(examples: int) -> Examples:
    """So many, of which those beyond the first 12,800 repeat them."""
    images, labels = pictures("cifar10", min(examples, 12_800))
    return Examples(np.resize(images, (examples, 32, 32, 3)), np.resize(labels, examples))


def measure(options: Options, examples: int) -> None:
    """Prints the table of one size."""
    learned = random_pictures(examples)
    networks: dict[str, Callable[[nnx.Rngs], nnx.Module]] = {"one dense layer": lambda rngs: Dense(rngs)}
    if options.network:
        networks["CIFAR-10 network"] = lambda rngs: models.Cifar10Net(rngs=rngs)
    with tempfile.TemporaryDirectory() as folder:
        names = Examples(f"{folder}/images.npy", f"{folder}/labels.npy")  # type: ignore[arg-type]
        np.save(str(names.images), learned.images)
        np.save(str(names.labels), learned.labels)
        files = data.ArrayFiles(names)
        ways: dict[str, Any] = {
            "on the device": learned,
            "stream, arrays in memory": data.Stream(learned),
            "stream, memory-mapped files": data.Stream(files),
            f"stream, files, {options.workers} worker process{'es' * (options.workers > 1)}": data.Stream(
                files, workers=options.workers
            ),
        }
        rates = {
            name: {way: rate(options, network, source, examples) for way, source in ways.items()}
            for name, network in networks.items()
        }
        streams = {way: source for way, source in ways.items() if isinstance(source, data.Stream)}
        reading = {way: reading_rate(options, stream) for way, stream in streams.items()}
    # The batch in use and two ahead.
    held = {way: (3 * options.batch_size if way in streams else examples) * PICTURE for way in ways}
    rows = [
        [
            way,
            *("does not fit" if (found := rates[name][way]) is None else f"{found:,.0f}" for name in networks),
            f"{reading[way]:,.0f}" if way in streams else "-",
            f"{held[way] / 2**20:.1f}",
        ]
        for way in ways
    ]
    kind = jax.devices()[0].device_kind
    print(f"{examples:,} pictures, batches of {options.batch_size}, {kind}; examples a second\n")
    print(table(["data", *networks, "reading alone", "MiB of data on the device"], rows), end="\n\n", flush=True)


def rate(options: Options, network: Callable[[nnx.Rngs], nnx.Module], source: Any, examples: int) -> float | None:
    """Examples a second of the fastest epoch; None where the device has no memory for the data."""
    state = train.create_state(network(nnx.Rngs(0)), optax.adam(1e-3), jax.random.key(0))
    step = train.make_step(train.losses.classification(), preprocess=train.image_preprocess())
    streamed = isinstance(source, data.Stream)
    epoch: Any = (
        train.loop.StreamedEpoch(step, batch_size=options.batch_size)
        if streamed
        else train.make_epoch(step, batch_size=options.batch_size)
    )
    seconds = []
    try:
        source = source if streamed else jax.device_put(source)
        for _ in range(1 + options.epochs):
            began = time.perf_counter()
            state, _ = jax.block_until_ready(epoch(state, source))
            seconds.append(time.perf_counter() - began)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    return examples / min(seconds[1:])


def reading_rate(options: Options, stream: data.Stream) -> float:
    """Examples a second, read and dropped."""
    order = np.random.default_rng(1).permutation(stream.examples // options.batch_size * options.batch_size)
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
