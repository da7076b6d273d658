"""The order of the measurements, and how long each may take."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from experiments.bench.case import OURS, Case, Settings
from experiments.bench.measure import measure
from experiments.bench.report import Row
from experiments.bench.workers import Workers, at
from experiments.bench.workloads import WORKLOADS

OVERTIME = 1.15
"""How far beyond its time the benchmark goes, with the fewest rounds, before it leaves cases out."""


class Other(NamedTuple):
    """Another Python and the version of JAX that it has."""

    python: Path
    jax: str


class Step(NamedTuple):
    """A case to measure and its share of the time."""

    workload: str
    threads: int
    case: Case
    share: float


def steps(names: Sequence[str], threads: Sequence[int], settings: Settings, other: Other | None = None) -> list[Step]:
    """All cases of these workloads, once for each number of threads; our sides run under the other Python as well."""
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
        dataclasses.replace(side, name=f"{side.name}, JAX {other.jax}", worker=at(side.worker, other.python))
        for side in ours
    ]
    return dataclasses.replace(case, sides=(*ours, *again, *(side for side in case.sides if side.library != OURS)))


def measured(plan: Sequence[Step], cores: Sequence[int], seconds: float, log: TextIO) -> Iterator[Row]:
    """Measures step after step and says so; each gets its share of the time that is left when its turn comes.

    Args:
      plan: what to measure; steps of the same number of threads stand together.
      cores: those that may be used; fewer threads are bound to as many of the last ones.
      seconds: for all of it. What takes longer than its share takes from what follows.
      log: where everything goes that libraries print.

    Yields:
      What came of each step.
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
