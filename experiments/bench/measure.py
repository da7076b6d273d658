"""Measurement of a case: the workers build every side and warm it up; then the sides are timed in turn."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import NamedTuple

from experiments.bench.case import Case, Side
from experiments.bench.timing import LEAST, MOST, SLOW, Timing, alternate, summary
from experiments.bench.workers import Refusal, Workers

GEMM_SIZE = 1024
GEMM = Side("GEMM", ".gemm:product")
FLOOR = Case("a product of two matrices", (GEMM,), {"size": GEMM_SIZE})
"""The work whose speed is the floor that other times are compared with."""
ROUND = 0.02
"""Seconds that a side works in a round, at least: a shorter call is repeated."""

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """Result of a case.

    Attributes:
        case: The case.
        timings: The timing of each side that did the work.
        missing: The reason why each other side did not.
        flops_per_second: Speed of a product of two matrices in the same rounds; None without a floor.
    """

    case: Case
    timings: dict[str, Timing]
    missing: dict[str, str]
    flops_per_second: float | None


def measure(case: Case, workers: Workers, seconds: float, say: Say = lambda _: None) -> Result:
    """Times all sides of a case.

    Args:
        case: The case.
        workers: The processes that do the work.
        seconds: Seconds for all of it. `LEAST` rounds may take longer.
        say: Reports the progress.

    Returns:
        The timings, and the reasons why sides have none.
    """
    ends = time.perf_counter() + seconds
    if case.fresh:
        return _starts(case, workers, ends, say)
    sides = {side.name: side for side in (*case.sides, *([GEMM] if case.flops else []))}
    built: dict[str, _Built] = {}
    missing: dict[str, str] = {}
    for name, side in sides.items():
        say(name)
        try:
            built[name] = _build(FLOOR if side is GEMM else case, side, workers)
        except Refusal as why:
            missing[name] = str(why)
    fastest = min((each.later for name, each in built.items() if name != GEMM.name), default=math.inf)
    fast = [name for name, each in built.items() if each.later <= SLOW * fastest or name == GEMM.name]
    # The only round of a slow side is its second call. Without warming up, the first call is a round of every side.
    rounds = {name: [each.later] if name not in fast or not case.warm_up else [] for name, each in built.items()}
    least, longest = (LEAST, 0.0) if case.warm_up else (0, sum(each.later for each in built.values()))
    say("rounds")
    for order in alternate(fast, ends, least, MOST, longest):
        for name in [name for name in order if name not in missing]:
            calls = max(1, math.ceil(ROUND / max(built[name].later, 1e-6)))
            try:
                rounds[name].append(workers.ask(sides[name].worker, do="run", side=name, calls=calls)["seconds"])
            except Refusal as why:
                missing[name] = str(why)
        say(".")
    timings = {
        name: summary(rounds[name], each.first, 1 if name == GEMM.name else case.units, each.peak)
        for name, each in built.items()
        if name not in missing
    }
    gemm = timings.pop(GEMM.name, None)
    return Result(case, timings, missing, 2 * GEMM_SIZE**3 / gemm.median if gemm else None)


class _Built(NamedTuple):
    """A side that is ready: seconds of its first call and of a later one, and the peak memory of the later one."""

    first: float
    later: float
    peak: int | None


def _build(case: Case, side: Side, workers: Workers) -> _Built:
    """Builds a side and warms it up."""
    options = {**case.options, **side.options}
    ran = workers.ask(
        side.worker, do="build", side=side.name, builder=side.builder, options=options, memory=not case.warm_up
    )
    first = ran["seconds"]
    if case.warm_up:
        ran = workers.ask(side.worker, do="run", side=side.name, calls=1, memory=True)
    return _Built(first, ran["seconds"], ran["peak"])


def _starts(case: Case, workers: Workers, ends: float, say: Say) -> Result:
    """Times the sides of a case whose every call starts a process, from that start to the first result."""
    rounds: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    warm_ups = int(case.warm_up)
    for done in range(warm_ups + LEAST):
        if done > warm_ups and time.perf_counter() > ends:
            break
        for side in case.sides:
            # The first round fills the system's caches of files, and the caches of compiled programs.
            if side.name in missing:
                continue
            say(side.name)
            began = time.perf_counter()
            worker = workers.start(side.worker, side.environment)
            try:
                worker.ask(do="build", side=side.name, builder=side.builder, options={**case.options, **side.options})
                rounds.setdefault(side.name, []).append(time.perf_counter() - began)
            except Refusal as why:
                missing[side.name] = str(why)
            finally:
                worker.close()
    timings = {name: summary(taken[warm_ups:]) for name, taken in rounds.items() if name not in missing}
    return Result(case, timings, missing, None)
