"""The cost of a checkpoint after each epoch: trains the CIFAR-10 network with and without checkpoints, in turn.

    python -m experiments.bench.checkpoint
    python -m experiments.bench.checkpoint --examples 50000 --folder /the/disk/to/measure

The pictures are random and have the size of CIFAR-10's. `save` copies the state, which has the network's parameters and
two moments of Adam for each, and Orbax writes the copy while the next epoch trains. An epoch with a checkpoint is the
time of `save`, of training, and of the wait if writing takes longer than training.
"""

import contextlib
import dataclasses
import tempfile
from pathlib import Path

import jax

from experiments.bench.case import Work
from experiments.bench.report import table
from experiments.bench.sides.jaxnn_networks import initial_state, training_step
from experiments.bench.sides.pictures import pictures
from experiments.bench.timing import Timing, alternate, ratio, summary
from experiments.bench.worker import seconds as seconds_of
from jaxnn import train
from jaxnn.cli import Count, check, expect, run


@dataclasses.dataclass
class Options:
    """The size of an epoch, the rounds and the disk."""

    examples: Count = 12_800
    """Pictures of 32 x 32 x 3 bytes in an epoch; CIFAR-10 has 50,000 training pictures."""
    batch_size: Count = 128
    """Pictures per step."""
    rounds: Count = 5
    """Timed epochs with and without a checkpoint, after one that compiles."""
    folder: Path | None = None
    """An existing folder on the disk to write to; by default the folder for temporary files."""


def main(options: Options) -> None:
    """Measures, and prints the table."""
    check(options)
    expect("folder", options.folder, options.folder is None or options.folder.is_dir(), "a folder that exists")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="checkpoints-") as folder:
        timings, size = measure(options, Path(folder))
    kind, plain, saving = jax.devices()[0].device_kind, timings["without"], timings["with"]
    print(f"CIFAR-10 network, {options.examples:,} pictures per epoch, batches of {options.batch_size}, {kind}\n")
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
    """Measures the seconds of an epoch without and with a checkpoint and of `save`, and the bytes of a checkpoint."""
    examples = jax.tree.map(jax.numpy.asarray, pictures("cifar10", options.examples))
    epoch = train.make_epoch(training_step(), batch_size=options.batch_size)
    states = {name: initial_state("cifar10") for name in ("without", "with")}
    seconds: dict[str, list[float]] = {"without": [], "with": [], "save": []}

    def learn(name: str) -> None:
        states[name], _ = jax.block_until_ready(epoch(states[name], examples))

    with contextlib.ExitStack() as stack:
        saver = stack.enter_context(train.checkpoint.Saver(train.Checkpoints(folder)))

        def save() -> None:
            saver.save(states["with"], train.checkpoint.Position())

        def learn_during_save() -> None:
            seconds["save"].append(seconds_of(save))
            learn("with")
            saver.wait()

        works: dict[str, Work] = {"without": lambda: learn("without"), "with": learn_during_save}
        for order in alternate(list(works), least=1 + options.rounds):
            for name in order:
                seconds[name].append(seconds_of(works[name]))
    newest = max(folder.glob("[0-9]*"), key=lambda path: int(path.name))
    size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    return {name: summary(rounds[1:], first=rounds[0]) for name, rounds in seconds.items()}, size


if __name__ == "__main__":
    run(main, Options, __doc__)
