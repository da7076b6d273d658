"""What a checkpoint each epoch costs: epochs of the CIFAR-10 network with and without, in turn.

    python -m experiments.bench.checkpoint
    python -m experiments.bench.checkpoint --examples 50000 --folder /the/disk/to/measure

Trains on random pictures of CIFAR-10's size. With checkpoints, `save` takes a copy of the state, and Orbax writes it
while the next epoch trains: what the epoch takes longer is counted as well, and so is the wait if writing takes longer
than the epoch. The state is the network's parameters and two moments of Adam for each.
"""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import optax
from flax import nnx

from experiments.bench.report import table
from experiments.bench.sides.pictures import pictures
from experiments.bench.timing import Timing, ratio, summary
from jaxnn import models, train
from jaxnn.cli import Count, check, expect, run


@dataclasses.dataclass
class Options:
    """What to measure."""

    examples: Count = 12_800
    """Pictures of 32 x 32 x 3 bytes in an epoch; CIFAR-10 has 50,000 to train on."""
    batch_size: Count = 128
    """Pictures a step."""
    rounds: Count = 5
    """Timed epochs of each, in turn, after one that compiles."""
    folder: Path | None = None
    """An existing folder on the disk to write to; by default the one for temporary files."""


def main(options: Options) -> None:
    """Measures and prints the table."""
    check(options)
    expect("folder", options.folder, options.folder is None or options.folder.is_dir(), "a folder that exists")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="checkpoints-") as folder:
        timings, size = measure(options, Path(folder))
    kind, plain, saving = jax.devices()[0].device_kind, timings["without"], timings["with"]
    print(f"CIFAR-10 network, {options.examples:,} pictures an epoch, batches of {options.batch_size}, {kind}\n")
    names = {"without": "an epoch without", "with": "an epoch with a checkpoint", "save": "of which save() blocks"}
    rows = [
        [names[name], f"{t.median:.3f}", f"{t.lower:.3f} to {t.upper:.3f}", f"{ratio(t, plain):.2%}"]
        for name, t in timings.items()
    ]
    print(table(["", "median s", "quartiles s", "of an epoch without"], rows))
    print(
        f"\nA checkpoint has {size / 2**20:.1f} MiB. With one after each epoch training takes "
        f"{ratio(saving, plain) - 1:.1%} more time (median of {options.rounds} rounds); save() alone blocks for "
        f"{ratio(timings['save'], plain):.1%}."
    )


def measure(options: Options, folder: Path) -> tuple[dict[str, Timing], int]:
    """The seconds of epochs without and with a checkpoint and of `save`, and the bytes of a checkpoint on the disk."""
    examples = jax.tree.map(jax.numpy.asarray, pictures("cifar10", options.examples))
    step = train.make_step(train.losses.classification(), preprocess=train.image_preprocess())
    epoch = train.make_epoch(step, batch_size=options.batch_size)
    states = {
        name: train.create_state(models.Cifar10Net(rngs=nnx.Rngs(0)), optax.adam(1e-3), jax.random.key(0))
        for name in ("without", "with")
    }
    seconds: dict[str, list[float]] = {"without": [], "with": [], "save": []}

    def learn(name: str) -> None:
        states[name], _ = jax.block_until_ready(epoch(states[name], examples))

    with contextlib.ExitStack() as stack:
        saver = stack.enter_context(train.checkpoint.Saver(train.Checkpoints(folder)))

        def save() -> None:
            saver.save(states["with"], train.checkpoint.Position())

        def learn_while_it_is_written() -> None:
            seconds["save"].append(took(save))
            learn("with")
            saver.wait()

        ways: dict[str, Callable[[], Any]] = {"without": lambda: learn("without"), "with": learn_while_it_is_written}
        for number in range(1 + options.rounds):
            # Each goes first in every second round.
            for name in sorted(ways, reverse=bool(number % 2)):
                seconds[name].append(took(ways[name]))
    newest = max(folder.glob("[0-9]*"), key=lambda path: int(path.name))
    size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    return {name: summary(rounds[1:], first=rounds[0]) for name, rounds in seconds.items()}, size


def took(function: Callable[[], Any]) -> float:
    """The seconds of a call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    run(main, Options, __doc__)
