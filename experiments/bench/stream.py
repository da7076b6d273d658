"""Compares the epoch on the device with the streamed epoch: examples per second and memory by number of pictures.

    python -m experiments.bench.stream
    python -m experiments.bench.stream --examples 50000 --workers 4
    python -m experiments.bench.stream --examples 50000 200000 800000 --no-network     # at which size to stream

Both train on the same random pictures, of the size of CIFAR-10's, in the same order. "CIFAR-10 network" is
`models.Cifar10Net`; "one dense layer" has almost no arithmetic, so it shows the cost of moving the batches. "Reading
alone" is the largest rate that a stream can reach. The files are in a folder for temporary files. The system may keep
them in its cache, as in a second epoch.

The first 12,800 pictures repeat in larger sizes, which cost as much to store, shuffle and read as different pictures.
The epoch on the device is the simplest way. Sizes that do not fit on the device need a stream. A stream is as fast as
the epoch on the device if the network takes longer for a batch than the reading does. On CPU the device's memory is the
host's: the pictures on the device are a second copy, and the system may swap or end the process. The last line computes
the size that fits in the memory of this device.
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
from experiments.bench.sides.jaxnn_networks import training_step
from experiments.bench.sides.pictures import pictures
from jaxnn import data, models, modules, train
from jaxnn.cli import Count, check, expect, run
from jaxnn.data import Examples

PICTURE = 32 * 32 * 3 + 4
"""Bytes of a picture and its label."""


@dataclasses.dataclass
class Options:
    """The sizes and the epochs."""

    examples: tuple[Count, ...] = (12_800,)
    """One or several numbers of pictures, of 32 x 32 x 3 bytes each; CIFAR-10 has 50,000 training pictures."""
    batch_size: Count = 128
    """Pictures per step."""
    workers: Count = 1
    """Reading processes, in the measurement with worker processes."""
    epochs: Count = 3
    """Timed epochs of each, after one that compiles; the fastest counts."""
    network: bool = True
    """Measure the CIFAR-10 network too; it takes most of the time."""


class Dense(nnx.Module):
    """One dense layer, a network with almost no arithmetic."""

    def __init__(self, rngs: nnx.Rngs):
        self.dense = modules.Dense(3072, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Computes the logits of pictures of shape `(batch, 32, 32, 3)`."""
        return self.dense(x.reshape(x.shape[0], -1))


def main(options: Options) -> None:
    """Prints a table for each size, and the size that fits in the device's memory."""
    expect("examples", "none", len(options.examples) > 0, "at least one number")
    check(options)
    for examples in options.examples:
        measure(options, examples)
    memory, of = device_memory()
    fits = int(memory * 0.8) // PICTURE
    print(
        f"{of} has {memory / 2**30:.1f} GiB. With a fifth of it for the network and its batches, {fits:,} pictures "
        f"fit, {fits / 50_000:,.0f} times CIFAR-10. More pictures need a stream: of arrays, if they fit in the host's "
        "memory, or of files."
    )


def random_pictures(examples: int) -> Examples:
    """Random pictures; those beyond the first 12,800 repeat them."""
    images, labels = pictures("cifar10", min(examples, 12_800))
    return Examples(np.resize(images, (examples, 32, 32, 3)), np.resize(labels, examples))


def measure(options: Options, examples: int) -> None:
    """Measures one size and prints its table."""
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
    # A stream holds the current batch and the next two.
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
    print(f"{examples:,} pictures, batches of {options.batch_size}, {kind}; examples per second\n")
    print(table(["data", *networks, "reading alone", "MiB of data on the device"], rows), end="\n\n", flush=True)


def rate(options: Options, network: Callable[[nnx.Rngs], nnx.Module], source: Any, examples: int) -> float | None:
    """Measures the examples per second of the fastest epoch; None if the data do not fit in the device's memory."""
    state = train.create_state(network(nnx.Rngs(0)), optax.adam(1e-3), jax.random.key(0))
    step = training_step()
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
    """Measures the examples per second of a stream that is only read."""
    order = np.random.default_rng(1).permutation(stream.examples // options.batch_size * options.batch_size)
    began = time.perf_counter()
    for _ in stream.batches(order.reshape(-1, options.batch_size)):
        pass
    return order.size / (time.perf_counter() - began)


def device_memory() -> tuple[int, str]:
    """Returns the bytes of the device's memory, or of the host's if the device is its CPU, and the owner's name."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]), "The device"
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "This host, whose CPU is the device,"


if __name__ == "__main__":
    run(main, Options, __doc__)
