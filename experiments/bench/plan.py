"""The order of the measurements, and how long each may take."""

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO

from experiments.bench.case import Case, Settings
from experiments.bench.measure import measure
from experiments.bench.report import Row
from experiments.bench.workers import Workers
from experiments.bench.workloads import WORKLOADS

OVERTIME = 1.15
"""How far beyond its time the benchmark goes, with the fewest rounds, before it leaves cases out."""


class Step(NamedTuple):
    """A case to measure and its share of the time."""

    workload: str
    threads: int
    case: Case
    share: float


def steps(names: Sequence[str], threads: Sequence[int], settings: Settings) -> list[Step]:
    """All cases of these workloads, once for each number of threads."""
    found = []
    for n in threads:
        for name in names:
            cases = WORKLOADS[name].cases(settings)
            whole = sum(case.weight for case in cases)
            found += [Step(name, n, case, WORKLOADS[name].share * case.weight / whole) for case in cases]
    return found


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
