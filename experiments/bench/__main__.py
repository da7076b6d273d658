"""Measures jaxnn beside its peers on the same work, on the processor: tables, bench.json and bench.png.

    make bench                                 # on all cores, then on one: what fits into 20 minutes
    make bench BENCH='--minutes 70'            # all of it, on two cores
    python -m experiments.bench --quick        # a little of everything, on all cores; about 3 minutes
    python -m experiments.bench --only layers recurrent --threads 1
    python -m experiments.bench --also ~/newer/bin/python  # jaxnn on that Python's version of JAX as well

Peers are PyTorch, Keras 3 on TensorFlow and on JAX, Flax NNX, Haiku and Equinox: `pip install '.[bench]'`, and PyTorch
by its name. One that is not installed is said, not required. Libraries work in processes of their own, whose threads
are set before they start. Sides are asked in turn, so nothing runs beside another, and a machine whose speed drifts
treats all alike. Machines are noisy: trust the ratios of one run, not single times.
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
    """What to measure."""

    only: tuple[Name, ...] = ("cifar10", "lenet", "layers", "recurrent", "epoch", "ensembles", "start")
    """Workloads, in this order."""
    quick: bool = False
    """A few cases of each workload, few rounds."""
    minutes: Positive | None = None
    """How long it may take: 20 by default, 3 with --quick. More time is more rounds."""
    threads: tuple[int, ...] | None = None
    """Numbers of threads, one after the other: all cores and 1 by default, all cores with --quick."""
    also: Path | None = None
    """Another Python that can import jax, flax and optax: jaxnn is measured there as well, on its version of JAX."""
    data_dir: Path | None = None
    """A folder with the real CIFAR-10 pictures for the epoch; random ones of their shape without."""
    run: Path = Path("runs/bench")
    """The run folder; a number is added where it exists, nothing is overwritten."""


def main(options: Options) -> None:
    """Measures every case in turn, prints its table, and saves what there is after each."""
    check(options)
    cores = usable_cores()
    threads = options.threads or tuple(dict.fromkeys([len(cores)] if options.quick else [len(cores), 1]))
    minutes = options.minutes if options.minutes is not None else 3.0 if options.quick else 20.0
    for n in threads:
        expect("threads", n, 1 <= n <= len(cores), f"1 to {len(cores)}, the cores of this process")
    pictures = options.data_dir
    expect("data_dir", pictures, pictures is None or pictures.is_dir(), "a folder with CIFAR-10 pictures")
    if "epoch" not in options.only:
        unused(options, "data_dir", because="without the epoch in --only, which alone reads it")
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
    print(f"\n{report.summary_table(rows)}\n\nnumbers and picture are in {folder.path}")


def save(rows: Sequence[Row], path: Path) -> None:
    """Writes what was measured so far, whole or not at all."""
    content = {
        "machine": {"processor": machine.processor(), "cores": len(usable_cores()), "malloc": machine.malloc()},
        "versions": machine.versions(),
        "results": [report.record(row) for row in rows],
    }
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main, Options, __doc__)
