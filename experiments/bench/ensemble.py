"""Many CIFAR-10 networks as one ensemble, against as many single runs one after the other: time and memory.

    python -m experiments.bench.ensemble
    taskset -c 0 python -m experiments.bench.ensemble --members 8    # one core

Both sides train the same networks on the same pictures by the same compiled epoch; the ensemble maps it over members, in
chunks. Memory is what the compiled program says: states, data and temporaries. Machines are noisy: trust the ratios.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.bench.cifar10_step import to_float
from experiments.bench.timing import Timing, Work, in_turn, table
from experiments.command import run
from jaxnn import models, train
from jaxnn.data import Examples
from jaxnn.train.memory import readable

STEPS = 4
"""Training steps in one call of each side."""
SINGLE = "single runs, one after the other"


@dataclasses.dataclass
class Options:
    """What to measure."""

    members: int = 16
    """Networks."""
    chunks: tuple[int, ...] = (1, 4, 16)
    """Networks that a device trains at once."""
    batch: int = 32
    """Pictures a step."""
    rounds: int = 5
    """Timed calls of each side, of 4 steps of all networks each."""
    run: Path = Path("runs/bench-ensemble")
    """The run folder; a number is added where it exists, nothing is overwritten."""


class Side(NamedTuple):
    """One way to train all networks.

    Attributes:
        work: trains each of them for `STEPS` steps.
        memory: bytes on each device: all states, the data, and what the program needs beside them.
    """

    work: Work
    memory: int


def sides(members: int, chunks: Sequence[int], batch: int) -> dict[str, Side]:
    """What to time, by name: the single runs, and an ensemble for each number of networks at once."""
    rng = np.random.default_rng(0)
    data = Examples(
        rng.integers(0, 256, (batch * STEPS, 32, 32, 3), np.uint8),
        rng.integers(0, 10, batch * STEPS).astype(np.int32),
    )
    epoch = train.make_epoch(train.make_step(train.classification_loss(), preprocess=to_float), batch_size=batch)
    ways = {SINGLE: single(epoch, members, data)}
    for size in chunks:
        ways[f"ensemble, {size} at once"] = ensemble(epoch, members, data, size)
    return ways


def states_of(members: int) -> train.TrainState:
    """The networks before training, stacked."""
    tx = train.optimizer("adam", 1e-3, steps=1000)
    return train.create_ensemble(lambda key: models.Cifar10Net(rngs=nnx.Rngs(key)), tx, {"seed": range(members)})


def single(epoch: jax.stages.Wrapped, members: int, data: Examples) -> Side:
    """One network after the other, each by the same compiled epoch."""
    stacked = states_of(members)
    states = [train.member(stacked, i) for i in range(members)]
    on_device = jax.tree.map(jnp.asarray, data)
    memory = _memory(epoch, states[0], on_device) + (members - 1) * _bytes(states[0])

    def work() -> None:
        for i, state in enumerate(states):
            states[i], _ = epoch(state, on_device)
        jax.block_until_ready(states)

    return Side(work, memory)


def ensemble(epoch: jax.stages.Wrapped, members: int, data: Examples, size: int) -> Side:
    """All networks by one program."""
    together = train.make_ensemble(epoch, members_per_chunk=size)
    states, on_device = together.put(states_of(members), data)
    memory = _memory(jax.jit(together, donate_argnums=0), states, on_device)

    def work() -> None:
        nonlocal states
        states, _ = together(states, on_device)
        jax.block_until_ready(states)

    return Side(work, memory)


def _memory(program: jax.stages.Wrapped, *args: object) -> int:
    analysis = program.lower(*args).compile().memory_analysis()
    return int(
        analysis.argument_size_in_bytes
        + analysis.temp_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
    )


def _bytes(state: train.TrainState) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state))


def rows(timings: dict[str, Timing], ways: dict[str, Side], members: int) -> tuple[list[str], list[list[str]]]:
    """The table's header and rows."""
    ours = timings[SINGLE].median
    header = [f"{members} networks", "time / single runs", "ms a step of all", "quartiles ms", "first call s", "memory"]
    return header, [
        [
            name,
            f"{t.median / ours:.2f}",
            f"{t.median * 1e3:.0f}",
            f"{t.lower * 1e3:.0f} to {t.upper * 1e3:.0f}",
            f"{t.first:.1f}",
            readable(ways[name].memory),
        ]
        for name, t in timings.items()
    ]


def main(options: Options) -> None:
    """Times both ways, prints the table and saves it."""
    for name, value in (("members", options.members), ("batch", options.batch), ("rounds", options.rounds)):
        if value < 1:
            raise ValueError(f"--{name} must be at least 1, not {value}")
    chunks = [size for size in options.chunks if 1 <= size <= options.members]
    if not chunks:
        raise ValueError(f"--chunks must name numbers from 1 to {options.members}, not {options.chunks}")
    folder = train.RunFolder.create(options.run, dataclasses.asdict(options))
    ways = sides(options.members, chunks, options.batch)
    timings = in_turn({name: side.work for name, side in ways.items()}, rounds=options.rounds, units=STEPS)
    print(table(*rows(timings, ways, options.members)))
    record = {n: dataclasses.asdict(t) | {"memory_bytes": ways[n].memory} for n, t in timings.items()}
    with train.runfolder.replacing(folder / "bench.json") as beside:
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"numbers are in {folder.path}")


if __name__ == "__main__":
    run(main, Options, __doc__)
