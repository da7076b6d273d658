"""The order of the measurements, and the time for each."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from experiments.bench.case import OURS, Case, Settings
from experiments.bench.measure import measure
from experiments.bench.report import Row
from experiments.bench.workers import Workers
from experiments.bench.workloads import WORKLOADS

OVERTIME = 1.15
"""Factor by which the benchmark may exceed its time, with the fewest rounds, before it leaves cases out."""


class Other(NamedTuple):
    """The program of another Python, and its version of JAX."""

    python: Path
    jax: str


class Step(NamedTuple):
    """A case to measure, and its share of the time relative to other steps."""

    workload: str
    threads: int
    case: Case
    share: float


def steps(names: Sequence[str], threads: Sequence[int], settings: Settings, other: Other | None = None) -> list[Step]:
    """Lists the cases of these workloads for each number of threads; the other Python runs the sides of jaxnn too."""
    found = []
    for n in threads:
        for name in names:
            cases = [_with_other(case, other) for case in WORKLOADS[name].cases(settings)]
            whole = sum(case.weight for case in cases)
            found += [Step(name, n, case, WORKLOADS[name].share * case.weight / whole) for case in cases]
    return found


def _with_other(case: Case, other: Other | None) -> Case:
    if other is None:
        return case
    ours = [side for side in case.sides if side.library == OURS]
    again = [
        dataclasses.replace(side, name=f"{side.name}, JAX {other.jax}", worker=f"{side.worker}@{other.python}")
        for side in ours
    ]
    return dataclasses.replace(case, sides=(*ours, *again, *(side for side in case.sides if side.library != OURS)))


def measured(plan: Sequence[Step], cores: Sequence[int], seconds: float, log: TextIO) -> Iterator[Row]:
    """Measures the steps one after another and prints the progress.

    Args:
        plan: The steps; those with the same number of threads follow each other.
        cores: The cores that may be used. With `n` threads, the workers use the last `n` of them.
        seconds: Seconds for all of it. Each step gets its share of the time that is left when it begins.
        log: File for the output of the libraries.

    Yields:
        The result of each step.
    """
    start = time.perf_counter()
    workers: Workers | None = None
    try:
        for i, step in enumerate(plan):
            past = time.perf_counter() - start
            cores_used = "1 core" if step.threads == 1 else f"{step.threads} cores"
            print(f"\n[{i + 1}/{len(plan)}, {past:.0f} s] {step.workload}, {cores_used}: {step.case.title}", flush=True)
            if past > seconds * OVERTIME:
                print("  left out: the time is up; --minutes gives more")
                continue
            if workers is None or len(workers.cores) != step.threads:
                if workers is not None:
                    workers.close()
                workers = Workers(cores[-step.threads :], log)
            allotted = max(seconds - past, 0.0) * step.share / sum(each.share for each in plan[i:])
            result = measure(step.case, workers, allotted, lambda text: print(f" {text}", end="", flush=True))
            print()
            workers.clear()
            yield Row(step.workload, step.threads, result)
    finally:
        if workers is not None:
            workers.close()
