"""Compares the speed of jaxnn with other libraries on CPU: prints tables, writes bench.json and bench.png.

    make bench                                 # on all cores, then on one core; 20 minutes
    make bench BENCH='--minutes 70'            # enough for all cases, on two cores
    python -m experiments.bench --quick        # a few cases of each workload, on all cores; 3 minutes
    python -m experiments.bench --only layers recurrent --threads 1
    python -m experiments.bench --also ~/newer/bin/python  # also with the JAX of that Python

The peers are PyTorch, Keras 3 on TensorFlow and on JAX, Flax NNX, Haiku and Equinox. `pip install '.[bench]'` installs
them, except PyTorch, which needs a separate `pip install`. The benchmark names the peers that are not installed and
measures the others.

Each library works in a separate process with a fixed number of threads. The processes work in turn, one at a time, so
a change in the machine's speed affects all of them. Machines are noisy: trust the ratios of one run, not single times.
"""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from experiments.bench import machine, picture, plan, report
from experiments.bench.case import Settings
from experiments.bench.report import Row
from experiments.bench.workers import usable_cores
from jaxnn.cli import Positive, check, expect, folder_of, run, unused
from jaxnn.files import replacing

Name = Literal["cifar10", "lenet", "layers", "recurrent", "epoch", "ensembles", "start"]


@dataclasses.dataclass
class Options:
    """The workloads, the time and the threads."""

    only: tuple[Name, ...] = ("cifar10", "lenet", "layers", "recurrent", "epoch", "ensembles", "start")
    """The workloads, in this order."""
    quick: bool = False
    """Measure a few cases of each workload, in few rounds."""
    minutes: Positive | None = None
    """Minutes for all of it: 20 by default, 3 with --quick. More time gives more rounds."""
    threads: tuple[int, ...] | None = None
    """Numbers of threads, measured one after another: all cores and 1 by default, all cores with --quick."""
    also: Path | None = None
    """The program of another Python that has jax, flax and optax: measure jaxnn also with its version of JAX."""
    data_dir: Path | None = None
    """A folder with the real CIFAR-10 pictures for the workload `epoch`; by default the pictures are random."""
    run: Path = Path("runs/bench")
    """The run folder; if it exists, a number is added to the name."""


def main(options: Options) -> None:
    """Measures the cases one after another, and prints and saves the results after each."""
    check(options)
    cores = usable_cores()
    threads = options.threads or tuple(dict.fromkeys([len(cores)] if options.quick else [len(cores), 1]))
    minutes = options.minutes if options.minutes is not None else 3.0 if options.quick else 20.0
    for n in threads:
        expect("threads", n, 1 <= n <= len(cores), f"1 to {len(cores)}, the cores of this process")
    pictures = options.data_dir
    expect("data_dir", pictures, pictures is None or pictures.is_dir(), "a folder with CIFAR-10 pictures")
    if "epoch" not in options.only:
        unused(options, "data_dir", because="without `epoch` in --only")
    other = None if options.also is None else plan.Other(options.also, machine.jax_of(options.also))
    folder = folder_of(options)
    print(f"{machine.processor()}, {len(cores)} cores; about {minutes:g} minutes\n\n{report.NOTES}", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch, open(folder / "libraries.log", "w", encoding="utf-8") as log:
        steps = plan.steps(options.only, threads, Settings(Path(scratch), options.quick, options.data_dir), other)
        try:
            for row in plan.measured(steps, cores, minutes * 60, log):
                rows.append(row)
                print(report.case_table(row.result), flush=True)
                for side, why in row.result.missing.items():
                    print(f"not measured: {side}: {why}")
                save(rows, folder / "bench.json")
        finally:
            picture.draw(rows, folder / "bench.png")
    print(f"\n{report.summary_table(rows)}\n\nthe results are in {folder.path}")


def save(rows: Sequence[Row], path: Path) -> None:
    """Replaces the file by the results so far."""
    content = {
        "machine": {"processor": machine.processor(), "cores": len(usable_cores()), "malloc": machine.malloc()},
        "versions": machine.versions(),
        "results": [report.record(row) for row in rows],
    }
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main, Options, __doc__)
