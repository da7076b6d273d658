"""Measures jaxnn beside its peers on the same work, in one process, side by side in turn.

    make bench
    taskset -c 0 python -m experiments.bench --threads 1     # one core

Prints a table and writes bench.json and bench.png to the run folder. A peer that is not installed is said, not
required. Machines are noisy: trust the ratios of one run, not single times.
"""

import dataclasses
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax

from experiments.bench import cifar10_step
from experiments.bench.timing import Timing, in_turn, table
from experiments.command import run
from jaxnn import train
from jaxnn.train.plots.figure import new_figure, save

OURS = "jaxnn, step in the epoch"


@dataclasses.dataclass
class Options:
    """What to measure."""

    batches: tuple[int, ...] = (32, 128)
    """Batch sizes of the CIFAR-10 network."""
    rounds: int = 15
    """Timed calls of each side, of 8 steps each."""
    threads: int | None = None
    """Threads that PyTorch may use, as many as the process has cores unless said; JAX uses the process's cores."""
    run: Path = Path("runs/bench")
    """The run folder; a number is added where it exists, nothing is overwritten."""


def main(options: Options) -> None:
    """Times every side at every batch size, prints the table and saves it."""
    if options.rounds < 1 or any(batch < 1 for batch in options.batches):
        raise ValueError(f"--rounds and --batches must be at least 1, not {options.rounds} and {options.batches}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    set_torch_threads(options.threads or cores)
    folder = train.RunFolder.create(options.run, dataclasses.asdict(options))
    results: dict[int, dict[str, Timing]] = {}
    for batch in options.batches:
        sides, missing = cifar10_step.sides(batch)
        for why in missing:
            print(f"not measured: {why}")
        results[batch] = in_turn(sides, rounds=options.rounds, units=cifar10_step.STEPS)
        print(f"\nCIFAR-10 network, batch {batch}, {cores} cores, milliseconds a training step")
        print(table(*rows(results[batch])))
    record = {
        "machine": {"processor": platform.processor(), "cores": cores, "device": jax.devices()[0].device_kind},
        "versions": {"python": platform.python_version(), "jax": jax.__version__},
        "cifar10_step": {b: {n: dataclasses.asdict(t) for n, t in r.items()} for b, r in results.items()},
    }
    with train.runfolder.replacing(folder / "bench.json") as beside:
        beside.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    draw(results, folder / "bench.png")
    print(f"\nnumbers and picture are in {folder.path}")


def rows(timings: dict[str, Timing]) -> tuple[list[str], list[list[str]]]:
    """The table's header and rows: ratio to jaxnn first, then median and quartiles, then the first call."""
    ours = timings[OURS].median
    header = ["side", f"time / {OURS}", "median ms", "quartiles ms", "first call s"]
    body = [
        [
            name,
            f"{t.median / ours:.2f}",
            f"{t.median * 1e3:.1f}",
            f"{t.lower * 1e3:.1f} to {t.upper * 1e3:.1f}",
            f"{t.first:.1f}",
        ]
        for name, t in timings.items()
    ]
    return header, body


def draw(results: dict[int, dict[str, Timing]], path: Path) -> None:
    """A bar a side for each batch size, in units of jaxnn's time."""
    figure = new_figure(7.0, 1.2 + 0.4 * sum(len(r) for r in results.values()))
    axes: Any = figure.add_subplot()
    labels, values = [], []
    for batch, timings in results.items():
        for name, timing in timings.items():
            labels.append(f"batch {batch}: {name}")
            values.append(timing.median / timings[OURS].median)
    colours = ["#1f77b4" if "jaxnn" in label else "#999999" for label in labels]
    bars = axes.barh(range(len(labels)), values, color=colours)
    axes.bar_label(bars, [f"{v:.2f}" for v in values], padding=3, fontsize=8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"time of a training step, in units of {OURS}; shorter is better")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def set_torch_threads(threads: int) -> None:
    """Gives PyTorch, where it is installed, as many threads as JAX has cores."""
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)


if __name__ == "__main__":
    run(main, Options, __doc__)
